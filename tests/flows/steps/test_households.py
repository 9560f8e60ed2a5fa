"""Households as unit: one arm for all of a household, measured between households, power by households."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from flows.steps.decide_experiment import decide_experiment
from flows.steps.deliver_messages import deliver_messages
from flows.steps.load_facts import load_facts
from flows.steps.measure_experiment import measure_experiment
from flows.steps.plan_campaign import plan_campaign
from flows.steps.run_campaign import run_campaign
from flows.steps.show_power import show_power
from flows.steps.suppress_customer import suppress_customer
from flows.wiring import Workspace
from warehouse.ledger.schema import assignments

Shop = Callable[..., Workspace]
DAY = timedelta(days=1)
N = 600
CAMPAIGN = """\
campaign: back
status: active
audience: {segment: orders >= 2}
experiment:
  unit: household
  control: 50%
  horizon: 30 days
  primary: repurchase
  metrics: [revenue, spend_per_order]
  guardrails: {unsubscribed: {max_increase: 2pp}}
  minimum_effect: 10pp
arms:
  mail: {weight: 50%, steps: [{channel: sms, template: hello}]}
"""


def at_home(ws: Workspace, *, of_three: int = N) -> None:
    """Give every three customers a household; those from `of_three` on have none."""
    lines = (ws.root / "customers.csv").read_text(encoding="utf-8").splitlines()
    with_home = [lines[0] + ",household_id"]
    with_home += [f"{line},{f'h{n // 3}' if n < of_three else ''}" for n, line in enumerate(lines[1:])]
    path = ws.root / "customers2.csv"
    path.write_text("\n".join(with_home) + "\n", encoding="utf-8")
    load_facts(ws, "customers", [path], renames={}, now=datetime.fromisoformat("2026-03-02T09:00:00+00:00"))


def recorded(ws: Workspace) -> dict[str, tuple[str, str | None]]:
    with ws.ledger.read() as tx:
        rows = tx.execute(sa.select(assignments.c.customer_id, assignments.c.arm, assignments.c.unit)).all()
    return {row[0]: (row[1], row[2]) for row in rows}


def test_all_customers_of_a_household_get_one_arm_and_keep_it(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=N, campaign=CAMPAIGN)
    at_home(ws, of_three=N - 60)
    plan = plan_campaign(ws, "back", as_of=monday)
    assert plan.design.unit == "household"
    run_campaign(ws, "back", as_of=monday)
    arms = recorded(ws)
    for n in range(0, N - 60, 3):
        assert len({arms[f"C{n + k:04d}"] for k in range(3)}) == 1
    alone = [arms[f"C{n:04d}"] for n in range(N - 60, N)]
    assert {unit for _, unit in alone} == {None}  # a customer alone is named once, not twice
    assert {arm for arm, _ in alone} == {"mail", "control"}


def test_who_joins_a_household_that_was_drawn_is_not_drawn_again(shop: Shop, monday: datetime) -> None:
    half = CAMPAIGN.replace("segment: orders >= 2", "segment: orders >= 2 and club == 'gold'")
    ws = shop(customers=N, campaign=half)
    at_home(ws)
    run_campaign(ws, "back", as_of=monday)
    first = recorded(ws)
    path: Path = ws.root / "campaigns" / "book" / "back.yaml"
    path.write_text(path.read_text().replace("orders >= 2 and club == 'gold'", "orders >= 2"))
    # another segment is another experiment, so the rule is looked at within one: plan the same epoch for everybody
    from campaigns.draw import units_of
    from campaigns.eligibility import Standing
    from campaigns.plan import make_plan
    from flows.steps.ledger_standing import budget_left
    from flows.steps.planning_rules import plan_rules
    from warehouse.facts.segment_sql import select_segment
    from warehouse.ledger.standing import assigned_elsewhen, units_elsewhen

    file = ws.campaign("back")
    candidates = select_segment(ws.facts, file.segment, as_of=monday + DAY, extra=("club",))
    with ws.ledger.read() as tx:
        standing = Standing(
            already_assigned=assigned_elsewhen(tx, "back:1", monday + DAY),
            assigned_units=units_elsewhen(tx, "back:1", monday + DAY),
        )
    epoch = plan_campaign(ws, "back", as_of=monday).epoch
    rules = plan_rules(file, ws.settings, epoch=1, as_of=monday, left=budget_left(ws, file, epoch, as_of=monday))
    again = make_plan(candidates, standing, rules)
    drawn = {unit for _, unit in first.values()}
    joined = set(units_of(candidates[candidates["customer_id"].isin(again.assignments["customer_id"])], "household"))
    assert not drawn & joined


def test_households_are_measured_as_households(shop: Shop, monday: datetime) -> None:
    """All of a household buy or none does: between customers the interval would be too narrow by the root of three."""
    bought = {n: [(monday + 5 * DAY, 40.0)] for n in range(N) if (n // 3) % 3 == 0}
    ws = shop(customers=N, campaign=CAMPAIGN, bought=bought)
    at_home(ws)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    suppress_customer(ws, "C0000", channel="all", reason="stop", by="test", at=monday + DAY)
    measured = measure_experiment(ws, "back", now=monday + 40 * DAY)
    results = {result.metric: result for result in measured.results}
    found = results["repurchase"]
    assert found.method.startswith("cluster-robust, ")
    assert found.n_arm + found.n_control == N // 3
    share, n = N // 9 * 3 / N, measured.collected.assigned
    naive = (share * (1 - share) * (1 / n["mail"] + 1 / n["control"])) ** 0.5
    assert found.se == pytest.approx(naive * 3**0.5, rel=0.02)
    assert results["revenue"].method.startswith("cluster-robust, ")
    assert results["unsubscribed"].status == "relative_undefined"  # nobody of control went
    assert measured.health["srm_p"] is not None
    assert measured.health["srm_p"] > 0.001  # of households: of customers the split would look broken thrice as often
    plain = measured.to_json()
    assert plain["arms"]["mail"]["households"] == found.n_arm
    assert plain["survival"] is None
    assert decide_experiment(ws, "back", now=monday + 40 * DAY).verdict.verdict != "invalid"


def test_the_planned_size_is_reached_by_households_and_not_by_their_members(shop: Shop, monday: datetime) -> None:
    """A plan of so many households is not met by as many customers, who are three to a household."""
    bought = {n: [(monday - 20 * DAY, 40.0), (monday + 5 * DAY, 40.0)] for n in range(N) if (n // 3) % 3 == 0}
    ws = shop(customers=N, campaign=CAMPAIGN.replace("orders >= 2", "orders >= 1"), bought=bought)
    at_home(ws)
    planned = plan_campaign(ws, "back", as_of=monday).design.planned_n
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    decided = decide_experiment(ws, "back", now=monday + 40 * DAY)
    collected = decided.measurement.collected
    households, customers = (min(sizes.values()) for sizes in (collected.mature_units, collected.mature))
    assert planned is not None
    assert households < planned * 0.95 < 3 * planned
    assert customers > 2 * households
    reasons = {(reason.gate, reason.code): reason for reason in decided.verdict.reasons}
    assert reasons["size", "planned_size"].value == households
    assert "mature households" in reasons["size", "planned_size"].text
    assert reasons["size", "floor"].value == households
    assert reasons["maturity", "information"].value == pytest.approx(households / planned)
    assert decided.verdict.verdict == "keep_testing"


def test_power_counts_households_and_says_what_they_cost(shop: Shop, monday: datetime) -> None:
    bought = {n: [(monday - 20 * DAY, 40.0)] for n in range(N) if (n // 3) % 3 == 0}
    campaign = CAMPAIGN.replace("orders >= 2", "orders >= 1")
    ws = shop(customers=N, campaign=campaign, bought=bought)
    alone = show_power(ws, "back", as_of=monday, customers=N)  # without households everybody is one alone
    at_home(ws)
    together = show_power(ws, "back", as_of=monday, customers=N)
    assert together["unit"] == "household"
    assert together["design_effect"] == pytest.approx(3.0, rel=0.01)
    assert together["needed_customers"] == pytest.approx(3 * alone["needed_customers"], rel=0.01)
