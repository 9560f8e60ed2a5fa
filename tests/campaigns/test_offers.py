"""Offers: every kind says its value, codes are unguessable and steady, costs are expected costs."""

from __future__ import annotations

import string
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.codes import ALPHABET, is_code, make_code
from campaigns.errors import CampaignError
from campaigns.offer_terms import Terms, check_offers
from campaigns.offers import (
    NOTHING,
    POOL_PLACEHOLDER,
    Offer,
    expected_cost,
    find_promise,
    make_offer,
    offer_code,
    offer_ends_at,
    offer_facts,
    pick_text,
    pools_of,
    promises_of,
    show_date,
)
from campaigns.tiers import TierRule
from campaigns.units import parse_money
from campaigns.validation import validate
from campaigns.words import Slug

SECRET = "a secret of the tests, long enough"
AS_OF = datetime(2026, 3, 1, 9, tzinfo=UTC)
COST = {"redeemed": "8%", "value": "5 EUR"}


def offer(kind: str, **terms: Any) -> Offer:
    raw = {"x": {"kind": kind, "text": "a promise", **({} if kind == "none" else {"cost": COST}), **terms}}
    found, issues = validate(dict[Slug, Terms], raw)
    assert issues == []
    assert check_offers(raw) == []
    return Offer("x", found["x"])


def messages(raw: Any) -> list[str]:
    issues = [*validate(dict[Slug, Terms], raw)[1], *check_offers(raw)]
    return [f"{'.'.join(map(str, issue.location))}: {issue.message}" for issue in issues]


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (offer("percent_off", percent="12.5%"), "12.5%"),
        (offer("amount_off", amount="5 EUR"), "5 EUR"),
        (offer("free_shipping"), ""),
        (offer("points", multiplier=2.0), "2x"),
        (offer("points", multiplier=1.5), "1.5x"),
        (offer("points", bonus=500), "500"),
        (offer("gift", item="a mug"), "a mug"),
        (offer("bundle", items=["a mug", "a spoon"]), "a mug + a spoon"),
        (offer("upgrade", to="express delivery"), "express delivery"),
        (offer("none"), ""),
    ],
)
def test_every_kind_of_offer_parses_and_says_its_value(made: Offer, value: str) -> None:
    assert made.value == value
    assert offer_facts(made, locale=None, as_of=AS_OF) == {"name": "x", "text": "a promise", "value": value}


def test_facts_hold_code_and_last_day_only_where_the_offer_has_them() -> None:
    made = offer("percent_off", percent="10%", valid_for="14 days", code={"kind": "shared", "value": "BACK10"})
    code = offer_code(made, secret=SECRET, experiment_id="e", customer_id="c")
    assert offer_facts(made, locale="zh-CN", as_of=AS_OF, code=code) == {
        "name": "x",
        "text": "a promise",
        "value": "10%",
        "code": "BACK10",
        "expires_on": "2026年3月15日",
    }
    assert offer_ends_at(made, as_of=AS_OF) == AS_OF + timedelta(days=14)
    assert offer_ends_at(offer("none"), as_of=AS_OF) is None
    assert offer_code(offer("none"), secret="", experiment_id="e", customer_id="c") is None


def test_the_expected_cost_is_the_share_redeemed_times_its_value() -> None:
    made = offer("percent_off", percent="10%")
    assert expected_cost(made) == parse_money("0.40 EUR")
    assert expected_cost(made, customers=1000).amount == 400
    assert expected_cost(offer("none")) == NOTHING
    assert expected_cost(offer("none", cost=COST), customers=10) == parse_money("4 EUR")


