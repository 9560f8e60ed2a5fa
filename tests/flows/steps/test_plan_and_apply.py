"""Plan and apply: the same plan for the same input, one run for one instant, stale plans refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from campaigns.errors import CampaignError
from campaigns.problems import BookErrors
from flows.steps.apply_plan import apply_plan, apply_plan_file
from flows.steps.plan_campaign import plan_campaign
from flows.steps.run_campaign import DueCampaign, due_campaigns, run_campaign
from flows.steps.show_status import show_status
from flows.wiring import Workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.experiments import current_experiment, experiments
from warehouse.ledger.suppressions import suppress
from warehouse.ledger.waves import waves

Rewrite = Callable[[Workspace, str, str], Path]


def assigned(ws: Workspace) -> dict[str, str]:
    with ws.ledger.read() as tx:
        rows = [w for e in experiments(tx, "back") for w in waves(tx, e.experiment_id)]
        frames = [assignments_frame(tx, wave.wave_id) for wave in rows]
    return {c: a for frame in frames for c, a in zip(frame["customer_id"], frame["arm"], strict=True)}


def test_two_workspaces_with_the_same_data_give_the_same_bytes(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    first, second = shop(name="one"), shop(name="two")
    written = [plan_campaign(ws, "back", as_of=monday).write(ws.root / "plan") for ws in (first, second)]
    assert written[0].read_bytes() == written[1].read_bytes()
    tables = [path.parent / "assignments.csv" for path in written]
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_planning_changes_nothing(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    plan_campaign(ws, "back", as_of=monday)
    assert show_status(ws, None) == []
    assert assigned(ws) == {}


def test_a_run_assigns_everyone_once_and_queues_a_message_for_each_step(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(customers=100)
    outcome = run_campaign(ws, "back", as_of=monday)
    assert outcome.eligible == 100
    assert sum(outcome.assigned.values()) == len(assigned(ws)) == 100
    assert outcome.messages == 2 * outcome.assigned["mail"] + outcome.assigned["text"]


def test_running_again_for_the_same_instant_changes_nothing(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    first = run_campaign(ws, "back", as_of=monday)
    before = assigned(ws)
    again = run_campaign(ws, "back", as_of=monday)
    assert again.already_applied
    assert (again.assigned, again.messages, again.audience) == (first.assigned, first.messages, first.audience)
    assert assigned(ws) == before


def test_a_later_run_takes_only_new_customers(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    later = run_campaign(ws, "back", as_of=monday + timedelta(days=7))
    assert later.eligible == 0
    assert later.skipped == {"already_assigned": 60}


def test_sqlite_and_postgres_hold_the_same_assignments(
    shop: Callable[..., Workspace], monday: datetime, postgres_url: str
) -> None:
    lite, postgres = shop(name="lite"), shop(name="postgres", ledger_url=postgres_url)
    outcomes = [run_campaign(ws, "back", as_of=monday).to_json() for ws in (lite, postgres)]
    assert outcomes[0] == outcomes[1]
    assert assigned(lite) == assigned(postgres)


def test_a_plan_file_is_carried_out_as_written(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    planned = plan_campaign(ws, "back", as_of=monday)
    path = planned.write(ws.root / "plan")
    applied = apply_plan_file(ws, path, now=monday)
    assert applied.assigned == {arm: counts["planned"] for arm, counts in planned.summary["arms"].items()}
    assert apply_plan_file(ws, path, now=monday).already_applied


def test_a_plan_is_stale_when_the_campaign_changed(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    path = plan_campaign(ws, "back", as_of=monday).write(ws.root / "plan")
    rewrite(ws, "after: 3 days", "after: 4 days")
    with pytest.raises(CampaignError, match=r"stale: the campaign.*changed since; make a new plan: retain plan back"):
        apply_plan_file(ws, path, now=monday)
    assert assigned(ws) == {}


def test_a_plan_is_stale_when_more_of_the_audience_moved_than_drift_allows(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    path = plan_campaign(ws, "back", as_of=monday).write(ws.root / "plan")
    for n in range(6):
        suppress(ws.ledger, f"C{n:04d}", "all", "manual", "test", monday)
    with pytest.raises(CampaignError, match=r"10\.0% of the planned audience moved"):
        apply_plan_file(ws, path, now=monday)
    assert assigned(ws) == {}


def test_a_plan_survives_a_drift_within_what_is_allowed(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    path = plan_campaign(ws, "back", as_of=monday).write(ws.root / "plan")
    suppress(ws.ledger, "C0003", "all", "manual", "test", monday)
    applied = apply_plan_file(ws, path, now=monday)
    assert applied.eligible == 59
    assert "C0003" not in assigned(ws)


def test_without_its_list_of_customers_a_moved_plan_is_refused(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    path = plan_campaign(ws, "back", as_of=monday).write(ws.root / "plan")
    (path.parent / "assignments.csv").unlink()
    suppress(ws.ledger, "C0003", "all", "manual", "test", monday)
    with pytest.raises(CampaignError, match="an unknown share"):
        apply_plan_file(ws, path, now=monday)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}'])
def test_a_file_that_is_no_plan_is_refused(shop: Callable[..., Workspace], monday: datetime, text: str) -> None:
    ws = shop()
    path = ws.root / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CampaignError, match="not a plan"):
        apply_plan_file(ws, path, now=monday)
    with pytest.raises(CampaignError, match="no such file"):
        apply_plan_file(ws, ws.root / "nothing.json", now=monday)


def test_a_plan_that_was_edited_by_hand_is_refused(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=20)
    path = plan_campaign(ws, "back", as_of=monday).write(ws.root / "plan")
    path.write_text(path.read_text(encoding="utf-8").replace('"audience": 20', '"audience": 21'), encoding="utf-8")
    with pytest.raises(CampaignError, match="was changed after it was made"):
        apply_plan_file(ws, path, now=monday)
    assert assigned(ws) == {}


def test_a_paused_campaign_is_planned_but_not_applied(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    rewrite(ws, "status: active", "status: paused")
    planned = plan_campaign(ws, "back", as_of=monday)
    assert planned.summary["eligible"] == 60
    with pytest.raises(CampaignError, match="is paused; nothing was recorded"):
        apply_plan(ws, planned, now=monday)


def test_another_design_begins_another_epoch_with_another_draw(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop(customers=200)
    run_campaign(ws, "back", as_of=monday)
    before = assigned(ws)
    rewrite(ws, "horizon: 30 days", "horizon: 20 days")
    rewrite(ws, "orders >= 2\n", "orders >= 2\n  reentry_after: 1 days\n")
    outcome = run_campaign(ws, "back", as_of=monday + timedelta(days=40))
    assert outcome.experiment == "back:2"
    assert outcome.eligible == 200
    with ws.ledger.read() as tx:
        rows = experiments(tx, "back")
        running = current_experiment(tx, "back")
    assert [(r.epoch, r.status, r.end_reason) for r in rows] == [(1, "ended", "design changed"), (2, "running", None)]
    assert running is not None
    assert running.salt != rows[0].salt
    after = assigned(ws)
    assert 0.3 < sum(before[c] != after[c] for c in before) / 200 < 0.9


def test_without_reentry_nobody_takes_part_in_a_second_epoch(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    rewrite(ws, "horizon: 30 days", "horizon: 20 days")
    assert run_campaign(ws, "back", as_of=monday + timedelta(days=40)).skipped == {"reentry_too_soon": 60}


def test_a_reworded_description_does_not_end_an_experiment(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    rewrite(ws, "status: active", "status: active\ndescription: said better")
    assert not plan_campaign(ws, "back", as_of=monday + timedelta(days=7)).epoch.is_new


def test_a_broken_template_is_refused_with_its_place_before_anything_is_recorded(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    (ws.root / "templates" / "sms" / "hello.txt.j2").write_text("Hi\n{{ customer.frist_name }}", encoding="utf-8")
    with pytest.raises(BookErrors) as caught:
        run_campaign(ws, "back", as_of=monday)
    assert "hello.txt.j2:2" in str(caught.value)
    assert "first_name" in str(caught.value)
    assert show_status(ws, None) == []


def test_an_empty_segment_is_a_warning_and_changes_nobody(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    rewrite(ws, "orders >= 2", "orders >= 99")
    summary = plan_campaign(ws, "back", as_of=monday).summary
    assert summary["eligible"] == 0
    assert summary["warnings"][0].startswith("campaigns/book/back.yaml:5:12: the segment of back is empty")
    json.dumps(summary, allow_nan=False)
    outcome = run_campaign(ws, "back", as_of=monday)
    assert (outcome.eligible, outcome.messages, set(outcome.assigned.values())) == (0, 0, {0})
    assert "is empty" in outcome.warnings[0]
    assert show_status(ws, None) == []


def test_a_campaign_budget_counts_what_earlier_runs_promised(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    rewrite(ws, "feedback:", "budget: {messages: 30}\nfeedback:")
    first = run_campaign(ws, "back", as_of=monday)
    assert 25 <= first.messages <= 30
    assert first.skipped["over_budget"] == 60 - first.eligible
    second = run_campaign(ws, "back", as_of=monday + timedelta(days=1))
    assert first.messages + second.messages <= 30


def test_a_budget_of_discounts_counts_what_earlier_runs_promised(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    rewrite(ws, "feedback:", "budget: {discounts: 3 EUR}\nfeedback:")  # 0.30 EUR a customer of the arm mail
    first = run_campaign(ws, "back", as_of=monday)
    assert first.assigned["mail"] == 10
    assert run_campaign(ws, "back", as_of=monday + timedelta(days=1)).assigned["mail"] == 0


def test_rivals_of_a_layer_keep_their_customers(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    path = rewrite(ws, "orders >= 2\n", "orders >= 2\n  exclusive: winback\n")
    rival = path.read_text(encoding="utf-8").replace("campaign: back", "campaign: rival")
    path.with_name("rival.yaml").write_text(rival, encoding="utf-8")
    run_campaign(ws, "back", as_of=monday)
    ws.__dict__.pop("usable_book", None)
    assert run_campaign(ws, "rival", as_of=monday + timedelta(days=1)).skipped == {"rival_campaign": 60}
    ws.__dict__.pop("usable_book", None)
    assert run_campaign(ws, "rival", as_of=monday + timedelta(days=31)).eligible == 60


def test_caps_keep_customers_out_before_the_draw(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    path = rewrite(ws, "feedback:", "caps: {per_customer: 1 per 7 days}\nfeedback:")
    other = path.read_text(encoding="utf-8").replace("campaign: back", "campaign: other")
    path.with_name("other.yaml").write_text(other, encoding="utf-8")
    first = run_campaign(ws, "back", as_of=monday)
    ws.__dict__.pop("usable_book", None)
    second = run_campaign(ws, "other", as_of=monday + timedelta(hours=1))
    assert first.assigned["control"] > 0
    assert second.skipped == {"capped": sum(first.assigned.values())}  # control would have had its messages, too
    assert second.eligible == 0


def test_due_campaigns_are_active_ones_whose_schedule_came_round(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    tuesday = monday + timedelta(hours=20)
    assert due_campaigns(ws, now=tuesday) == [DueCampaign("back", monday)]
    assert due_campaigns(ws, now=monday + timedelta(days=2)) == []
    rewrite(ws, "status: active", "status: draft")
    assert due_campaigns(ws, now=tuesday) == []
    rewrite(ws, 'schedule: {cron: "0 9 * * 1", timezone: UTC}\n', "")
    assert due_campaigns(ws, now=tuesday) == []


def test_a_global_holdout_is_left_out_of_every_campaign(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=300, holdout={"share": "20%"})
    outcome = run_campaign(ws, "back", as_of=monday)
    assert 30 <= outcome.skipped["global_holdout"] <= 90
    assert outcome.eligible + outcome.skipped["global_holdout"] == 300


def test_the_plan_tells_what_it_can_show_from_what_the_segment_did_before(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop(customers=400, bought={n: [(monday - timedelta(days=2), 9.0)] for n in range(80)})
    rewrite(ws, "horizon: 30 days", "horizon: 5 days")
    planned = plan_campaign(ws, "back", as_of=monday)
    power = planned.summary["power"]
    assert (power["metric"], power["history"], power["baseline"]) == ("repurchase", 400, 0.2)
    assert planned.design.planned_n == power["needed_per_arm"] > planned.summary["arms"]["control"]["planned"]
    assert power["detectable"] > 0.1
    assert any("finds the minimum effect with a chance of" in text for text in planned.summary["warnings"])


def test_a_resumed_run_completes_what_a_killed_one_left(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=100)
    planned = plan_campaign(ws, "back", as_of=monday)

    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_plan(ws, planned, now=monday, progress=die)
    outcome = run_campaign(ws, "back", as_of=monday)
    assert not outcome.already_applied
    assert sum(outcome.assigned.values()) == len(assigned(ws)) == 100
    assert replace(outcome, already_applied=True) == run_campaign(ws, "back", as_of=monday)
