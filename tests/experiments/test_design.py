"""A design reads back as it was written, and its hash stands for what was agreed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from experiments.design import Design, Effect, Guardrail
from experiments.errors import ExperimentError
from experiments.metrics import METRICS, Metric, find_metric, parse_metric
from experiments.results import Result

DESIGN = Design(
    experiment_id="e1",
    campaign="winback",
    salt="s",
    weights=(("a", 0.4), ("b", 0.4), ("control", 0.2)),
    primary="repurchase",
    horizon_days=30,
    metrics=("revenue", "margin"),
    guardrails=(Guardrail("unsubscribed", max_increase_abs=0.005), Guardrail("margin", max_decrease_abs=1.0)),
    minimum_effect=Effect(0.015),
    looks=4,
)


def test_json_gives_the_same_design_back() -> None:
    assert Design.from_json(json.loads(json.dumps(DESIGN.to_json()))) == DESIGN


def test_the_hash_ignores_identity_and_nothing_else() -> None:
    same = replace(DESIGN, experiment_id="e2", epoch=2, salt="other", planned_n=900)
    assert same.content_hash() == DESIGN.content_hash()
    assert replace(DESIGN, alpha=0.1).content_hash() != DESIGN.content_hash()


def test_arms_leave_control_out_and_metrics_come_once() -> None:
    assert DESIGN.arms == ("a", "b")
    assert DESIGN.all_metrics() == ("repurchase", "revenue", "margin", "unsubscribed")


def test_margins_know_the_harmful_direction() -> None:
    assert [(guard.margin, guard.harm_sign) for guard in DESIGN.guardrails] == [(0.005, 1), (1.0, -1)]
    assert Effect(0.1, "relative").absolute(0.3) == pytest.approx(0.03)
    for bad in ({}, {"max_increase_abs": 0.1, "max_decrease_abs": 0.1}, {"max_increase_abs": -1.0}):
        with pytest.raises(ExperimentError, match="exactly one positive"):
            Guardrail("m", **bad)


@pytest.mark.parametrize(
    "change", [{"control": "none"}, {"alpha": 0.0}, {"power": 1.0}, {"looks": 0}, {"horizon_days": 0.0}]
)
def test_a_design_that_cannot_be_run_is_refused(change: dict) -> None:
    with pytest.raises(ExperimentError, match="design winback"):
        replace(DESIGN, **change)


def test_unreadable_json_is_refused_with_the_reason() -> None:
    with pytest.raises(ExperimentError, match="read back"):
        Design.from_json({"campaign": "x"})
    with pytest.raises(ExperimentError, match="surprise"):
        Design.from_json({**DESIGN.to_json(), "surprise": 1})


def test_metrics_say_what_they_need() -> None:
    assert METRICS["spend_per_order"].needs == ("revenue", "orders")
    assert METRICS["revenue"].needs == ("revenue", "pre_revenue")
    assert all(metric.definition and metric.unit for metric in METRICS.values())
    assert find_metric("orders").column == "orders"
    with pytest.raises(ExperimentError, match="known are repurchase"):
        find_metric("ordres")


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("visit:proportion", Metric("visit", "proportion", ("visit",))),
        ("aov=revenue/orders:ratio", Metric("aov", "ratio", ("revenue", "orders"))),
        ("back=days/bought:survival", Metric("back", "survival", ("days", "bought"))),
    ],
)
def test_metric_texts_are_read(text: str, metric: Metric) -> None:
    assert parse_metric(text) == metric


@pytest.mark.parametrize("text", ["visit", "visit:share", ":mean", "a/b:mean", "aov=revenue:ratio", "a=/b:ratio"])
def test_metric_texts_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ExperimentError, match=r"metric"):
        parse_metric(text)


def test_a_result_never_holds_nan() -> None:
    result = Result(metric="m", kind="mean", arm="a", control="c", n_arm=1, n_control=1, difference=float("nan"))
    assert result.difference is None
    assert Result.from_json({**result.to_json(), "new": 1}) == result


def test_the_room_is_imported_without_scipy_or_pandas() -> None:
    names = "assign aggregates design results metrics"
    code = "import sys, experiments; " + "; ".join(f"import experiments.{name}" for name in names.split())
    code += "; print([m for m in ('scipy', 'pandas', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