def test_a_generated_code_is_the_same_in_every_reminder_and_another_for_everybody_else() -> None:
    made = offer("percent_off", percent="10%", code={"kind": "generated", "prefix": "WB-"})

    def code(experiment_id: str = "e:1", customer_id: str = "c1", secret: str = SECRET) -> str:
        made_code = offer_code(made, secret=secret, experiment_id=experiment_id, customer_id=customer_id)
        assert made_code is not None
        return made_code

    assert code() == code()
    assert code().startswith("WB-")
    assert len(code()) == len("WB-") + 10 + 1
    others = {code(experiment_id="e:2"), code(customer_id="c2"), code(secret=SECRET + "!")}
    assert code() not in others
    assert len(others) == 3


def test_the_borders_between_experiment_and_customer_are_part_of_the_code() -> None:
    assert make_code(SECRET, "o", "a", "bc") != make_code(SECRET, "o", "ab", "c")


def test_codes_have_no_look_alikes_and_do_not_repeat() -> None:
    codes = {make_code(SECRET, "o", "e", str(i)) for i in range(5000)}
    assert len(codes) == 5000
    used = set("".join(codes))
    assert used == set(ALPHABET) == set(string.ascii_uppercase + string.digits) - set("01OI")


def test_every_symbol_is_equally_likely_in_every_place() -> None:
    codes = [make_code(SECRET, "o", "e", str(i), length=8) for i in range(6400)]
    for place in range(9):
        counts = [sum(code[place] == symbol for code in codes) for symbol in ALPHABET]
        assert 140 <= min(counts) <= max(counts) <= 265  # 200 expected, sd 14: about 4.5 sd


def test_a_short_secret_makes_no_codes() -> None:
    with pytest.raises(CampaignError, match="the secret for offer codes has 5 characters; set one of at least 16"):
        make_code("short", "o", "e", "c")


@given(customer=st.text(max_size=8), place=st.integers(0, 10), symbol=st.sampled_from(ALPHABET))
def test_one_wrong_symbol_is_noticed(customer: str, place: int, symbol: str) -> None:
    code = make_code(SECRET, "o", "e", customer)
    typed = code[:place] + symbol + code[place + 1 :]
    assert is_code(code)
    assert is_code(typed) == (typed == code)


@given(customer=st.text(max_size=8), first=st.integers(0, 10), second=st.integers(0, 10))
def test_two_swapped_symbols_are_noticed(customer: str, first: int, second: int) -> None:
    code = list(make_code(SECRET, "o", "e", customer))
    typed = code.copy()
    typed[first], typed[second] = typed[second], typed[first]
    assert is_code("".join(typed)) == (typed == code)


def test_a_code_may_be_typed_in_lower_case_with_spaces_and_dashes() -> None:
    code = make_code(SECRET, "o", "e", "c", prefix="WB-")
    assert is_code(f" {code[:6].lower()} {code[6:]} ", prefix="WB-")
    assert not is_code(code[:-1], prefix="WB-")
    assert not is_code("WB-0000000000O", prefix="WB-")


def test_the_text_of_the_nearest_locale_is_picked() -> None:
    texts = {"en": "ten", "zh": "十", "zh-TW": "拾"}
    assert [pick_text(texts, locale) for locale in ("en-GB", "zh_CN", "zh-TW", "ZH-tw", "fr", None)] == [
        "ten", "十", "拾", "拾", "ten", "ten",
    ]  # fmt: skip
    assert pick_text({"": "any", "de": "zehn"}, "fr") == "any"


def test_dates_are_shown_as_their_readers_write_them() -> None:
    day = date(2026, 3, 9)
    assert [show_date(day, locale) for locale in (None, "en", "en-GB", "en_US", "zh-CN", "ja", "de")] == [
        "9 March 2026", "9 March 2026", "9 March 2026", "March 9, 2026", "2026年3月9日", "2026年3月9日", "2026-03-09",
    ]  # fmt: skip


PERCENT = {"kind": "percent_off", "text": "t", "percent": "10%", "cost": COST}


CUP = {"kind": "gift", "item": "a cup", "text": "a cup", "cost": COST}


