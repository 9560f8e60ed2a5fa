"""Measure, decide, write back: everybody counts, a verdict is recorded once, the file changes as the mode says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from campaigns.write_back import WriteBackError
from experiments.errors import ExperimentError
from flows.steps.decide_experiment import decide_experiment
from flows.steps.gather_report import gather_report
from flows.steps.measure_experiment import measurable_campaigns, measure_experiment
from flows.steps.run_campaign import run_campaign
from flows.steps.suppress_customer import suppress_customer
from flows.steps.write_back_decision import undo_write_back
from flows.wiring import Workspace
from warehouse.ledger.results import decisions, looks, measurements, verify_decisions

Rewrite = Callable[[Workspace, str, str], Path]
DAY = timedelta(days=1)
RIPE = timedelta(days=33)
Arms = dict[str, list[str]]
BUYS = {"mail": 0.45, "text": 0.08, "control": 0.08}


def result(measured: dict[str, Any], metric: str, arm: str) -> dict[str, Any]:
    return next(r for r in measured["results"] if (r["metric"], r["arm"]) == (metric, arm))


def test_everybody_assigned_is_counted_whether_they_bought_or_not(
    round_of: Callable[..., Workspace], arms_of: Callable[..., Arms], monday: datetime
) -> None:
    ws = round_of(customers=200)
    arms = arms_of(ws)
    measured = measure_experiment(ws, "back", now=monday + RIPE).to_json()
    for arm in ("mail", "text"):
        row = result(measured, "repurchase", arm)
        assert row["n_arm"] == len(arms[arm])
        assert row["arm_value"] == pytest.approx(round(BUYS[arm] * len(arms[arm])) / len(arms[arm]))
    assert measured["arms"]["control"]["reached"] == 0
    assert measured["health"]["contamination"] == 0
    json.dumps(measured, allow_nan=False)


def test_nothing_is_compared_before_horizon_and_lateness_have_passed(
    round_of: Callable[..., Workspace], monday: datetime
) -> None:
    ws = round_of(customers=200)
    early = measure_experiment(ws, "back", now=monday + RIPE - timedelta(minutes=1)).to_json()
    assert {arm["mature"] for arm in early["arms"].values()} == {0}
    assert result(early, "repurchase", "mail")["p_value"] is None
    assert decide_experiment(ws, "back", now=monday + RIPE - timedelta(minutes=1)).verdict.verdict == "keep_testing"
    with ws.ledger.read() as tx:
        assert looks(tx, "back:1") == []


def test_unsubscribes_within_the_horizon_count_for_the_guardrail(
    round_of: Callable[..., Workspace], arms_of: Callable[..., Arms], monday: datetime
) -> None:
    ws = round_of(customers=200)
    arms = arms_of(ws)
    for number, customer in enumerate(arms["mail"][:4]):
        at = monday + (number + 1) * 9 * DAY  # the fourth one is past the horizon of 30 days
        suppress_customer(ws, customer, channel="email", reason="unsubscribe", by="test", at=at)
    measured = measure_experiment(ws, "back", now=monday + 40 * DAY).to_json()
    assert result(measured, "unsubscribed", "mail")["arm_value"] == pytest.approx(3 / len(arms["mail"]))
    assert result(measured, "unsubscribed", "mail")["control_value"] == 0


def test_measuring_twice_gives_the_same_and_is_recorded_once(
    round_of: Callable[..., Workspace], monday: datetime
) -> None:
    ws = round_of(customers=200)
    first, second = (measure_experiment(ws, "back", now=monday + RIPE).to_json() for _ in range(2))
    assert first == second
    with ws.ledger.read() as tx:
        assert len(measurements(tx, "back:1")) == 1


def test_sqlite_postgres_and_both_kinds_of_facts_measure_alike(
    shop: Callable[..., Workspace], go_round: Callable[..., Arms], monday: datetime, postgres_url: str
) -> None:
    lite, postgres = shop(name="lite", customers=200), shop(name="postgres", customers=200, ledger_url=postgres_url)
    measured = []
    for ws in (lite, postgres):
        go_round(ws, monday)
        measured.append(measure_experiment(ws, "back", now=monday + RIPE).to_json())
    assert measured[0] == measured[1]


def test_a_campaign_that_never_ran_cannot_be_measured(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=5)
    with pytest.raises(ExperimentError, match="no run was applied yet; start with `retain plan back`"):
        measure_experiment(ws, "back", now=monday)
    assert measurable_campaigns(ws) == []
    run_campaign(ws, "back", as_of=monday)
    assert measurable_campaigns(ws) == ["back"]


def test_a_winner_is_written_into_the_file_and_can_be_taken_back_to_the_byte(
    round_of: Callable[..., Workspace], monday: datetime
) -> None:
    ws = round_of()
    path = ws.root / "campaigns" / "book" / "back.yaml"
    before = path.read_bytes()
    decided = decide_experiment(ws, "back", now=monday + RIPE)
    assert (decided.verdict.verdict, decided.verdict.arm) == ("promote", "mail")
    assert decided.feedback.changed_files == (path,)
    campaign = ws.campaign("back").campaign
    assert dict(campaign.weights) == {"mail": 0.9, "text": 0.0, "control": 0.1}
    assert campaign.experiment.expected_lift is not None
    assert 0 < campaign.experiment.expected_lift.value < (decided.verdict.expected_lift_raw or 0)
    assert campaign.version == f"{(monday + RIPE).date()} promoted mail back:1"
    assert undo_write_back(ws, "back", now=monday + RIPE) == path
    assert path.read_bytes() == before
    again = decide_experiment(ws, "back", now=monday + RIPE + DAY)  # as a schedule would: what was undone stays undone
    assert (again.decided_before, again.feedback.changed_files) == (True, ())
    assert path.read_bytes() == before
    with pytest.raises(WriteBackError, match="nothing to undo"):
        undo_write_back(ws, "back", now=monday + RIPE)


def test_a_final_decision_is_given_again_and_not_taken_again(
    round_of: Callable[..., Workspace], monday: datetime
) -> None:
    ws = round_of()
    first = decide_experiment(ws, "back", now=monday + RIPE)
    second = decide_experiment(ws, "back", now=monday + RIPE + DAY)
    assert second.decided_before
    assert not first.decided_before
    assert (second.row.decision_id, second.row.hash) == (first.row.decision_id, first.row.hash)
    assert second.verdict == first.verdict
    assert second.feedback.changed_files == ()
    with ws.ledger.read() as tx:
        assert len(decisions(tx, "back:1")) == len(looks(tx, "back:1")) == 1
        assert verify_decisions(tx) == 1


def test_a_proposal_is_a_patch_beside_the_file(
    round_of: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = round_of()
    path = rewrite(ws, "mode: apply", "mode: propose")
    before = path.read_bytes()
    decided = decide_experiment(ws, "back", now=monday + RIPE)
    assert path.read_bytes() == before
    patch = decided.feedback.patch_file
    assert patch is not None
    text = patch.read_text(encoding="utf-8")
    assert "+    weight: 90%" in text
    assert "campaigns/book/back.yaml" in text
    assert decide_experiment(ws, "back", now=monday + RIPE).feedback.diff == decided.feedback.diff


def test_without_feedback_the_verdict_is_only_recorded(
    round_of: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = round_of()
    rewrite(ws, "mode: apply", "mode: 'off'")
    decided = decide_experiment(ws, "back", now=monday + RIPE)
    assert decided.verdict.verdict == "promote"
    assert (decided.feedback.diff, decided.feedback.changed_files) == ("", ())


def test_a_file_that_no_longer_describes_the_experiment_is_left_alone(
    round_of: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = round_of()
    path = rewrite(ws, "after: 3 days", "after: 5 days")
    before = path.read_bytes()
    assert decide_experiment(ws, "back", now=monday + RIPE).verdict.verdict == "promote"
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_changed_does_not_undo_the_decision(
    round_of: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = round_of()
    path = rewrite(ws, "  mail:\n    weight: 40%", "  mail:\n    weight: &share 40%")
    rewrite(ws, "  text:\n    weight: 40%", "  text:\n    weight: *share")
    before = path.read_bytes()
    decided = decide_experiment(ws, "back", now=monday + RIPE)
    assert decided.verdict.verdict == "promote"
    assert "anchor" in decided.feedback.problem
    assert path.read_bytes() == before


def test_a_handful_of_customers_spends_no_look(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop(customers=30)
    rewrite(ws, "minimum_effect: 10pp", "minimum_effect: 10pp\n  looks: 4")
    run_campaign(ws, "back", as_of=monday)
    assert decide_experiment(ws, "back", now=monday + RIPE).verdict.verdict in ("keep_testing", "invalid")
    with ws.ledger.read() as tx:
        assert looks(tx, "back:1") == []


def test_nobody_wins_where_nobody_differs(round_of: Callable[..., Workspace], monday: datetime) -> None:
    ws = round_of(buys={"mail": 0.2, "text": 0.2, "control": 0.2})
    path = ws.root / "campaigns" / "book" / "back.yaml"
    before = path.read_bytes()
    assert decide_experiment(ws, "back", now=monday + RIPE).verdict.verdict == "inconclusive"
    assert path.read_bytes() == before


def test_a_guardrail_broken_for_sure_pauses_the_campaign(
    round_of: Callable[..., Workspace], arms_of: Callable[..., Arms], monday: datetime
) -> None:
    ws = round_of()
    for customer in arms_of(ws)["mail"][:200]:
        suppress_customer(ws, customer, channel="email", reason="unsubscribe", by="test", at=monday + DAY)
    decided = decide_experiment(ws, "back", now=monday + RIPE)
    assert (decided.verdict.verdict, decided.verdict.arm) == ("stop_harm", "mail")
    assert ws.campaign("back").campaign.status == "paused"


def test_the_next_run_after_a_promotion_begins_a_new_epoch_with_a_holdback(
    round_of: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = round_of()
    decide_experiment(ws, "back", now=monday + RIPE)
    rewrite(ws, "orders >= 2\n", "orders >= 2\n  reentry_after: 20 days\n")
    outcome = run_campaign(ws, "back", as_of=monday + 120 * DAY)
    assert outcome.experiment == "back:2"
    assert outcome.assigned["text"] == 0
    assert 0.85 < outcome.assigned["mail"] / outcome.eligible < 0.95
    assert outcome.assigned["control"] == outcome.eligible - outcome.assigned["mail"]


def test_a_report_holds_the_funnel_the_results_and_the_last_decision(
    round_of: Callable[..., Workspace], monday: datetime
) -> None:
    ws = round_of()
    assert "decision" not in gather_report(ws, "back", now=monday + RIPE)
    decide_experiment(ws, "back", now=monday + RIPE)
    data = gather_report(ws, "back", now=monday + RIPE)
    assert data["decision"]["verdict"] == "promote"
    assert data["funnel"]["text"]["sent"] == data["arms"]["text"]["assigned"]
    assert data["arms"]["mail"]["steps"] == ["email: hello", "sms: hello"]
