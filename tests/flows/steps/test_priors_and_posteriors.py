"""The prior from past campaigns, and the Bayesian view that a campaign may ask for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from experiments.design import Design
from experiments.results import Result
from flows.steps.decide_experiment import decide_experiment
from flows.steps.measure_experiment import measure_experiment
from flows.wiring import Workspace
from warehouse.ledger.experiments import end_experiment, start_experiment
from warehouse.ledger.results import append_decision

Shops = Callable[..., Workspace]
Rewrite = Callable[[Workspace, str, str], object]
DAY = timedelta(days=1)
RIPE = timedelta(days=33)


def remember(ws: Workspace, effects: list[float], *, at: datetime, verdict: str = "inconclusive") -> None:
    """Past experiments, each decided with one arm's effect on repurchase over a control of 10 %."""
    for number, effect in enumerate(effects, start=1):
        name = f"past:{number}"
        design = Design(
            experiment_id=name,
            campaign="past",
            epoch=number,
            salt="s",
            weights=(("a", 0.5), ("control", 0.5)),
            primary="repurchase",
            horizon_days=30.0,
        )
        result = Result(
            metric="repurchase",
            kind="proportion",
            arm="a",
            control="control",
            n_arm=90_000,
            n_control=90_000,
            arm_value=0.1 + effect,
            control_value=0.1,
            difference=effect,
            p_value=0.5,
            se=0.001,
        )
        with ws.ledger.begin() as tx:
            start_experiment(tx, design.to_json(), design_hash=design.content_hash(), started_at=at)
            evidence: dict[str, Any] = {"measurement": {"results": [result.to_json()]}}
            append_decision(tx, name, decided_at=at, verdict=verdict, arm=None, rule_version="1", evidence=evidence)
            end_experiment(tx, name, reason="over", ended_at=at)


def test_without_past_campaigns_the_prior_is_the_minimum_effect(round_of: Shops, monday: datetime) -> None:
    prior = measure_experiment(round_of(customers=200), "back", now=monday + RIPE).prior
    assert prior is not None
    assert prior.past_effects == 0
    assert prior.sd == pytest.approx(0.1)  # 10pp


def test_past_effects_move_the_prior_and_with_it_the_shrunk_lift(round_of: Shops, monday: datetime) -> None:
    hopeful = decide_experiment(round_of(name="hopeful"), "back", now=monday + RIPE).verdict
    ws = round_of(name="sober")
    remember(ws, [0.001] * 30, at=monday - 30 * DAY)
    sober = decide_experiment(ws, "back", now=monday + RIPE)
    assert sober.measurement.prior is not None
    assert sober.measurement.prior.past_effects == 30
    assert sober.measurement.prior.sd < 0.05
    assert hopeful.expected_lift_raw == sober.verdict.expected_lift_raw
    assert 0 < (sober.verdict.expected_lift_shrunk or 0) < (hopeful.expected_lift_shrunk or 0)
    assert sober.measurement.to_json()["prior"]["past_effects"] == 30


def test_experiments_that_were_invalid_or_decided_later_teach_nothing(round_of: Shops, monday: datetime) -> None:
    ws = round_of(customers=200)
    remember(ws, [0.001] * 3, at=monday, verdict="invalid")
    prior = measure_experiment(ws, "back", now=monday + RIPE).prior
    assert prior is not None
    assert prior.past_effects == 0
    assert measure_experiment(ws, "back", now=monday + DAY).prior is None  # control's value is not known yet


def test_a_campaign_may_ask_for_the_chance_to_beat_control(round_of: Shops, monday: datetime, rewrite: Rewrite) -> None:
    ws = round_of(customers=200)
    assert measure_experiment(ws, "back", now=monday + RIPE).to_json()["bayesian"] == []
    rewrite(ws, "  primary: repurchase\n", "  primary: repurchase\n  bayesian: true\n")
    measured = measure_experiment(ws, "back", now=monday + RIPE).to_json()
    assert measured["experiment"] == "back:1"  # it is only another view of the same experiment
    flat, informed = (row for row in measured["bayesian"] if row["arm"] == "mail")
    assert flat["prior"] == "Beta(1, 1) for both shares"
    assert informed["prior"] == "normal, mean 0, sd 0.1 (0 past effects)"
    assert flat["chance_to_beat_control"] > 0.999
    assert flat["loss_of_arm"] < 1e-4 < flat["loss_of_control"]
    assert 0 < informed["mean"] < flat["mean"]
    null = next(row for row in measured["bayesian"] if row["arm"] == "text")
    assert 0.1 < null["chance_to_beat_control"] < 0.9


def test_means_have_normal_posteriors(round_of: Shops, monday: datetime) -> None:
    campaign = (
        "campaign: back\nstatus: active\naudience: {segment: orders >= 2}\n"
        "experiment: {control: 50%, horizon: 30 days, primary: revenue, minimum_effect: 1 EUR, bayesian: true}\n"
        "arms: {mail: {weight: 50%, steps: [{channel: sms, template: hello}]}}\n"
    )
    ws = round_of(customers=200, campaign=campaign)
    rows = measure_experiment(ws, "back", now=monday + RIPE).to_json()["bayesian"]
    assert rows[0]["prior"] == "flat"
    assert rows[0]["low"] < rows[0]["mean"] < rows[0]["high"]


def test_a_file_that_is_gone_asks_for_nothing(round_of: Shops, monday: datetime) -> None:
    ws = round_of(customers=200)
    (ws.root / "campaigns" / "book" / "back.yaml").unlink()
    assert measure_experiment(ws, "back", now=monday + RIPE).to_json()["bayesian"] == []