def tiered(by: str, least: dict[str, str] | None = None, **tiers: object) -> dict[str, Any]:
    return {"kind": "tiered", "by": by, "tiers": tiers} | ({} if least is None else {"least": least})


def test_the_promises_of_a_tiered_offer_bear_the_name_of_their_tier_and_end_together() -> None:
    terms = tiered("value_tier", gold={**CUP, "text": "two cups"}, silver=CUP, member=CUP) | {"valid_for": "14 days"}
    read, issues = validate(dict[Slug, Terms], {"x": terms})
    assert issues == []
    assert read is not None
    made = make_offer("x", read["x"])
    assert [promise.name for promise in promises_of(made)] == ["x/gold", "x/silver", "x/member"]
    gold = find_promise({"x": made}, "x/gold")
    assert gold is not None
    assert find_promise({"x": made}, "x") is find_promise({"x": made}, "x/bronze") is None
    assert offer_facts(gold, locale="en", as_of=AS_OF) == {
        "name": "x", "tier": "gold", "text": "two cups", "value": "a cup", "expires_on": show_date(AS_OF.date() + timedelta(days=14), "en"),
    }  # fmt: skip


def test_the_earlier_of_the_ends_of_offer_and_code_is_told() -> None:
    made = offer("percent_off", percent="10%", valid_for="14 days")
    early, late = AS_OF + timedelta(days=2), AS_OF + timedelta(days=20)
    assert offer_facts(made, locale="fr", as_of=AS_OF, code_ends_at=early)["expires_on"] == early.date().isoformat()
    ends = (AS_OF + timedelta(days=14)).date().isoformat()
    assert offer_facts(made, locale="fr", as_of=AS_OF, code_ends_at=late)["expires_on"] == ends


def test_a_preview_of_a_code_out_of_a_pool_is_a_placeholder() -> None:
    made = offer("percent_off", percent="10%", code={"kind": "pool", "pool": "spring"})
    assert offer_code(made, secret="", experiment_id="e", customer_id="c") == POOL_PLACEHOLDER
    assert pools_of([made, offer("none")]) == {"spring"}


