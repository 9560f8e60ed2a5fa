"""A campaign of every kind of offer and of code from the plan to the redemption: the text says it, the orders tell it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from flows.steps.decide_experiment import decide_experiment
from flows.steps.deliver_messages import deliver_messages
from flows.steps.import_codes import import_code_file
from flows.steps.load_facts import load_facts
from flows.steps.measure_experiment import Measurement, measure_experiment
from flows.steps.plan_campaign import plan_campaign
from flows.steps.redeemed_offers import charge_margin, collect_redeemed
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace

from .conftest import CAMPAIGN, read_arms

Shop = Callable[..., Workspace]
COST = "cost: {redeemed: 10%, value: 4 EUR}"
SHARED, GENERATED, POOL = (
    "code: {kind: shared, value: SPRING}",
    "code: {kind: generated, prefix: GEN}",
    "code: {kind: pool, pool: spring}",
)
SAYS = "{{ offer.value }}|{{ offer.text }}|{{ offer.code | default('-') }}|{{ offer.expires_on | default('-') }} STOP"
RIPE = timedelta(days=34)

KINDS: dict[str, tuple[str, str, float]] = {
    # what offers.yaml says, the value in the text, what one redeeming order of 30.00 costs
    "percent_off": (f"kind: percent_off, percent: 10%, {SHARED}, {COST}", "10%", 30.0 / 9),
    "amount_off": (f"kind: amount_off, amount: 5 EUR, {GENERATED}, {COST}", "5 EUR", 5.0),
    "free_shipping": (f"kind: free_shipping, {POOL}, {COST}", "", 4.0),
    "points multiplier": (f"kind: points, multiplier: 3, {COST}", "3x", 4.0),
    "points bonus": (f"kind: points, bonus: 500, {SHARED}, {COST}", "500", 4.0),
    "gift": (f"kind: gift, item: a mug, {GENERATED}, {COST}", "a mug", 4.0),
    "bundle": (f"kind: bundle, items: [tea, a mug], {POOL}, {COST}", "tea + a mug", 4.0),
    "upgrade": (f"kind: upgrade, to: express, {SHARED}, {COST}", "express", 4.0),
    "none": ("kind: none", "", 0.0),
}


def campaign_shop(shop: Shop, offer: str, **options: Any) -> Workspace:
    """A shop whose Chinese customers are offered this; its control and its other arm are offered nothing."""
    ws = shop(customers=80, **options)
    book = ws.root / "campaigns" / "book"
    terms = (
        f"ten: {{{offer}, text: {{en: a promise, zh: 优惠}}, valid_for: 14 days}}\n" if "tiers" not in offer else offer
    )
    (book / "offers.yaml").write_text(terms, encoding="utf-8")
    says = SAYS if "code:" in offer else SAYS.replace("{{ offer.code | default('-') }}", "-")
    (ws.root / "templates" / "sms" / "says.txt.j2").write_text(says, encoding="utf-8")
    (ws.root / "templates" / "sms" / "hello.txt.j2").write_text("Hello STOP", encoding="utf-8")
    steps = CAMPAIGN.replace("{channel: email, template: hello}", "{channel: sms, template: says}")
    steps = steps.replace("{channel: sms, template: hello, after", "{channel: sms, template: says, after")
    (book / "back.yaml").write_text(steps, encoding="utf-8")
    lines = (ws.root / "customers.csv").read_text(encoding="utf-8").splitlines()
    rows = [lines[0] + ",locale", *(f"{line},zh-CN" for line in lines[1:])]
    (ws.root / "chinese.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    load_facts(ws, "customers", [ws.root / "chinese.csv"], renames={}, now=datetime(2026, 3, 2, 9).astimezone())
    if "pool: spring" in offer:
        (ws.root / "codes.csv").write_text("".join(f"POOL{n:04d}\n" for n in range(90)), encoding="utf-8")
        import_code_file(
            ws,
            "spring",
            ws.root / "codes.csv",
            expires_on=date(2026, 6, 1),
            now=datetime(2026, 3, 1).astimezone(),
            actor="t",
        )
    return ws


def run(ws: Workspace, monday: datetime) -> dict[str, str | None]:
    """Plan, apply and deliver with the reminder; give the code of every customer of the arm with the offer."""
    assert plan_campaign(ws, "back", as_of=monday).plan.eligible == 80
    run_campaign(ws, "back", as_of=monday)
    for day in (0, 3):
        deliver_messages(ws, now=monday + timedelta(days=day), worker="t")
    with ws.ledger.read() as tx:
        rows = tx.execute(sa.text("SELECT customer_id, code FROM outbox WHERE arm = 'mail' ORDER BY customer_id"))
        return {row.customer_id: row.code for row in rows}


def order(ws: Workspace, rows: list[tuple[str, str, datetime, float, str | None]], *, status: str = "") -> None:
    """Load orders: (order id, customer, at, amount, code), half of the amount being margin."""
    lines = ["order_id,customer_id,ordered_at,amount,margin,discount_code,status"]
    lines += [f"{key},{c},{at.isoformat()},{a:.2f},{a / 2:.2f},{code or ''},{status}" for key, c, at, a, code in rows]
    path = ws.root / f"orders-{rows[0][0]}-{status}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    load_facts(ws, "orders", [path], renames={}, now=max(at for _, _, at, _, _ in rows) + timedelta(days=1))


def read_texts(ws: Workspace) -> list[str]:
    files = sorted(path for path in (ws.root / "outbox").rglob("*") if path.is_file())
    return [line for path in files for line in path.read_text(encoding="utf-8").splitlines() if "|" in line]


def offers_of(measured: Measurement) -> dict[str, dict[str, Any]]:
    return {row["offer"]: row for row in measured.to_json()["redemptions"]["offers"]}


def charged_margin(ws: Workspace, measured: Measurement) -> float:
    """Margin per customer of the arm with the offer after its redemptions, before messages and adjustments."""
    (wave,) = measured.collected.mature_waves
    redeemed = collect_redeemed(ws, measured.design, measured.collected)
    moments = charge_margin(ws, measured.design, wave, redeemed)["mail"]
    return moments.sum("margin") / moments.n


@pytest.mark.parametrize("kind", KINDS)
def test_a_campaign_of_each_kind_says_its_promise_and_measures_its_redemption(
    shop: Shop, monday: datetime, kind: str
) -> None:
    terms, value, each = KINDS[kind]
    ws = campaign_shop(shop, terms)
    codes = run(ws, monday)
    texts = read_texts(ws)
    for code in codes.values():
        said = [text for text in texts if f"{value}|优惠|{code or '-'}|2026年3月16日" in text]
        assert len(said) >= 2, "the message and its reminder say the same"
    buyers = sorted(codes)[:6]
    arms = read_arms(ws)
    at = monday + timedelta(days=5)
    order(ws, [(f"R{n}", c, at, 30.0, codes[c]) for n, c in enumerate(buyers)])
    order(ws, [("X1", arms["control"][0], at, 30.0, "OTHERSALE")])
    measured = measure_experiment(ws, "back", now=monday + RIPE)
    found = offers_of(measured)["ten"]
    assert (found["offered"], found["reached"]) == (len(codes), len(codes))
    if kind == "none":
        assert (found["basis"], found["actual_cost"], found["expected_cost"]) == ("expected", None, 0.0)
        return
    assert (found["basis"], found["redeemed"], found["orders"], found["late"]) == ("orders", 6, 6, 0)
    assert found["expected_cost"] == pytest.approx(len(codes) * 0.4, abs=0.01)
    assert found["actual_cost"] == pytest.approx(6 * each, abs=0.01)
    paid_here = kind in ("percent_off", "amount_off")  # the orders' margin is net of these already
    assert found["charged"] == ("in the orders' margin" if paid_here else "to the margin")
    margin = (6 * 15.0 - (0.0 if paid_here else 6 * each)) / len(codes)
    assert charged_margin(ws, measured) == pytest.approx(margin)


def test_each_tier_is_said_and_counted_for_itself(shop: Shop, monday: datetime) -> None:
    tiers = (
        "ten:\n  kind: tiered\n  by: value_tier\n  valid_for: 14 days\n  tiers:\n"
        f"    gold: {{kind: upgrade, to: express, text: {{en: gold, zh: 金}}, {SHARED}, {COST}}}\n"
        f"    silver: {{kind: gift, item: tea, text: {{en: silver, zh: 银}}, {POOL}, cost: {{redeemed: 5%, value: 2 EUR}}}}\n"
        f"    member: {{kind: points, multiplier: 2, text: {{en: member, zh: 会员}}, cost: {{redeemed: 5%, value: 1 EUR}}}}\n"
    )
    ws = campaign_shop(shop, tiers)
    codes = run(ws, monday)
    with ws.ledger.read() as tx:
        rows = tx.execute(sa.text("SELECT DISTINCT customer_id, offer FROM outbox WHERE arm = 'mail'"))
        tier_of: dict[str, str] = {row.customer_id: row.offer for row in rows}
    assert {"ten/gold", "ten/member"} <= set(tier_of.values())
    at = monday + timedelta(days=5)
    order(ws, [(f"R{n}", c, at, 30.0, code) for n, (c, code) in enumerate(codes.items())])
    found = offers_of(measure_experiment(ws, "back", now=monday + RIPE))
    for offer, row in found.items():
        members = [customer for customer, name in tier_of.items() if name == offer]
        each = {"ten/gold": 4.0, "ten/silver": 2.0, "ten/member": 1.0}[offer]
        assert (row["redeemed"], row["actual_cost"]) == (len(members), pytest.approx(len(members) * each))


def test_codes_in_the_hands_of_control_and_of_strangers_are_counted_as_leaks(shop: Shop, monday: datetime) -> None:
    ws = campaign_shop(shop, KINDS["amount_off"][0])
    codes = run(ws, monday)
    arms, (first, second, *_) = read_arms(ws), sorted(codes)
    at = monday + timedelta(days=5)
    (ws.root / "stranger.csv").write_text("customer_id,created_at\nSTRANGER,2024-01-01\n", encoding="utf-8")
    load_facts(ws, "customers", [ws.root / "stranger.csv"], renames={}, now=monday)
    order(
        ws,
        [
            ("R1", first, at, 30.0, str(codes[first]).lower()),  # typed in small letters: redeemed
            ("L1", arms["control"][0], at, 30.0, codes[first]),
            ("L2", arms["text"][0], at, 30.0, codes[first]),
            ("L3", second, at, 30.0, codes[first]),
            ("L4", "STRANGER", at, 30.0, codes[first]),
            ("T1", second, monday + timedelta(days=15), 30.0, codes[second]),  # the offer held for 14 days
        ],
    )
    measured = measure_experiment(ws, "back", now=monday + RIPE)
    shown = measured.to_json()["redemptions"]
    assert shown["leaks"] == {"control": 1, "elsewhere": 1, "mail": 1, "text": 1}
    assert measured.health["code_leaks"] == pytest.approx(4 / 5)
    assert (offers_of(measured)["ten"]["redeemed"], offers_of(measured)["ten"]["late"]) == (1, 1)


def test_without_codes_in_the_orders_an_offer_is_charged_what_it_was_expected_to_cost(
    shop: Shop, monday: datetime
) -> None:
    ws = campaign_shop(shop, KINDS["gift"][0])
    codes = run(ws, monday)
    order(ws, [(f"R{n}", c, monday + timedelta(days=5), 30.0, None) for n, c in enumerate(sorted(codes)[:6])])
    measured = measure_experiment(ws, "back", now=monday + RIPE)
    found = offers_of(measured)["ten"]
    assert (found["basis"], found["redeemed"], found["actual_cost"]) == ("expected", None, None)
    assert charged_margin(ws, measured) == pytest.approx(6 * 15.0 / len(codes) - 0.4)


def test_the_decision_holds_the_redemptions_and_weighs_the_margin_after_them(shop: Shop, monday: datetime) -> None:
    margins = []
    for number, included in enumerate(([], ["gift"])):
        ws = campaign_shop(
            shop, KINDS["gift"][0], name=f"shop{number}", measurement={"margin_includes": included}, seed="same"
        )
        codes = run(ws, monday)
        order(ws, [(f"R{n}", c, monday + timedelta(days=5), 30.0, codes[c]) for n, c in enumerate(sorted(codes)[:6])])
        decided = decide_experiment(ws, "back", now=monday + RIPE).to_json()
        assert decided["measurement"]["redemptions"]["offers"][0]["actual_cost"] == 24.0
        margins.append({row["arm"]: row["difference"] for row in decided["measurement"]["margin"]}["mail"])
    assert margins[1] - margins[0] == pytest.approx(24.0 / len(codes), rel=0.02)


def test_the_company_says_which_costs_its_margins_bear_already(shop: Shop, monday: datetime) -> None:
    ws = campaign_shop(shop, KINDS["gift"][0], measurement={"margin_includes": ["gift"]})
    codes = run(ws, monday)
    order(ws, [(f"R{n}", c, monday + timedelta(days=5), 30.0, codes[c]) for n, c in enumerate(sorted(codes)[:6])])
    measured = measure_experiment(ws, "back", now=monday + RIPE)
    assert charged_margin(ws, measured) == pytest.approx(6 * 15.0 / len(codes))
    assert offers_of(measured)["ten"]["actual_cost"] == 24.0


def test_points_cost_their_number_where_the_company_says_what_a_point_costs(shop: Shop, monday: datetime) -> None:
    ws = campaign_shop(shop, KINDS["points multiplier"][0], points={"value": "0.02 EUR"})
    codes = run(ws, monday)
    buyers = sorted(codes)[:3]
    order(ws, [(f"R{n}", c, monday + timedelta(days=5), 30.0, None) for n, c in enumerate([*buyers, buyers[0]])])
    found = offers_of(measure_experiment(ws, "back", now=monday + RIPE))["ten"]
    assert (found["redeemed"], found["orders"], found["actual_cost"]) == (3, 4, pytest.approx(4 * 60 * 0.02))
