"""Offers: every kind says its value, codes are unguessable and steady, costs are expected costs."""

from __future__ import annotations

import string
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.codes import ALPHABET, is_code, make_code
from campaigns.errors import CampaignError
from campaigns.offer_terms import Terms, check_offers
from campaigns.offers import (
    NOTHING,
    Offer,
    expected_cost,
    offer_code,
    offer_ends_at,
    offer_facts,
    pick_text,
    show_date,
)
from campaigns.units import parse_money
from campaigns.unsupported import IN_OFFERS
from campaigns.validation import validate
from campaigns.words import Slug

SECRET = "a secret of the tests, long enough"
AS_OF = datetime(2026, 3, 1, 9, tzinfo=UTC)
COST = {"redeemed": "8%", "value": "5 EUR"}


def offer(kind: str, **terms: Any) -> Offer:
    raw = {"x": {"kind": kind, "text": "a promise", **({} if kind == "none" else {"cost": COST}), **terms}}
    found, issues = validate(dict[Slug, Terms], raw, IN_OFFERS)
    assert issues == []
    assert check_offers(raw) == []
    return Offer("x", found["x"])


def messages(raw: Any) -> list[str]:
    issues = [*validate(dict[Slug, Terms], raw, IN_OFFERS)[1], *check_offers(raw)]
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
        ({**PERCENT, "kind": "tiered"}, 'x.kind: "tiered" is not supported yet; write one offer per tier'),
        (
            {**PERCENT, "code": {"kind": "pool"}},
            'x.code.kind: "pool" is not supported yet; use a shared or a generated',
        ),
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
