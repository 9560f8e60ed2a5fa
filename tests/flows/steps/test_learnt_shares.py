"""Thompson allocation, end to end: shares are learnt from matured runs, recorded, tested, and never promoted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from flows.steps.apply_plan import apply_plan
from flows.steps.decide_experiment import decide_experiment
from flows.steps.explain_customer import explain_customer
from flows.steps.measure_experiment import measure_experiment
from flows.steps.plan_campaign import plan_campaign
from flows.steps.simulate_campaign import simulate_campaign
from flows.wiring import Workspace
from warehouse.ledger.waves import waves

Arms = dict[str, list[str]]
Shops = Callable[..., Workspace]
Go = Callable[..., Arms]
DAY = timedelta(days=1)
LATER = timedelta(days=35)
CAMPAIGN = """\
campaign: back
status: active
schedule: {cron: "0 9 * * 1", timezone: UTC}
audience:
  segment: orders >= 2
  limit: 1800
experiment:
  control: 20%
  allocation: thompson
  horizon: 30 days
  primary: repurchase
  metrics: [revenue]
  minimum_effect: 10pp
arms:
  mail: {weight: 40%, steps: [{channel: sms, template: hello}]}
  text: {weight: 40%, steps: [{channel: sms, template: hello}]}
feedback: {mode: apply, holdback: 10%}
"""
GOOD = {"mail": 0.6, "text": 0.3, "control": 0.3}
POOR = {"mail": 0.4, "text": 0.1, "control": 0.1}


@pytest.fixture
def learnt(shop: Shops, go_round: Go, monday: datetime) -> Workspace:
    """Two runs five weeks apart: mail is 30 points better in each, and in the second everybody buys 20 points less."""
    ws = shop(customers=3600, campaign=CAMPAIGN)
    go_round(ws, monday, GOOD)
    go_round(ws, monday + LATER, POOR, number=1)
    return ws


def shares(ws: Workspace, number: int) -> dict[str, float]:
    with ws.ledger.read() as tx:
        return dict(waves(tx, "back:1")[number].weights)


def test_the_first_run_has_the_files_shares_and_the_next_learns_from_the_matured_one(
    learnt: Workspace, monday: datetime
) -> None:
    assert shares(learnt, 0) == {"mail": 0.4, "text": 0.4, "control": 0.2}
    second = shares(learnt, 1)
    assert second["mail"] == pytest.approx(0.8)
    assert second["text"] == second["control"] == pytest.approx(0.1)
    measured = measure_experiment(learnt, "back", now=monday + LATER).to_json()
    assert [wave["weights"] for wave in measured["waves"]] == [shares(learnt, 0), second]
    assert measured["waves"][1]["assigned"]["mail"] == pytest.approx(1440, abs=80)


def test_before_a_run_has_matured_the_files_shares_go_on(shop: Shops, go_round: Go, monday: datetime) -> None:
    ws = shop(customers=3600, campaign=CAMPAIGN)
    go_round(ws, monday, GOOD)
    planned = plan_campaign(ws, "back", as_of=monday + 32 * DAY)
    assert planned.summary["allocation"]["learnt_from"] == []
    assert dict(planned.allocation.weights) == {"mail": 0.4, "text": 0.4, "control": 0.2}
    ripe = plan_campaign(ws, "back", as_of=monday + 33 * DAY).summary
    assert ripe["allocation"]["learnt_from"] == [monday.isoformat()]
    assert ripe["allocation"]["customers"] == 1800
    assert ripe["arms"]["mail"]["weight"] == ripe["allocation"]["weights"]["mail"] == pytest.approx(0.8)
    again = plan_campaign(ws, "back", as_of=monday + 33 * DAY).summary
    assert again == ripe  # the chances are integrated: nothing is drawn


def test_a_run_that_was_begun_keeps_the_shares_it_was_begun_with(
    learnt: Workspace, answer: Callable[..., None], arms_of: Callable[..., Arms], monday: datetime
) -> None:
    before = plan_campaign(learnt, "back", as_of=monday + LATER)
    assert dict(before.allocation.weights) == shares(learnt, 1)
    answer(learnt, {"text": arms_of(learnt)["text"]}, {"text": 1.0}, at=monday + DAY)  # late orders, of the first run
    after = plan_campaign(learnt, "back", as_of=monday + LATER)
    assert after.allocation.weights == before.allocation.weights
    assert apply_plan(learnt, after, now=monday + LATER).already_applied is False
    assert shares(learnt, 1) == dict(before.allocation.weights)


def test_nobody_changes_arm_however_often_the_shares_change(
    learnt: Workspace, arms_of: Callable[..., Arms], monday: datetime
) -> None:
    first, second = arms_of(learnt), arms_of(learnt, number=1)
    everybody = [customer for arms in (first, second) for members in arms.values() for customer in members]
    assert len(everybody) == len(set(everybody)) == 3600
    planned = plan_campaign(learnt, "back", as_of=monday + 2 * LATER)
    assert planned.plan.skipped == {"already_assigned": 3600}


def test_the_split_is_judged_by_each_runs_own_shares(learnt: Workspace, monday: datetime) -> None:
    health = measure_experiment(learnt, "back", now=monday + 2 * LATER).to_json()["health"]
    assert health["srm_p"] > 0.001
    assert health["srm_analysed_p"] > 0.001
    assert health["srm_wave_p"] > 0.001
    assert health["balance_p"] > 0.001


def test_effects_are_those_within_the_runs_and_a_winner_is_reviewed_and_changes_nothing(
    learnt: Workspace, monday: datetime
) -> None:
    path = learnt.root / "campaigns" / "book" / "back.yaml"
    before = path.read_bytes()
    decided = decide_experiment(learnt, "back", now=monday + 2 * LATER)
    measured = decided.measurement.to_json()
    by_arm = {row["arm"]: row for row in measured["results"] if row["metric"] == "repurchase"}
    assert by_arm["mail"]["difference"] == pytest.approx(0.3, abs=0.01)
    assert by_arm["text"]["difference"] == pytest.approx(0.0, abs=0.01)
    assert "Mantel" in by_arm["mail"]["method"]
    mean = naive(measured, "mail") - naive(measured, "control")
    assert mean < 0.25  # what pooling says: most of mail was asked when everybody bought less
    assert measured["strata"] == {"by": "wave", "strata": 2, "left_out": {}}
    assert (measured["stratified"], measured["cace"]) == ([], [])
    assert (decided.verdict.verdict, decided.verdict.arm) == ("review", "mail")
    assert [r.code for r in decided.verdict.failed if r.arm in (None, "mail")] == ["needs_fixed_confirmation"]
    assert (decided.feedback.diff, path.read_bytes()) == ("", before)


def naive(measured: dict[str, Any], arm: str) -> float:
    return float(measured["totals"]["repurchase"][arm] / measured["arms"][arm]["mature"])


def test_curves_and_restricted_means_are_put_together_by_the_runs_sizes(learnt: Workspace, monday: datetime) -> None:
    survival = measure_experiment(learnt, "back", now=monday + 2 * LATER).to_json()["survival"]
    away = {arm: described["points"][-1] for arm, described in survival["arms"].items()}
    assert away["mail"]["day"] == 30
    assert away["mail"]["away"] == pytest.approx(0.5, abs=0.01)
    assert away["control"]["away"] == pytest.approx(0.8, abs=0.01)
    by_arm = {row["arm"]: row for row in survival["rmst"]}
    assert by_arm["mail"]["high"] < 0
    assert by_arm["text"]["low"] < 0 < by_arm["text"]["high"]


def test_a_customers_story_says_the_shares_of_the_run(
    learnt: Workspace, arms_of: Callable[..., Arms], monday: datetime
) -> None:
    customer = arms_of(learnt, number=1)["mail"][0]
    told = explain_customer(learnt, "back", customer, now=monday + 2 * LATER)["events"][0]
    assert told["what"] == "assigned to mail in back:1"
    assert "shares mail 80%, text 10%, control 10%" in told["why"]


def test_a_replay_learns_from_run_to_run_too_and_promotes_nothing(shop: Shops, monday: datetime) -> None:
    bought = {n: [(monday - 50 * DAY, 25.0)] for n in range(0, 3600, 5)}
    ws = shop(customers=3600, campaign=CAMPAIGN, bought=bought)
    done = simulate_campaign(ws, "back", as_of=monday, runs=8, seed=5).to_json()
    none, effect, _ = done["scenarios"]
    assert none["false_promotion"] == effect["promotion"] == 0
    assert effect["power"] > 0.5
    assert effect["verdicts"].get("review", 0) >= 2  # at the minimum effect half of the estimates lie below it
    assert simulate_campaign(ws, "back", as_of=monday, runs=8, seed=5).to_json() == done
