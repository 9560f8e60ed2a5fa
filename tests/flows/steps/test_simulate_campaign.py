"""Simulation: the campaign's own design on its own past, repeatable, and stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from experiments.errors import ExperimentError
from flows.steps.simulate_campaign import simulate_campaign
from flows.wiring import Workspace

Shops = Callable[..., Workspace]
Rewrite = Callable[[Workspace, str, str], object]
DAY = timedelta(days=1)

CAMPAIGN = """\
campaign: back
status: active
audience: {segment: recency_days >= 20 and orders >= 2}
experiment:
  control: 50%
  horizon: 30 days
  primary: repurchase
  guardrails: {unsubscribed: {max_increase: 5pp}}
  minimum_effect: 10pp
arms:
  text: {weight: 50%, steps: [{channel: sms, template: hello}]}
"""


@pytest.fixture
def past(shop: Shops, monday: datetime) -> Workspace:
    """1,600 customers, of whom a fifth bought in the 30 days before a horizon and a lateness ago."""
    bought = {n: [(monday - 20 * DAY, 25.0)] for n in range(0, 1600, 5)}
    return shop(customers=1600, campaign=CAMPAIGN, bought=bought)


def test_a_design_is_replayed_on_the_customers_whom_a_past_run_would_have_met(
    past: Workspace, monday: datetime
) -> None:
    told: list[tuple[str, int, int]] = []
    done = simulate_campaign(past, "back", as_of=monday, runs=12, seed=3, progress=lambda *state: told.append(state))
    shown = done.to_json()
    assert shown["customers"] == 1600
    assert shown["waves"] == [{"as_of": (monday - 33 * DAY).isoformat(), "customers": 1600}]
    none, effect, harm = shown["scenarios"]
    assert [s["scenario"] for s in shown["scenarios"]] == ["none", "minimum_effect", "harm"]
    assert none["false_promotion"] <= 1 / 12
    assert none["power"] is None
    assert effect["power"] >= 0.8  # 800 in each arm, 20 % against 30 %
    assert effect["decision_on"] == (monday + 33 * DAY).date().isoformat()
    assert 0.5 < effect["claimed_over_true"] < 2
    assert harm["stop_harm"] > 0.5
    assert harm["false_promotion"] == 0
    assert told[0] == ("none", 1, 12)
    assert told[-1] == ("harm", 12, 12)


def test_the_same_seed_gives_the_same_file_and_another_one_another(past: Workspace, monday: datetime) -> None:
    first = simulate_campaign(past, "back", as_of=monday, runs=3, seed=3)
    before = first.path.read_bytes()
    assert json.loads(before) == first.to_json()
    assert simulate_campaign(past, "back", as_of=monday, runs=3, seed=3).path.read_bytes() == before
    other = simulate_campaign(past, "back", as_of=monday, runs=3, seed=4)
    assert other.path != first.path
    assert other.to_json()["scenarios"] != first.to_json()["scenarios"]


def test_a_schedule_is_replayed_run_by_run_and_its_limit_kept(
    past: Workspace, monday: datetime, rewrite: Rewrite
) -> None:
    rewrite(past, "status: active\n", 'status: active\nschedule: {cron: "0 9 * * 1", timezone: UTC}\n')
    rewrite(past, "orders >= 2}", "orders >= 1, limit: 300}")
    waves = simulate_campaign(past, "back", as_of=monday, runs=1, seed=1).to_json()["waves"]
    assert len(waves) > 1
    assert all(wave["customers"] <= 300 for wave in waves)
    assert {datetime.fromisoformat(wave["as_of"]).weekday() for wave in waves} == {0}
    assert max(wave["as_of"] for wave in waves) <= (monday - 33 * DAY).isoformat()


def test_a_past_that_is_too_small_is_refused(shop: Shops, monday: datetime) -> None:
    ws = shop(customers=50, campaign=CAMPAIGN)
    with pytest.raises(
        ExperimentError, match="past runs would have met 50 customers, a simulation needs 200; load more"
    ):
        simulate_campaign(ws, "back", as_of=monday, runs=1, seed=1)


def test_arms_without_a_share_are_left_out(past: Workspace, monday: datetime, rewrite: Rewrite) -> None:
    rewrite(past, "arms:\n", "arms:\n  gone: {weight: 0%, steps: [{channel: sms, template: hello}]}\n")
    done = simulate_campaign(past, "back", as_of=monday, runs=1, seed=1)
    assert done.design.arms == ("text",)
