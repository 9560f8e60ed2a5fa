"""Simulated error rates, seeded: intervals cover, planned power is reached, alarms are rarely false."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from experiments.aggregates import Moments, SurvivalCounts
from experiments.compare import compare
from experiments.compare_strata import compare_strata
from experiments.means import Sample, welch
from experiments.metrics import Metric
from experiments.multiplicity import holm
from experiments.power import sample_size_mean, sample_size_proportion
from experiments.sequential import sequence_one_sided
from experiments.survival import rmst_difference

RUNS = 2000  # standard error of a coverage of 95 %: 0.5 points
SHARE = Metric("x", "proportion", ("x",))
MEAN = Metric("x", "mean", ("x",))
CUPED = Metric("x", "mean", ("x",), covariate="pre")
RATIO = Metric("r", "ratio", ("x", "y"))
CUPED_RATIO = Metric("r", "ratio", ("x", "y"), covariate="pre/pre_y")

Draw = Callable[[np.random.Generator], tuple[dict[str, Moments], float, float]]


def _shares(n_arm: int, n_control: int, p_arm: float, p_control: float) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[dict[str, Moments], float, float]:
        arms = {
            "a": Moments.from_counts("x", n_arm, int(rng.binomial(n_arm, p_arm))),
            "control": Moments.from_counts("x", n_control, int(rng.binomial(n_control, p_control))),
        }
        return arms, p_arm - p_control, p_arm / p_control - 1.0

    return draw


def _money(n_arm: int, n_control: int) -> Draw:
    """Spend of which 70 % is 0 and the rest exponential with mean 40 and 44: mean 12 and 13.2."""

    def side(rng: np.random.Generator, n: int, mean: float) -> np.ndarray:
        return (rng.random(n) < 0.3) * rng.exponential(mean, n)

    def draw(rng: np.random.Generator) -> tuple[dict[str, Moments], float, float]:
        sides = {"a": side(rng, n_arm, 44.0), "control": side(rng, n_control, 40.0)}
        return {name: Moments.from_rows(("x",), values) for name, values in sides.items()}, 1.2, 0.1

    return draw


def _with_history(rng: np.random.Generator) -> tuple[dict[str, Moments], float, float]:
    arms = {}
    for name, effect in (("a", 2.0), ("control", 0.0)):
        pre = rng.gamma(2.0, 10.0, 400)
        arms[name] = Moments.from_rows(("x", "pre"), np.column_stack([0.8 * pre + effect + rng.normal(0, 6, 400), pre]))
    return arms, 2.0, 2.0 / 16.0


def _per_order(rng: np.random.Generator) -> tuple[dict[str, Moments], float, float]:
    arms = {}
    for name, price in (("a", 21.0), ("control", 20.0)):
        orders = rng.poisson(1.5, 500)
        arms[name] = Moments.from_rows(("x", "y"), np.column_stack([orders * rng.normal(price, 5.0, 500), orders]))
    return arms, 1.0, 0.05


def _per_order_with_history(rng: np.random.Generator) -> tuple[dict[str, Moments], float, float]:
    """What an order costs depends on the customer, before and after; the arm adds 1 to 20."""
    arms = {}
    for name, price in (("a", 21.0), ("control", 20.0)):
        taste = rng.normal(0.0, 4.0, 500)
        orders, earlier = rng.poisson(1.5, 500) + 1.0, rng.poisson(1.5, 500) + 1.0
        now, before = orders * (price + taste + rng.normal(0, 2, 500)), earlier * (20.0 + taste + rng.normal(0, 2, 500))
        arms[name] = Moments.from_rows(("x", "y", "pre", "pre_y"), np.column_stack([now, orders, before, earlier]))
    return arms, 1.0, 0.05


@pytest.mark.parametrize(
    ("metric", "draw"),
    [
        pytest.param(CUPED_RATIO, _per_order_with_history, id="ratio with history"),
        pytest.param(SHARE, _shares(400, 400, 0.30, 0.25), id="shares"),
        pytest.param(SHARE, _shares(3000, 3000, 0.012, 0.010), id="rare shares"),
        pytest.param(SHARE, _shares(4000, 300, 0.30, 0.25), id="lopsided shares"),
        pytest.param(MEAN, _money(800, 800), id="skewed money"),
        pytest.param(CUPED, _with_history, id="money with history"),
        pytest.param(RATIO, _per_order, id="ratio"),
    ],
)
def test_intervals_cover_the_truth(metric: Metric, draw: Draw) -> None:
    rng = np.random.default_rng(20)
    covered, covered_lift = 0, 0
    for _ in range(RUNS):
        arms, difference, lift = draw(rng)
        result = compare(metric, arms, control="control", alpha=0.05)[0]
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= difference <= result.high
        low, high = result.relative_low, result.relative_high
        covered_lift += low is not None and high is not None and low <= lift <= high
    assert 0.935 <= covered / RUNS <= 0.965
    assert 0.935 <= covered_lift / RUNS <= 0.965


def test_intervals_of_lopsided_skewed_money_err_on_the_safe_side() -> None:
    """The permutation test takes one variance for both arms: where the large arm varies more, it covers more."""
    rng = np.random.default_rng(27)
    covered = 0
    for _ in range(RUNS):
        arms, difference, _ = _money(4000, 400)(rng)
        result = compare(MEAN, arms, control="control")[0]
        assert result.method.startswith("permutation")
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= difference <= result.high
    assert 0.935 <= covered / RUNS <= 0.98


@pytest.mark.parametrize("kind", ["proportion", "mean", "ratio"])
def test_intervals_within_strata_cover_the_truth(kind: str) -> None:
    """Two tiers that spend differently; arms drawn without regard to the tier, so that its shares differ by chance."""
    rng = np.random.default_rng(26)
    metric = {"proportion": SHARE, "mean": MEAN, "ratio": RATIO}[kind]
    covered = 0
    for _ in range(RUNS):
        strata = {}
        for tier, base, share in (("gold", 0.5, 0.3), ("silver", 0.2, 0.7)):
            sizes = rng.multinomial(round(1200 * share), [0.5, 0.5])
            strata[tier] = {
                arm: _tier_moments(rng, kind, int(n), base + effect)
                for arm, n, effect in zip(("a", "control"), sizes, (0.05, 0.0), strict=True)
            }
        result = compare_strata(metric, strata, control="control")[0]
        truth = {"proportion": 0.05, "mean": 0.5, "ratio": 0.5}[kind]
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= truth <= result.high
    assert 0.935 <= covered / RUNS <= 0.965


def _tier_moments(rng: np.random.Generator, kind: str, n: int, level: float) -> Moments:
    if kind == "proportion":
        return Moments.from_counts("x", n, int(rng.binomial(n, level)))
    orders = np.ones(n) if kind == "mean" else rng.poisson(1.0, n) + 1.0
    spend = orders * rng.gamma(4.0, 2.5 * level, n)
    return Moments.from_rows(("x", "y"), np.column_stack([spend, orders]))


def test_intervals_of_restricted_means_cover_the_truth() -> None:
    rng = np.random.default_rng(21)
    truth = {rate: sum((1 - rate) ** day for day in range(30)) for rate in (0.05, 0.06)}  # E[min(T, 30)], T geometric

    def side(rate: float) -> SurvivalCounts:
        times, followed = rng.geometric(rate, 400), rng.integers(15, 60, 400)
        return SurvivalCounts.from_times(np.minimum(times, followed), times <= followed)

    covered = 0
    for _ in range(RUNS):
        result = rmst_difference(side(0.06), side(0.05), horizon=30)
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= truth[0.06] - truth[0.05] <= result.high
    assert 0.935 <= covered / RUNS <= 0.965


def test_the_planned_power_is_reached() -> None:
    rng = np.random.default_rng(22)
    n = sample_size_proportion(0.2, 0.03, alpha=0.05, power=0.8)
    draw = _shares(n, n, 0.23, 0.20)
    found = sum((compare(SHARE, draw(rng)[0], control="control")[0].p_value or 1.0) <= 0.05 for _ in range(RUNS))
    assert found / RUNS == pytest.approx(0.80, abs=0.03)
    n = sample_size_mean(10.0, 1.5, alpha=0.05, power=0.8)
    found = 0
    for _ in range(RUNS):
        arms = {
            name: Moments.from_rows(("x",), rng.normal(mean, 10.0, n)) for name, mean in (("a", 1.5), ("control", 0.0))
        }
        found += (compare(MEAN, arms, control="control")[0].p_value or 1.0) <= 0.05
    assert found / RUNS == pytest.approx(0.80, abs=0.03)


def test_three_null_arms_are_rarely_all_believed() -> None:
    rng = np.random.default_rng(23)
    wrong = 0
    for _ in range(RUNS):
        counts = rng.binomial(2000, 0.2, 4)
        arms = {name: Moments.from_counts("x", 2000, int(x)) for name, x in zip("abcz", counts, strict=True)}
        wrong += any((result.p_adjusted or 1.0) <= 0.05 for result in compare(SHARE, arms, control="z"))
    assert wrong / RUNS <= 0.06  # standard error 0.5 points
    assert holm([0.01, 0.02, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


@pytest.mark.parametrize("third_moments", [True, False])
def test_heavy_tailed_money_with_twenty_to_one_arms_is_rarely_believed(third_moments: bool) -> None:
    """Welch rejects 13.9 % here, nearly all in favour of the large arm."""
    rng = np.random.default_rng(24)
    wrong, in_favour = 0, 0
    for _ in range(1000):
        arms = {}
        for name, n in (("a", 9500), ("control", 500)):
            spend = (rng.random(n) < 0.1) * rng.lognormal(3.0, 1.5, n)
            full = Moments.from_rows(("x",), spend)
            arms[name] = full if third_moments else Moments(n, ("x",), full.sums, full.central)
        result = compare(MEAN, arms, control="control")[0]
        significant = (result.p_value or 1.0) <= 0.05
        wrong += significant
        in_favour += significant and (result.difference or 0.0) > 0
    assert wrong / 1000 <= 0.065
    assert in_favour / 1000 <= 0.04


@pytest.mark.parametrize(("base", "share"), [(0.003, 0.5), (0.02, 0.5), (0.01, 0.9), (0.003, 0.9), (0.01, 0.95)])
def test_daily_harm_alarms_are_rarely_false(base: float, share: float) -> None:
    rng = np.random.default_rng(25)
    days = np.arange(1, 61)
    daily = {"arm": round(400 * share), "control": round(400 * (1 - share))}
    totals = {name: np.cumsum(rng.binomial(n, base, (4000, 60)), axis=1) for name, n in daily.items()}
    shares = {name: totals[name] / (daily[name] * days) for name in daily}
    pooled = (totals["arm"] + totals["control"]) / (400 * days)
    variance = pooled * (1 - pooled) * sum(1 / (n * days) for n in daily.values())
    factor = np.array([sequence_one_sided(1.0, int(400 * day), alpha=0.05, tuning=5000.0) for day in days])
    watched = np.minimum(daily["arm"], daily["control"]) * days >= 350
    alarm = (shares["arm"] - shares["control"] > factor * np.sqrt(variance)) & watched
    assert alarm.any(axis=1).mean() <= 0.05
    assert math.isfinite(factor.sum())


@pytest.mark.parametrize("ratio", [2, 3])
def test_skewed_money_in_unequal_arms_finds_no_more_winners_than_promised(ratio: int) -> None:
    """Welch finds the larger arm better in 4 to 7 % of such tests instead of 2.5 % (docs/decisions/0005)."""
    rng = np.random.default_rng(31)
    better = {"chosen": 0, "welch": 0}
    for _ in range(RUNS):
        arms = {name: _null_money(rng, n) for name, n in (("a", 1000 * ratio), ("control", 1000))}
        result = compare(MEAN, arms, control="control")[0]
        assert result.method.startswith("permutation")
        assert result.p_value is not None
        assert result.difference is not None
        better["chosen"] += result.p_value < 0.05 and result.difference > 0
        samples = [Sample(m.mean("x"), m.var("x"), m.n) for m in arms.values()]
        test = welch(*samples)
        better["welch"] += test.p_value < 0.05 and test.difference > 0
    assert better["chosen"] / RUNS <= 0.035
    assert better["welch"] / RUNS > 0.035  # the trap is there


def _null_money(rng: np.random.Generator, n: int) -> Moments:
    return Moments.from_rows(("x",), rng.lognormal(0.0, 2.2, n) * (rng.random(n) < 0.3))
