"""Aggregates add like their data and stay exact where sums of squares would not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.aggregates import Moments, SurvivalCounts
from experiments.errors import ExperimentError

ROWS = st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), max_size=30)


def _close(left: Moments, right: Moments) -> None:
    assert left.n == right.n
    np.testing.assert_allclose(left.sums, right.sums, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(left.central, right.central, rtol=1e-9, atol=1e-4)
    if left.cubes and right.cubes:
        scale = 1 + np.abs(np.asarray(right.central)).max() ** 1.5
        np.testing.assert_allclose(left.cubes, right.cubes, rtol=1e-8, atol=1e-9 * scale)


@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS)
def test_moments_of_disjoint_customers_add_like_their_rows(first: list, second: list) -> None:
    parts = Moments.from_rows(("x", "y"), first) + Moments.from_rows(("x", "y"), second)
    _close(parts, Moments.from_rows(("x", "y"), first + second))


@settings(max_examples=50, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_customers_does_not_matter(rows: list, random: object) -> None:
    shuffled = rows[:]
    random.shuffle(shuffled)
    _close(Moments.from_rows(("x", "y"), shuffled), Moments.from_rows(("x", "y"), rows))


def test_variance_is_exact_at_large_means() -> None:
    # mean 1e8, sd 1: sum of squares minus n * mean**2 gives a negative variance here; the truth is var(noise)
    noise = np.random.default_rng(1).normal(size=20_000)
    parts = [Moments.from_rows(("x",), noise[i : i + 1000] + 1e8) for i in range(0, 20_000, 1000)]
    merged = sum(parts[1:], parts[0])
    assert merged.var("x") == pytest.approx(noise.var(ddof=1), rel=1e-7)


def test_moments_agree_with_numpy() -> None:
    rows = np.random.default_rng(2).gamma(2.0, 3.0, size=(500, 2))
    moments = Moments.from_rows(("x", "y"), rows)
    assert moments.mean("y") == pytest.approx(rows[:, 1].mean())
    assert moments.cov("x", "y") == pytest.approx(np.cov(rows.T)[0, 1])
    centred = rows[:, 0] - rows[:, 0].mean()
    assert moments.skewness("x") == pytest.approx((centred**3).mean() / (centred**2).mean() ** 1.5)


def test_counts_equal_the_rows_they_stand_for() -> None:
    _close(Moments.from_counts("x", 10, 3), Moments.from_rows(("x",), [1.0] * 3 + [0.0] * 7))


def test_a_summary_equals_the_rows_it_came_from() -> None:
    rows = np.random.default_rng(3).normal(size=(50, 2))
    summary = Moments.from_summary(("x", "y"), 50, rows.mean(axis=0).tolist(), np.cov(rows.T))
    _close(summary, Moments.from_rows(("x", "y"), rows))
    assert summary.skewness("x") is None
    assert (summary + Moments.from_rows(("x", "y"), rows)).cubes == ()


def test_selecting_and_scaling_keep_the_units() -> None:
    rows = np.random.default_rng(4).normal(size=(20, 2))
    moments = Moments.from_rows(("x", "y"), rows)
    _close(moments.select(("y",)), Moments.from_rows(("y",), rows[:, 1]))
    _close(moments.scale({"x": 100.0}), Moments.from_rows(("x", "y"), rows * [100.0, 1.0]))


def test_json_gives_the_same_moments_back() -> None:
    moments = Moments.from_rows(("x",), [1.0, 2.5])
    assert Moments.from_json(moments.to_json()) == moments


def test_empty_moments_are_neutral_and_have_no_mean() -> None:
    some = Moments.from_rows(("x",), [1.0, 3.0])
    assert Moments.empty(("x",)) + some == some == some + Moments.empty(("x",))
    with pytest.raises(ExperimentError, match="at least 1"):
        Moments.empty(("x",)).mean("x")
    with pytest.raises(ExperimentError, match="at least 2"):
        Moments.from_rows(("x",), [1.0]).var("x")


def test_impossible_moments_are_refused() -> None:
    with pytest.raises(ExperimentError, match="missing or infinite"):
        Moments.from_rows(("x",), [1.0, float("nan")])
    with pytest.raises(ExperimentError, match="successes"):
        Moments.from_counts("x", 2, 3)
    with pytest.raises(ExperimentError, match="columns"):
        Moments(1, ("x", "y"), (1.0,), ((0.0,),))
    with pytest.raises(ExperimentError, match="finite"):
        Moments(1, ("x",), (float("inf"),), ((0.0,),))
    with pytest.raises(ExperimentError, match="no column"):
        Moments.from_rows(("x",), [1.0]).mean("y")
    with pytest.raises(ExperimentError, match="cannot add"):
        Moments.empty(("x",)) + Moments.empty(("y",))


TIMES = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=30)


def _survival(rows: list[tuple[int, bool]]) -> SurvivalCounts:
    return SurvivalCounts.from_times([row[0] for row in rows], [row[1] for row in rows])


@settings(max_examples=100, deadline=None)
@given(TIMES, TIMES)
def test_survival_counts_add_like_their_customers(first: list, second: list) -> None:
    assert _survival(first) + _survival(second) == _survival(first + second)


def test_whole_days_and_fractions_are_counted_alike() -> None:
    rng = np.random.default_rng(2)
    days, events = rng.integers(0, 40, 500), rng.integers(0, 2, 500)
    whole = SurvivalCounts.from_times(days, events)
    halves = SurvivalCounts.from_times(days / 2, events)
    assert halves.times == tuple(time / 2 for time in whole.times)
    assert (halves.events, halves.censored) == (whole.events, whole.censored)
    assert all(isinstance(time, float) for time in whole.times)
    assert SurvivalCounts.from_times([], []) == SurvivalCounts.empty()


def test_at_risk_falls_by_events_and_censorings() -> None:
    counts = SurvivalCounts.from_times([1, 2, 2, 3], [1, 1, 0, 0])
    assert counts.n == 4
    assert counts.at_risk == (4, 3, 1)
    assert SurvivalCounts.from_json(counts.to_json()) == counts
    assert counts == SurvivalCounts.from_day_counts({3: (0, 1), 1: (1, 0), 2: (1, 1)})


def test_impossible_survival_counts_are_refused() -> None:
    with pytest.raises(ExperimentError, match="length"):
        SurvivalCounts((1.0,), (1,), ())
    with pytest.raises(ExperimentError, match="ascend"):
        SurvivalCounts((2.0, 1.0), (1, 1), (0, 0))
    with pytest.raises(ExperimentError, match=">= 0"):
        SurvivalCounts((1.0,), (-1,), (0,))
    with pytest.raises(ExperimentError, match="one of each"):
        SurvivalCounts.from_times([1, 2], [1])
    with pytest.raises(ExperimentError, match="missing or infinite"):
        SurvivalCounts.from_times([float("nan")], [1])