@pytest.mark.parametrize(
    ("amount", "tier"),
    [(500.0, "big"), (499.99, "middle"), (100.0, "middle"), (99.0, "small"), (None, "small"), (-5.0, "small")],
)
def test_an_amount_falls_into_the_highest_tier_that_begins_at_or_below_it(amount: float | None, tier: str) -> None:
    rule = TierRule(
        "spend", (("big", 500.0), ("middle", 100.0), ("small", 0.0)), {"big": 3.0, "middle": 2.0, "small": 1.0}
    )
    found = rule.tiers_of(pd.DataFrame({"spend": [amount]}))
    assert found.tolist() == [tier]
    assert rule.costs_of(found).tolist() == [{"big": 3.0, "middle": 2.0, "small": 1.0}[tier]]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({**PERCENT, "percnt": 3}, 'x.percnt: unknown key (did you mean "percent"?)'),
        ({**PERCENT, "amount": "5 EUR"}, "x.amount: unknown key"),
        ({**PERCENT, "percent": "0%"}, 'x.percent: expected a share above 0, got "0%"'),
        (
            {**PERCENT, "kind": "percent"},
            "x.kind: expected percent_off, amount_off, free_shipping, points, gift, bundle,",
        ),
        ({"text": "t"}, 'x: the key "kind" is missing'),
        (tiered("value_tier", gold=CUP, silver=CUP), "x.tiers: by value_tier the tiers are gold, silver, member"),
        (
            tiered("value_tier", {"gold": "1 EUR"}, gold=CUP, silver=CUP, member=CUP),
            "x.least: goes with a feature of money, not with value_tier",
        ),
        (tiered("spend", big=CUP, small=CUP), "x: name the amount from which each tier begins: least: {big: ..."),
        (
            tiered("spend", {"big": "9 EUR", "small": "1 EUR"}, big=CUP, small=CUP),
            "x.least: one tier must begin at 0, or some customers would be promised nothing",
        ),
        (
            tiered("spend", {"big": "0 EUR", "small": "0 EUR"}, big=CUP, small=CUP),
            "x.least: two tiers begin at the same amount",
        ),
        (
            tiered("spend", {"big": "9 EUR", "small": "0 USD"}, big=CUP, small=CUP),
            "x.least: the amounts are in several currencies",
        ),
        (
            tiered("spend", {"big": "9 EUR", "small": "0 EUR"}, big=CUP, small={**CUP, "valid_for": "3 days"}),
            "x.tiers.small.valid_for: stands beside tiers, once for all of them",
        ),
        (
            tiered("spend", {"big": "9 EUR", "small": "0 EUR"}, big=CUP, small={**CUP, "kind": "tiered"}),
            "x.tiers.small.kind: expected percent_off",
        ),
        (
            {"kind": "points", "text": "t", "cost": COST, "multiplier": 2, "earned": "message"},
            "x.earned: a multiplier is of a purchase",
        ),
        (
            {
                "kind": "points",
                "text": "t",
                "cost": COST,
                "bonus": 5,
                "earned": "message",
                "code": {"kind": "shared", "value": "AB"},
            },
            "x.code: a bonus that is earned by the message needs no code",
        ),
        ({**PERCENT, "code": {"kind": "pool"}}, 'x.code: the key "pool" is missing'),
        ({**PERCENT, "code": {"kind": "pool", "pool": "A b"}}, "x.code.pool: expected lower-case letters"),
        ({**PERCENT, "code": "BACK10"}, 'x.code: expected a mapping of keys and values, got "BACK10"'),
        (
            {**PERCENT, "code": {"kind": "shared", "value": "back 10"}},
            "x.code.value: expected a code of capital letters",
        ),
        ({**PERCENT, "code": {"kind": "shared", "valu": "B"}}, 'x.code.valu: unknown key (did you mean "value"?)'),
        ({**PERCENT, "code": {"kind": "generated", "prefix": "wb"}}, "x.code.prefix: expected a prefix of up to 10"),
        ({**PERCENT, "code": {"kind": "generated", "length": 4}}, "x.code.length: expected a number of at least 8"),
        ({**PERCENT, "text": {}}, "x.text: expected at least one text"),
        ({**PERCENT, "text": {"english": "t"}}, 'x.text: expected locales such as en, zh or zh-CN, got "english"'),
        ({**PERCENT, "text": {"en": " "}}, "x.text: expected a text, or one text per locale"),
        ({**PERCENT, "text": 3}, "x.text: expected a text, or one text per locale, got 3"),
        ({**PERCENT, "cost": {"redeemed": 8, "value": "5"}}, "x.cost.redeemed: expected a share"),
        ({"kind": "gift", "text": "t", "item": "i"}, 'x: the key "cost" is missing'),
        ({"kind": "points", "text": "t", "cost": COST}, "x: give exactly one of multiplier and bonus"),
        ({"kind": "amount_off", "text": "t", "amount": "0 EUR", "cost": COST}, "x.amount: expected an amount above 0"),
        ({"kind": "bundle", "text": "t", "items": ["a"], "cost": COST}, "x.items: expected at least 2 of them"),
        (3, "x: expected a mapping of keys and values, got 3"),
    ],
)
def test_a_mistake_in_an_offer_is_named(terms: object, message: str) -> None:
    assert any(found.startswith(message) for found in messages({"x": terms}))


def test_an_offer_s_name_is_a_name() -> None:
    assert messages({"Ten Percent": PERCENT})[0].startswith("Ten Percent: expected lower-case letters")


def test_offers_that_are_no_mapping_at_all_are_refused() -> None:
    assert messages([]) == [": expected a mapping of keys and values, got a list"]
