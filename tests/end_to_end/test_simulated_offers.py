"""A campaign with an arm for each kind of offer, end to end over the simulated providers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

import pytest

from campaigns.codes import is_code
from flows.steps.import_codes import import_code_file
from flows.steps.measure_experiment import measure_experiment
from flows.steps.post_points import balance_of, post_points
from tests.end_to_end.simulated_world import (
    A_MUG,
    COST,
    DAY,
    MONDAY,
    ORDERS,
    PEOPLE,
    UNSUBSCRIBE,
    MakeWorld,
    Story,
    World,
    bought_before,
    campaign,
    people,
    phone,
)

pytestmark = pytest.mark.slow

SHARED, GENERATED, POOL = (
    "code: {kind: shared, value: SPRING}",
    "code: {kind: generated, prefix: GEN}",
    "code: {kind: pool, pool: spring}",
)


class Kind(NamedTuple):
    """An offer, what a message says it is worth, its code, and what one redeeming order of 30.00 costs."""

    terms: str
    value: str
    code: str | None
    each: float = 4.0


KINDS: Mapping[str, Kind] = {
    "percent": Kind(f"kind: percent_off, percent: 10%, {SHARED}, {COST}", "10%", "shared", 30.0 / 9),
    "amount": Kind(f"kind: amount_off, amount: 5 EUR, {GENERATED}, {COST}", "5 EUR", "generated", 5.0),
    "shipping": Kind(f"kind: free_shipping, {POOL}, {COST}", "", "pool"),
    "multiplier": Kind(f"kind: points, multiplier: 3, {COST}", "3x", None),
    "bonus": Kind(f"kind: points, bonus: 500, {SHARED}, {COST}", "500", "shared"),
    "gift": Kind(A_MUG, "a mug", "generated"),
    "bundle": Kind(f"kind: bundle, items: [tea, a mug], {POOL}, {COST}", "tea + a mug", "pool"),
    "upgrade": Kind(f"kind: upgrade, to: express, {SHARED}, {COST}", "express", "shared"),
    "none": Kind("kind: none", "", None, 0.0),
}
TIERS: Mapping[str, Kind] = {
    "large": Kind(f"kind: gift, item: a pot, {POOL}, cost: {{redeemed: 20%, value: 6 EUR}}", "a pot", "pool", 6.0),
    "small": Kind(f"kind: percent_off, percent: 5%, {SHARED}, {COST}", "5%", "shared", 30.0 / 19),
}
OFFERS = "".join(
    f"{name}: {{{kind.terms}, text: {{en: promise of {name}, zh: 优惠 {name}}}, valid_for: 14 days}}\n"
    for name, kind in KINDS.items()
) + "tiered:\n  kind: tiered\n  by: spend\n  least: {large: 100 EUR, small: 0 EUR}\n  valid_for: 14 days\n  tiers:\n" + (
    "".join(f"    {name}: {{{t.terms}, text: {{en: promise of {name}, zh: 优惠 {name}}}}}\n" for name, t in TIERS.items())
)  # fmt: skip
ARMS = (*KINDS, "tiered")
WORDS = {
    # template -> what it may say of an offer's tier and code: lint refuses what the arm's offer never has
    "coded": "-|{{ offer.code }}",
    "plain": "-|-",
    "tiers": "{{ offer.tier }}|{{ offer.code }}",
}
TEMPLATE = {arm: "coded" if kind.code else "plain" for arm, kind in KINDS.items()} | {"tiered": "tiers"}
SAYS = {
    name: f"[{{{{ offer.value }}}}|{{{{ offer.text }}}}|{w}|{{{{ offer.expires_on }}}}]" for name, w in WORDS.items()
}
LAST_DAY = {"en-GB": "16 March 2026", "en-US": "March 16, 2026", "zh-CN": "2026年3月16日"}
OFFER_STORY = Story(
    book={
        "offers.yaml": OFFERS,
        "gifts.yaml": campaign(
            "gifts",
            "segment: orders >= 1",
            "".join(
                f"  {arm}:\n    weight: 9%\n    offer: {arm}\n    steps:\n"
                f"      - {{channel: sms, template: {TEMPLATE[arm]}}}\n"
                f"      - {{channel: email, template: {TEMPLATE[arm]}, after: 3 days}}\n"
                for arm in ARMS
            ),
        ),
    },
    templates={
        file: text
        for name, says in SAYS.items()
        for file, text in (
            (f"sms/{name}.txt.j2", f"{{{{ company.name }}}}: {says} Reply STOP to opt out"),
            (f"sms/{name}.zh.txt.j2", f"【{{{{ company.name }}}}】{says} 拒收请回复R"),
            (f"email/{name}.subject.j2", "For you"),
            (f"email/{name}.zh.subject.j2", "给您"),
            (f"email/{name}.html.j2", f"<p>{says}</p>{UNSUBSCRIBE}"),
            (f"email/{name}.zh.html.j2", f"<p>{says}</p>{UNSUBSCRIBE}"),
        )
    },
    content={"languages": ["en", "zh"]},
)
LOCALES = ("en-GB", "zh-CN", "en-US")
N_OFFERS = 200


class Offered(NamedTuple):
    """What came of the campaign with an arm for each offer."""

    world: World
    arms: Mapping[str, list[str]]
    codes: Mapping[str, str | None]
    buyers: Mapping[str, list[str]]
    offers: Mapping[str, Mapping[str, Any]]
    leaks: Mapping[str, int]


@pytest.fixture(scope="module")
def offered(world: MakeWorld) -> Offered:
    """An arm for each offer kind: a text on Monday, a mail as a reminder, receipts, orders with the codes, measured."""
    w = world("offers", OFFER_STORY)
    w.load("customers", PEOPLE, people("O", N_OFFERS, locale=LOCALES))
    names = [f"O{n:03d}" for n in range(N_OFFERS)]
    big = [f"BIG{c},{c},2025-12-21T12:00:00+00:00,200.00,100.00," for c in names[::2]]
    w.load("orders", ORDERS, [*bought_before(names), *big])
    (w.root / "codes.csv").write_text("".join(f"POOL{n:04d}\n" for n in range(N_OFFERS)), encoding="utf-8")
    last = date(2026, 6, 1)
    import_code_file(w.ws, "spring", w.root / "codes.csv", expires_on=last, now=MONDAY - DAY, actor="ann")
    w.run("gifts")
    for days in (0, 3):
        w.go_to(MONDAY + days * DAY)
        w.deliver()
    w.report_sms(w.accepted("gifts", "1").values(), "delivered")
    w.report_mail(w.accepted("gifts", "2").values(), "delivered")
    arms = w.arms("gifts")
    codes = {c: w.code(c, "gifts") for arm in ARMS for c in arms[arm]}
    buyers = {arm: arms[arm][:5] for arm in ARMS}
    w.go_to(MONDAY + 5 * DAY)
    w.buy({c: codes[c] for members in buyers.values() for c in members} | {arms["control"][0]: "SPRING"})
    post_points(w.ws, now=MONDAY + 6 * DAY)
    w.go_to(MONDAY + 34 * DAY)
    told = measure_experiment(w.ws, "gifts", now=w.time.now).to_json()["redemptions"]
    return Offered(w, arms, codes, buyers, {row["offer"]: row for row in told["offers"]}, told["leaks"])


def said(text: str) -> list[str]:
    """Value, text, tier, code and last day as a message says them."""
    found = re.search(r"\[(.*?)\]", text)
    assert found is not None
    return found[1].split("|")


def locale_of(customer: str) -> str:
    return LOCALES[int(customer[1:]) % len(LOCALES)]


def tier_of(customer: str) -> str:
    return "large" if int(customer[1:]) % 2 == 0 else "small"


@pytest.mark.parametrize("arm", ARMS)
def test_every_customer_of_an_offer_reads_its_promise_its_code_and_its_last_day_twice(
    offered: Offered, arm: str
) -> None:
    w, members = offered.world, offered.arms[arm]
    assert len(members) > 5
    for customer in members:
        name = tier_of(customer) if arm == "tiered" else arm
        kind = TIERS[name] if arm == "tiered" else KINDS[name]
        locale = locale_of(customer)
        text, mail = w.reached("gifts")[customer]
        assert (text.provider, text.recipient) == ("twilio", phone(customer))
        assert (mail.provider, mail.recipient) == ("sendgrid", f"{customer.lower()}@mail.example")
        words = f"优惠 {name}" if locale == "zh-CN" else f"promise of {name}"
        tier = name if arm == "tiered" else "-"
        expected = [kind.value, words, tier, offered.codes[customer] or "-", LAST_DAY[locale]]
        assert said(text.body) == said(w.read(mail)) == expected
        assert text.body.endswith("拒收请回复R" if locale == "zh-CN" else "Reply STOP to opt out")
        assert mail.body == ("给您" if locale == "zh-CN" else "For you")


def test_codes_are_of_their_kind_and_nobody_has_anothers(offered: Offered) -> None:
    own: list[str] = []
    for arm in ARMS:
        for customer in offered.arms[arm]:
            kind = TIERS[tier_of(customer)] if arm == "tiered" else KINDS[arm]
            code = offered.codes[customer]
            match kind.code:
                case None:
                    assert code is None
                case "shared":
                    assert code == "SPRING"
                case "generated":
                    assert code is not None
                    assert is_code(code, prefix="GEN")
                    own.append(code)
                case "pool":
                    assert code is not None
                    assert re.fullmatch(r"POOL\d{4}", code)
                    own.append(code)
    assert len(own) == len(set(own)) > 50


def test_control_gets_nothing_and_the_books_agree_with_what_the_provider_took(offered: Offered) -> None:
    w = offered.world
    assert offered.arms["control"]
    assert not set(w.reached("gifts")) & set(offered.arms["control"])
    total = w.status("gifts")["total"]
    members = sum(len(offered.arms[arm]) for arm in ARMS)
    assert total["planned"] == total["sent"] == len(w.accepted("gifts")) == 2 * members
    assert {state for arm in ARMS for c in offered.arms[arm] for _, state, _ in w.fates(c, "gifts")} == {"delivered"}


@pytest.mark.parametrize("arm", ARMS)
def test_explain_tells_the_promise_and_never_the_code(offered: Offered, arm: str) -> None:
    customer = offered.arms[arm][0]
    told = offered.world.explain("gifts", customer)
    assert told["answer"].endswith("step 1 by sms: delivered, step 2 by email: delivered")
    kind = (TIERS[tier_of(customer)] if arm == "tiered" else KINDS[arm]).code
    how = {
        None: "without a code",
        "shared": "with the code that all share",
        "generated": "with a generated code of its own",
        "pool": "with a code of its own of pool spring",
    }[kind]
    tier = f", tier {tier_of(customer)}" if arm == "tiered" else ""
    assert f"promised offer {arm}{tier}, {how}" in {event["what"] for event in told["events"]}
    assert kind is None or str(offered.codes[customer]) not in str(told)


@pytest.mark.parametrize("arm", KINDS)
def test_what_was_redeemed_is_measured_at_its_own_cost(offered: Offered, arm: str) -> None:
    found, kind, members = offered.offers[arm], KINDS[arm], offered.arms[arm]
    assert (found["offered"], found["reached"]) == (len(members), len(members))
    if arm == "none":
        assert (found["basis"], found["redeemed"], found["expected_cost"]) == ("expected", None, 0.0)
        return
    assert (found["basis"], found["redeemed"], found["late"]) == ("orders", 5, 0)
    assert found["actual_cost"] == pytest.approx(5 * kind.each, abs=0.01)
    assert found["expected_cost"] == pytest.approx(len(members) * 0.4, abs=0.01)


def test_each_tier_is_measured_for_itself_and_a_code_in_controls_hands_is_a_leak(offered: Offered) -> None:
    for name, kind in TIERS.items():
        found = offered.offers[f"tiered/{name}"]
        members = [c for c in offered.arms["tiered"] if tier_of(c) == name]
        bought = [c for c in offered.buyers["tiered"] if tier_of(c) == name]
        assert (found["offered"], found["redeemed"]) == (len(members), len(bought))
        assert found["actual_cost"] == pytest.approx(len(bought) * kind.each, abs=0.01)
    assert offered.leaks["control"] == 1


def test_points_are_given_to_those_who_bought(offered: Offered) -> None:
    def balance(customer: str) -> int:
        return int(balance_of(offered.world.ws, customer, now=MONDAY + 7 * DAY)["balance"])

    assert {balance(c) for c in offered.buyers["bonus"]} == {500}
    assert {balance(c) for c in offered.buyers["multiplier"]} == {60}  # twice the usual 30 above them
    for arm in ("bonus", "multiplier"):
        assert {balance(c) for c in offered.arms[arm][5:]} == {0}
