"""Comparisons keep the laws of arithmetic, choose their method by the rule, and answer with a status, never nan."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.aggregates import Moments
from experiments.compare import compare, compare_all, counts_of
from experiments.compare_strata import compare_strata
from experiments.design import Design, Guardrail
from experiments.errors import ExperimentError
from experiments.metrics import METRICS, Metric
from experiments.results import Result

SHARE = Metric("bought", "proportion", ("bought",))
SPEND = Metric("spend", "mean", ("spend",))
PER_ORDER = Metric("per_order", "ratio", ("spend", "orders"))


def _pair(arm: Moments, control: Moments) -> dict[str, Moments]:
    return {"arm": arm, "control": control}


def _counts(arm: tuple[int, int], control: tuple[int, int]) -> dict[str, Moments]:
    return _pair(Moments.from_counts("bought", arm[1], arm[0]), Moments.from_counts("bought", control[1], control[0]))


def _one(metric: Metric, arms: dict[str, Moments], alpha: float = 0.05) -> Result:
    return compare(metric, arms, control="control", alpha=alpha)[0]


def _rows(*columns: str, seed: int, n: int = 60) -> Moments:
    rng = np.random.default_rng(seed)
    orders = rng.poisson(1.2, n).astype(float)
    spend = orders * rng.gamma(2.0, 20.0, n)
    values = {"spend": spend, "orders": orders, "pre": 0.6 * spend + rng.normal(0, 10, n)}
    return Moments.from_rows(columns, np.column_stack([values[column] for column in columns]))


def test_shares_use_the_score_test_and_the_log_scale() -> None:
    result = _one(SHARE, _counts((245, 1010), (200, 1000)))
    # statsmodels 0.15.0 test_proportions_2indep(method="score") and compare="ratio", method="log"
    assert result.p_value == pytest.approx(0.021558616212293196, rel=1e-9)
    assert (result.relative_low, result.relative_high) == pytest.approx((0.028333476071375596, 0.4305250129182374))
    assert result.method == "score (Miettinen-Nurminen)"
    assert result.status == "ok"


def test_small_counts_use_an_exact_test() -> None:
    assert _one(SHARE, _counts((3, 40), (11, 42))).method == "score (Miettinen-Nurminen)"
    boschloo = _one(SHARE, _counts((0, 20), (5, 20)))
    assert boschloo.method == "Boschloo exact; score interval"
    fisher = _one(SHARE, _counts((3, 4000), (9, 400)))
    # scipy 1.17.1 fisher_exact([[3, 3997], [9, 391]])
    assert fisher.method == "Fisher exact; score interval"
    assert fisher.p_value == pytest.approx(6.68834036976943e-08, rel=1e-9)


def test_means_use_welch_and_fieller() -> None:
    arms = _pair(
        Moments.from_summary(("spend",), 505, [47.9], [[61.7**2]]),
        Moments.from_summary(("spend",), 480, [41.2], [[55.3**2]]),
    )
    result = _one(SPEND, arms)
    # scipy 1.17.1 ttest_ind_from_stats(equal_var=False), vector welch_t_stats
    assert result.p_value == pytest.approx(0.07272754204746751, rel=1e-9)
    assert (result.low, result.high) == pytest.approx((-0.6187927507859738, 14.018792750785966))
    assert result.relative_lift == pytest.approx(47.9 / 41.2 - 1)
    assert result.method == "Welch t"


def test_fieller_excludes_zero_exactly_when_the_difference_does() -> None:
    for seed in range(60):
        result = _one(SPEND, _pair(_rows("spend", seed=seed), _rows("spend", seed=1000 + seed)))
        assert result.low is not None
        assert result.high is not None
        if result.relative_low is not None and result.relative_high is not None:
            assert (result.low > 0) == (result.relative_low > 0)
            assert (result.high < 0) == (result.relative_high < 0)


def test_lopsided_skewed_money_is_not_given_to_welch() -> None:
    rng = np.random.default_rng(9)
    money = {"arm": rng.lognormal(0, 2, 2000), "control": rng.lognormal(0, 2, 200)}
    full = {name: Moments.from_rows(("spend",), values) for name, values in money.items()}
    assert _one(SPEND, full).method == "permutation moments (lopsided arms, skewed)"
    plain = {name: Moments.from_summary(("spend",), v.size, [v.mean()], [[v.var(ddof=1)]]) for name, v in money.items()}
    assert _one(SPEND, plain).method == "pooled t (lopsided arms)"
    even = {"arm": full["control"], "control": full["control"]}
    assert _one(SPEND, even).method == "Welch t"
    tame = {name: Moments.from_rows(("spend",), rng.normal(5, 1, n)) for name, n in (("arm", 2000), ("control", 200))}
    assert _one(SPEND, tame).method == "Welch t"


def test_a_covariate_is_used_where_every_arm_has_it() -> None:
    metric = Metric("spend", "mean", ("spend",), covariate="pre")
    arms = _pair(_rows("spend", "pre", seed=1, n=400), _rows("spend", "pre", seed=2, n=400))
    adjusted, raw = _one(metric, arms), _one(SPEND, arms)
    assert adjusted.method == "CUPED, Welch t"
    assert adjusted.se is not None
    assert raw.se is not None
    assert adjusted.se < 0.7 * raw.se
    without = _pair(arms["arm"], arms["control"].select(("spend",)))
    assert _one(metric, without).method == "Welch t"


def test_control_reads_the_same_in_every_adjusted_comparison() -> None:
    metric = Metric("spend", "mean", ("spend",), covariate="pre")
    arms = {name: _rows("spend", "pre", seed=seed) for seed, name in enumerate(("a", "b", "control"))}
    first, second = compare(metric, arms, control="control", alpha=0.05)
    assert first.control_value == second.control_value


def test_a_ratio_is_adjusted_by_its_ratio_before() -> None:
    rng = np.random.default_rng(5)
    arms = {}
    for name in ("arm", "control"):
        taste = rng.gamma(8.0, 2.5, 900)  # what a customer spends per order, then and now
        orders, before = rng.poisson(2.0, 900) + 1.0, rng.poisson(2.0, 900) + 1.0
        rows = [orders * (taste + rng.normal(0, 3, 900)), orders, before * (taste + rng.normal(0, 3, 900)), before]
        arms[name] = Moments.from_rows(("spend", "orders", "pre_spend", "pre_orders"), np.column_stack(rows))
    adjusted = _one(replace(PER_ORDER, covariate="pre_spend/pre_orders"), arms)
    raw = _one(PER_ORDER, arms)
    assert adjusted.method == "CUPED, delta method, Welch t"
    assert adjusted.se is not None
    assert raw.se is not None
    assert adjusted.se < 0.8 * raw.se
    never = {name: m.scale({"pre_orders": 0.0}) for name, m in arms.items()}
    assert _one(replace(PER_ORDER, covariate="pre_spend/pre_orders"), never).method == "delta method, Welch t"
    with pytest.raises(ExperimentError, match="numerator/denominator"):
        replace(PER_ORDER, covariate="a/b/c")


def test_p_values_of_several_arms_are_holm_adjusted() -> None:
    arms = {name: Moments.from_counts("bought", 1000, x) for name, x in (("a", 245), ("b", 230), ("control", 200))}
    first, second = compare(SHARE, arms, control="control", alpha=0.05)
    assert first.p_value is not None
    assert second.p_value is not None
    assert first.p_adjusted == pytest.approx(2 * first.p_value)
    assert second.p_adjusted == pytest.approx(max(second.p_value, 2 * first.p_value))


@pytest.mark.parametrize(
    ("arms", "status"),
    [
        (_counts((0, 0), (3, 10)), "insufficient_data"),
        (_counts((1, 1), (0, 1)), "insufficient_data"),
        (_counts((0, 50), (0, 50)), "zero_variance"),
        (_counts((50, 50), (50, 50)), "zero_variance"),
        (_counts((5, 50), (0, 50)), "relative_undefined"),
        (_counts((0, 50), (5, 50)), "relative_undefined"),
        (_counts((50, 50), (20, 50)), "ok"),
    ],
)
def test_extreme_shares_have_a_status(arms: dict, status: str) -> None:
    result = _one(SHARE, arms)
    assert result.status == status
    if status not in ("ok", "relative_undefined"):
        assert (result.low, result.high, result.p_value, result.relative_lift) == (None,) * 4


def test_nobody_converting_still_bounds_the_difference_for_guardrails() -> None:
    result = _one(SHARE, _counts((0, 1000), (0, 1000)))
    assert result.upper_95 is not None
    assert 0.001 < result.upper_95 < 0.004


@pytest.mark.parametrize(
    ("arm", "control", "status"),
    [
        ([1.0, 2.0], [-1.0, -4.0], "relative_undefined"),
        ([1.0, 2.0], [1.0, -1.0], "relative_undefined"),
        ([3.0, 3.0], [3.0, 3.0, 3.0], "zero_variance"),
        ([0.1] * 7, [0.1] * 3, "zero_variance"),
        ([5.0], [1.0, 2.0], "insufficient_data"),
        ([5.0, 5.0], [1.0, 2.0], "relative_undefined"),
        ([5.0, 6.0, 5.5], [1.0, 1.1, 1.2], "ok"),
    ],
)
def test_extreme_means_have_a_status(arm: list, control: list, status: str) -> None:
    result = _one(SPEND, _pair(Moments.from_rows(("spend",), arm), Moments.from_rows(("spend",), control)))
    assert result.status == status


def test_missing_control_missing_columns_and_empty_ratios_have_a_status() -> None:
    some = Moments.from_rows(("spend", "orders"), [[1.0, 0.0], [2.0, 0.0]])
    assert compare(SPEND, {"arm": some}, control="control")[0].status == "no_control"
    assert _one(SHARE, _pair(some, some)).status == "not_measured"
    assert _one(PER_ORDER, _pair(some, some)).status == "insufficient_data"
    single = Moments.from_rows(("spend", "orders"), [[1.0, 2.0]])
    assert _one(PER_ORDER, _pair(single, some)).arm_value == 0.5


def test_a_ratio_over_next_to_nothing_is_not_comparable() -> None:
    sides = [Moments.from_rows(("spend", "orders"), [[v, 1e-60], [2 * v, 3e-60], [0.0, 2e-60]]) for v in (1e50, 1e51)]
    result = _one(PER_ORDER, _pair(*sides))
    assert (result.status, result.p_value) == ("not_comparable", None)
    assert compare_strata(PER_ORDER, {"s": _pair(*sides)}, control="control")[0].status == "not_comparable"


def test_one_customer_alone_is_a_proportion_too() -> None:
    metric = METRICS["repurchase"]
    for bought in (0, 1):
        counts = counts_of(Moments.from_counts(metric.column, 1, bought), metric)
        assert (counts.successes, counts.n) == (bought, 1)
    with pytest.raises(ExperimentError, match="0 and 1"):
        counts_of(Moments.from_rows((metric.column,), [[0.5]]), metric)


def test_a_proportion_of_other_values_is_refused() -> None:
    with pytest.raises(ExperimentError, match="0 and 1"):
        _one(SHARE, _pair(Moments.from_rows(("bought",), [0.5, 0.5]), Moments.from_rows(("bought",), [0.0, 1.0])))


NUMBERS = st.lists(st.one_of(st.just(0.0), st.floats(-1e6, 1e6)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(NUMBERS, NUMBERS)
def test_no_input_makes_nan_or_a_warning(arm: list, control: list) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arms = _pair(
            Moments.from_rows(("spend", "orders"), [(v, abs(v)) for v in arm]),
            Moments.from_rows(("spend", "orders"), [(v, 1.0) for v in control]),
        )
        for metric in (SPEND, PER_ORDER, Metric("spend", "mean", ("spend",), covariate="orders")):
            for value in _one(metric, arms).to_json().values():
                assert not isinstance(value, float) or math.isfinite(value)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_no_counts_make_nan_or_a_warning_and_swapping_arms_flips_signs(a: int, b: int, c: int, d: int) -> None:
    first, second = (min(a, b), max(a, b)), (min(c, d), max(c, d))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there, back = _one(SHARE, _counts(first, second)), _one(SHARE, _counts(second, first))
    for value in there.to_json().values():
        assert not isinstance(value, float) or math.isfinite(value)
    if there.usable:
        assert there.difference == pytest.approx(-(back.difference or 0.0), abs=1e-12)
        assert there.low == pytest.approx(-(back.high or 0.0), abs=1e-9)
        assert there.p_value == pytest.approx(back.p_value, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 1000.0), st.integers(0, 10_000))
def test_scaling_money_scales_effects(factor: float, seed: int) -> None:
    arms = _pair(_rows("spend", "orders", seed=seed), _rows("spend", "orders", seed=seed + 1))
    scaled = {name: moments.scale({"spend": factor}) for name, moments in arms.items()}
    for metric in (SPEND, PER_ORDER):
        plain, times = _one(metric, arms), _one(metric, scaled)
        assert times.difference == pytest.approx(factor * (plain.difference or 0.0), rel=1e-9, abs=1e-9 * factor)
        assert times.p_value == pytest.approx(plain.p_value, rel=1e-9)
        assert times.relative_lift == pytest.approx(plain.relative_lift, rel=1e-9, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_swapping_arms_flips_the_sign_of_means(seed: int) -> None:
    first, second = _rows("spend", "orders", seed=seed), _rows("spend", "orders", seed=seed + 1)
    for metric in (SPEND, PER_ORDER):
        there, back = _one(metric, _pair(first, second)), _one(metric, _pair(second, first))
        assert there.difference == pytest.approx(-(back.difference or 0.0))
        assert there.lower_95 == pytest.approx(-(back.upper_95 or 0.0))
        assert there.p_value == pytest.approx(back.p_value)


def test_a_design_is_compared_metric_by_metric_from_both_sources() -> None:
    design = Design(
        experiment_id="e", campaign="c", salt="s", weights=(("a", 0.5), ("control", 0.5)), primary="repurchase",
        horizon_days=30, metrics=("revenue", "margin"), guardrails=(Guardrail("unsubscribed", max_increase_abs=0.01),),
        covariates=(("revenue", "before"),),
    )  # fmt: skip
    rng = np.random.default_rng(3)
    facts = {}
    for arm in ("a", "control"):
        bought = rng.random(200) < 0.3
        spend = bought * rng.gamma(2, 20, 200)
        facts[arm] = Moments.from_rows(
            ("repurchase", "revenue", "before"), np.column_stack([bought, spend, spend / 2 + rng.normal(0, 9, 200)])
        )
    ledger = {arm: Moments.from_counts("unsubscribed", 200, 4) for arm in facts}
    results = {result.metric: result for result in compare_all(design, facts, more=[ledger])}
    assert list(results) == ["repurchase", "revenue", "margin", "unsubscribed"]
    assert results["margin"].status == "not_measured"
    assert results["revenue"].method.startswith("CUPED")
    assert results["unsubscribed"].n_arm == 200
    assert {metric for metric in results if metric in METRICS} == set(results)
    with pytest.raises(ExperimentError, match="not known"):
        compare_all(design, facts, metrics={})
