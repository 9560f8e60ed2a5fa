"""Laws of a whole analysis: no input makes nan or a warning; order, unit, names and parts of the data do not matter."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import Analysis, Look, Prior, analyze
from experiments.aggregates import Moments
from experiments.analysis import analyze_moments
from experiments.compare_strata import compare_strata
from experiments.errors import ExperimentError
from experiments.health import balance, overlap, srm
from experiments.metrics import parse_metric
from experiments.results import Result

METRICS = ["bought:proportion", "spend:mean", "raw=spend:mean", "per_order=spend/orders:ratio", "per=spend/orders:ratio",
           "back=day/bought:survival"]  # fmt: skip
COVARIATES = {"spend": "before", "per": "before/orders"}
AMOUNTS = st.one_of(
    st.sampled_from([0.0, 0.0, 1.0, -1.0, 5.0, 1e-9, 1e9]), st.floats(-1e12, 1e12), st.floats(-1e60, 1e60)
)
ROW = st.tuples(
    st.sampled_from(["a", "b", "control"]),
    st.sampled_from(["x", "y"]),
    st.booleans(),
    AMOUNTS,
    st.sampled_from([0.0, 0.0, 1.0, 2.0, -1.0]),
    AMOUNTS,
    st.integers(0, 9),
)
NAMES = ("arm", "tier", "bought", "spend", "orders", "before", "day")


def _whole(table: dict[str, Any], **changes: Any) -> Analysis:
    call: dict[str, Any] = {
        "metrics": METRICS, "covariates": COVARIATES, "strata": "tier", "segments": "tier", "expect": {"a": 1, "control": 1},
        "look": Look(number=1, of=3), "bayes": Prior(), "adjust": "dunnett",
        "margins": {"bought": 0.1, "spend": 1.0}, "delivered": "bought",
    }  # fmt: skip
    return analyze(table, arm="arm", control="control", **(call | changes))


def _columns(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    fixed = [("a", "x", True, 1.0, 1.0, 2.0, 1), ("control", "x", False, 0.0, 0.0, 1.0, 2)]
    return {
        name: np.asarray(list(values)) for name, values in zip(NAMES, zip(*[*fixed, *rows], strict=True), strict=True)
    }


@settings(max_examples=80, deadline=None)
@given(st.lists(ROW, max_size=25))
def test_no_table_makes_nan_infinity_or_a_warning(rows: list[tuple[Any, ...]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _whole(_columns(rows))
        json.dumps(found.to_json(), allow_nan=False)
        shown = found._repr_html_()
    assert ">nan<" not in shown
    assert ">inf<" not in shown
    for result in (*found.results, *found.stratified):
        if result.status == "ok":
            assert None not in (result.difference, result.low, result.high, result.p_value, result.relative_lift)
        if result.p_value is not None:
            assert 0.0 <= result.p_value <= 1.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=9))
def test_numbers_too_large_to_square_are_refused_not_turned_into_nan(values: list[float]) -> None:
    table = {"arm": np.resize(["a", "control"], len(values)), "spend": values, "orders": np.roll(values, 1)}
    refused = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = analyze(table, arm="arm", control="control", metrics=["spend:mean", "r=spend/orders:ratio"])
            json.dumps(found.to_json(), allow_nan=False)
        except ExperimentError as error:
            refused = str(error)
    assert not refused or "finite" in refused


def _shop(seed: int, n: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    orders = rng.poisson(1.0, n) + 1.0
    spend = orders * rng.gamma(2.0, 20.0, n)
    return {
        "arm": rng.choice(["a", "b", "control"], n),
        "tier": rng.choice(["x", "y"], n),
        "bought": rng.random(n) < 0.4,
        "spend": spend,
        "orders": orders,
        "before": 0.5 * spend + rng.gamma(2.0, 5.0, n),
        "day": rng.integers(1, 30, n),
    }


def _close(one: float | None, other: float | None, factor: float = 1.0) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one * factor, other, rel_tol=1e-7, abs_tol=1e-9 * max(1.0, abs(factor)))


def _all(found: Analysis) -> list[Result]:
    return [*found.results, *found.stratified, *(e.result for report in found.segments for e in report.effects)]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_customers_changes_nothing(seed: int) -> None:
    table = _shop(seed)
    shuffled = np.random.default_rng(seed + 1).permutation(300)
    there, back = _whole(table), _whole({name: np.asarray(values)[shuffled] for name, values in table.items()})
    assert there.srm == back.srm
    for one, other in zip(_all(there), _all(back), strict=True):
        assert (one.metric, one.arm, one.n_arm, one.status, one.method) == (
            other.metric, other.arm, other.n_arm, other.status, other.method,
        )  # fmt: skip
        for name in ("arm_value", "difference", "low", "high", "p_value", "p_adjusted", "relative_low"):
            assert _close(getattr(one, name), getattr(other, name))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 1000.0))
def test_money_in_another_currency_gives_the_same_tests(seed: int, factor: float) -> None:
    table = _shop(seed)
    plain = _whole(table)
    times = _whole(table | {name: np.asarray(table[name]) * factor for name in ("spend", "before")})
    for one, other in zip(_all(plain), _all(times), strict=True):
        scale = 1.0 if one.metric in ("bought", "back") else factor
        for name in ("arm_value", "control_value", "difference", "low", "high", "se", "lower_95"):
            assert _close(getattr(one, name), getattr(other, name), scale)
        for name in ("p_value", "p_adjusted", "relative_lift", "relative_low", "relative_high"):
            assert _close(getattr(one, name), getattr(other, name))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_swapping_an_arm_with_control_flips_every_sign(seed: int) -> None:
    table = _shop(seed)
    kept = np.asarray(table["arm"]) != "b"
    two = {name: np.asarray(values)[kept] for name, values in table.items()}
    swapped = two | {"arm": np.where(two["arm"] == "a", "control", "a")}
    for one, other in zip(_all(_whole(two)), _all(_whole(swapped)), strict=True):
        assert _close(one.difference, other.difference, -1.0)
        assert _close(one.low, other.high, -1.0)
        assert _close(one.lower_95, other.upper_95, -1.0)
        assert _close(one.p_value, other.p_value)
        assert _close(one.arm_value, other.control_value)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_parts_of_the_customers_add_up_to_the_same_analysis(seed: int, parts: int) -> None:
    table = _shop(seed)
    columns = ("bought", "spend", "before", "orders")
    rows = np.column_stack([np.asarray(table[column], dtype=float) for column in columns])
    part = np.random.default_rng(seed).integers(0, parts, 300)
    added: dict[str, Moments] = {}
    for arm in ("a", "b", "control"):
        mine = table["arm"] == arm
        pieces = [Moments.from_rows(columns, rows[mine & (part == k)]) for k in range(parts)]
        added[arm] = sum(pieces[1:], pieces[0])
    made = analyze_moments(added, control="control", metrics=METRICS[:-1], covariates=COVARIATES)
    whole = analyze(table, arm="arm", control="control", metrics=METRICS[:-1], covariates=COVARIATES)
    for one, other in zip(made.results, whole.results, strict=True):
        for name in ("difference", "low", "high", "p_value", "relative_low"):
            assert _close(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("text", ["x:mean", "x:proportion", "x=x/y:ratio"])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_empty_arms_single_customers_and_constants_have_a_status(text: str, rows: int) -> None:
    metric = replace(parse_metric(text), covariate="y")
    small = Moments.from_rows(("x", "y"), np.ones((rows, 2)))
    arms = {"a": small, "none": Moments.empty(("x", "y")), "control": small}
    for result in compare_strata(metric, {"s": arms, "empty": dict.fromkeys(arms, arms["none"])}, control="control"):
        assert result.status in ("insufficient_data", "zero_variance", "no_control")
        assert result.p_value is None
    assert balance(arms, control="control") is None
    assert srm({"a": 0, "control": 0}, {"a": 1, "control": 1}).p_value is None
    assert overlap({"a": {}, "control": {}}).p_value is None
