"""Shares that are learnt from wave to wave: analysed by wave, tested by wave, and never promoted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.aggregates import Moments
from experiments.bandit import next_weights
from experiments.compare import compare, compare_all
from experiments.compare_strata import compare_strata
from experiments.compare_waves import compare_waves, usable_waves
from experiments.decide import decide
from experiments.design import Design, Effect
from experiments.errors import ExperimentError
from experiments.evidence import Evidence
from experiments.health import srm, srm_by_stratum, srm_within
from experiments.metrics import Metric
from experiments.proportions import Counts

ARMS = ("a", "b", "control")
DESIGN = Design(
    experiment_id="c:1",
    campaign="c",
    salt="s",
    weights=(("a", 0.4), ("b", 0.4), ("control", 0.2)),
    primary="repurchase",
    metrics=("revenue", "spend_per_order"),
    horizon_days=30.0,
    minimum_effect=Effect(0.02),
    allocation="thompson",
)
Strata = dict[str, dict[str, Moments]]


def _wave(rng: np.random.Generator, shares: dict[str, float], rates: dict[str, float], size: int) -> dict[str, Moments]:
    drawn = rng.choice(len(shares), size=size, p=list(shares.values()))
    found = {}
    for place, arm in enumerate(shares):
        bought = (rng.random(int((drawn == place).sum())) < rates[arm]).astype(float)
        spent = bought * rng.gamma(2.0, 15.0, bought.size)
        found[arm] = Moments.from_rows(("repurchase", "revenue", "orders"), np.column_stack([bought, spent, bought]))
    return found


def _campaign(rng: np.random.Generator, lifts: dict[str, float], *, waves: int = 6, size: int = 3000) -> Strata:
    """Waves whose base rate falls from 40 % to 10 %, with shares learnt from the waves before."""
    strata: Strata = {}
    counts: list[dict[str, Counts]] = []
    for number in range(waves):
        base = 0.4 - 0.3 * number / (waves - 1)
        shares = dict(next_weights(DESIGN.weights, counts))
        strata[f"w{number}"] = _wave(rng, shares, {arm: base + lifts.get(arm, 0.0) for arm in ARMS}, size)
        counts.append({arm: Counts(round(m.sum("repurchase")), m.n) for arm, m in strata[f"w{number}"].items()})
    return strata


def _pooled(strata: Strata) -> dict[str, Moments]:
    whole: dict[str, Moments] = {}
    for arms in strata.values():
        for arm, part in arms.items():
            whole[arm] = whole[arm] + part if arm in whole else part
    return whole


def test_simpsons_trap_is_what_naive_pooling_falls_into_and_strata_of_wave_do_not() -> None:
    # b is better than control by two points in every wave, but got its customers when hardly anybody bought
    waves = {
        "good": {"a": (2000, 0.40), "b": (2000, 0.42), "control": (16000, 0.40)},
        "poor": {"a": (2000, 0.10), "b": (16000, 0.12), "control": (2000, 0.10)},
    }
    strata = {
        name: {arm: Moments.from_counts("repurchase", n, round(n * share)) for arm, (n, share) in sides.items()}
        for name, sides in waves.items()
    }
    design = replace(DESIGN, metrics=())
    naive = {r.arm: r for r in compare_all(design, _pooled(strata))}
    ours = {r.arm: r for r in compare_waves(design, strata)}
    assert naive["b"].difference == pytest.approx(-0.2133, abs=1e-3)
    assert naive["b"].p_value is not None
    assert naive["b"].p_value < 1e-6  # surely harmful, says the pool
    assert ours["b"].difference == pytest.approx(0.02)
    assert ours["b"].p_adjusted is not None
    assert ours["b"].p_adjusted < 0.05
    assert ours["a"].difference == pytest.approx(0.0)


def test_learnt_shares_keep_the_error_rate_within_waves_and_break_it_when_pooled() -> None:
    """400 campaigns without any effect: 5 % false alarms an arm by wave (within 3 standard errors), far more pooled."""
    rng, alarms, pooled = np.random.default_rng(20261), 0, 0
    for _ in range(400):
        strata = _campaign(rng, {}, size=1200)
        alarms += sum(r.p_value is not None and r.p_value <= 0.05 for r in _primary(compare_waves(DESIGN, strata)))
        pooled += sum(
            r.p_value is not None and r.p_value <= 0.05 for r in _primary(compare_all(DESIGN, _pooled(strata)))
        )
    assert 0.028 < alarms / 800 < 0.072
    assert pooled / 800 > 0.2


def test_learnt_shares_do_not_move_the_estimate_of_any_metric() -> None:
    """200 campaigns with two points for b: the mean of the estimates is the truth within 3 of its standard errors."""
    rng, found = np.random.default_rng(7), []
    for _ in range(200):
        results = compare_waves(DESIGN, _campaign(rng, {"b": 0.02}, size=1200))
        found.append({(r.metric, r.arm): r.difference for r in results})
    for key, truth in {
        ("repurchase", "b"): 0.02,
        ("repurchase", "a"): 0.0,
        ("revenue", "b"): 0.6,
        ("spend_per_order", "b"): 0.0,
    }.items():
        values = np.array([one[key] for one in found], dtype=float)
        assert abs(values.mean() - truth) < 3 * values.std(ddof=1) / np.sqrt(values.size), key


def _primary(results: list) -> list:
    return [result for result in results if result.metric == DESIGN.primary]


def test_a_wave_too_small_to_be_a_stratum_is_left_out_by_its_size_alone() -> None:
    sizes = {"w0": {"a": 400, "b": 400, "control": 200}, "w1": {"a": 9, "b": 40, "control": 20}}
    assert usable_waves(DESIGN, sizes) == (["w0"], ["w1"])
    part = {arm: Moments.from_counts("repurchase", n, n // 4) for arm, n in sizes["w0"].items()}
    small = {arm: Moments.from_counts("repurchase", n, n) for arm, n in sizes["w1"].items()}
    design = replace(DESIGN, metrics=())
    assert compare_waves(design, {"w0": part, "w1": small}) == compare_waves(design, {"w0": part})
    assert {r.status for r in compare_waves(design, {"w1": small})} == {"insufficient_data"}
    assert {r.status for r in compare_waves(design, {})} == {"not_measured"}


def test_the_split_is_tested_against_the_shares_of_each_wave() -> None:
    waves = [
        ({"a": 400, "b": 400, "control": 200}, dict(DESIGN.weights)),
        ({"a": 100, "b": 800, "control": 100}, {"a": 0.1, "b": 0.8, "control": 0.1}),
    ]
    total = {arm: sum(observed[arm] for observed, _ in waves) for arm in ARMS}
    assert not srm(total, dict(DESIGN.weights)).healthy
    assert srm_within(waves).p_value == pytest.approx(1.0)
    assert srm_within(waves).df == 4
    moved = [waves[0], ({"a": 100, "b": 800, "control": 200}, waves[1][1])]
    assert not srm_within(moved).healthy
    own = srm_by_stratum({"w0": waves[0][0], "w1": waves[1][0]}, dict(DESIGN.weights), own={"w1": waves[1][1]})
    assert [test.p_value for test in own.values()] == [pytest.approx(1.0), pytest.approx(1.0)]
    assert srm_within([({"z": 5}, {"a": 1.0})]).p_value == 0.0
    assert srm_within([]).p_value is None


def test_a_learnt_winner_is_reviewed_and_told_to_be_confirmed_with_fixed_shares() -> None:
    strata = _campaign(np.random.default_rng(3), {"b": 0.08}, size=6000)
    sizes = {arm: part.n for arm, part in _pooled(strata).items()}
    verdict = decide(
        Evidence(
            design=replace(DESIGN, metrics=(), planned_n=2000),
            results=tuple(compare_waves(replace(DESIGN, metrics=()), strata)),
            assigned=sizes,
            mature=sizes,
            delivered={"a": 0.97, "b": 0.97},
        )
    )
    assert (verdict.verdict, verdict.arm) == ("review", "b")
    (reason,) = (reason for reason in verdict.failed if reason.arm in (None, "b"))
    assert (reason.gate, reason.code) == ("feedback", "needs_fixed_confirmation")
    assert "experiment.allocation: fixed with arms: b and control only" in reason.text
    planned = next(reason for reason in verdict.reasons if reason.code == "planned_size")
    assert (planned.value, planned.threshold) == (36_000.0, pytest.approx(0.95 * 10_000))
    assert planned.text.startswith("all arms together have")


def _before_and_after(rng: np.random.Generator, n: int, shift: float) -> Moments:
    """Customers whose spending per order before says most of that after; `shift` raises the level of both."""
    orders, earlier = rng.poisson(3.0, n) + 1.0, rng.poisson(3.0, n) + 1.0
    level = rng.normal(20.0 + shift, 5.0, n)
    columns = np.column_stack([orders * level, orders, earlier * (level + rng.normal(0.0, 1.0, n)), earlier])
    return Moments.from_rows(("revenue", "orders", "pre_revenue", "pre_orders"), columns)


def test_a_ratio_is_adjusted_by_its_ratio_before_within_strata_too() -> None:
    rng = np.random.default_rng(4)
    metric = Metric("per_order", "ratio", ("revenue", "orders"), covariate="pre_revenue/pre_orders")
    one = {arm: _before_and_after(rng, 2000, 0.0) for arm in ("mail", "control")}
    (alone,) = compare(metric, one, control="control")
    (single,) = compare_strata(metric, {"s": one}, control="control")
    assert single.difference == pytest.approx(alone.difference)
    assert single.se == pytest.approx(alone.se, rel=1e-6)
    assert single.method.startswith("CUPED")
    strata = {
        str(shift): {arm: _before_and_after(rng, n, shift) for arm, n in sizes.items()}
        for shift, sizes in {0.0: {"mail": 3000, "control": 500}, 15.0: {"mail": 500, "control": 3000}}.items()
    }
    (adjusted,) = compare_strata(metric, strata, control="control")
    (plain,) = compare_strata(Metric("per_order", "ratio", ("revenue", "orders")), strata, control="control")
    assert adjusted.low is not None
    assert adjusted.low < 0.0 < (adjusted.high or 0.0)  # no effect, however the strata are shared out
    assert (adjusted.se or 0.0) < 0.85 * (plain.se or 0.0)


def test_a_metric_nobody_knows_is_refused_by_its_name() -> None:
    strata = {"w0": {arm: Moments.from_counts("repurchase", 100, 20) for arm in ARMS}}
    with pytest.raises(ExperimentError, match="metric 'satisfaction' is not known; known are repurchase"):
        compare_waves(replace(DESIGN, metrics=("satisfaction",)), strata)
