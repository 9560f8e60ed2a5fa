"""Comparing two means from their moments: Welch, pooled, and the permutation test."""

from __future__ import annotations

import math
from typing import NamedTuple

from experiments.aggregates import LARGEST, Moments
from experiments.distributions import pearson3_ppf, pearson3_sf, t_ppf, t_sf, two_sided

TINY = 1e-100  # nothing that is measured lies closer to 0; below, squares and cubes would underflow


class Sample(NamedTuple):
    """Mean, sample variance (ddof 1) and size; `cube` is the third central moment (None: not collected)."""

    mean: float
    variance: float
    n: int
    cube: float | None = None

    @property
    def mean_variance(self) -> float:
        """Variance of the mean."""
        return self.variance / self.n

    @property
    def in_range(self) -> bool:
        """Whether the numbers can be squared and multiplied without overflow (nan is not)."""
        return abs(self.mean) <= LARGEST and self.variance <= LARGEST**2

    @classmethod
    def of(cls, moments: Moments, column: str) -> Sample:
        """The sample of one column of some moments."""
        place = moments.place(column)
        cube = moments.cubes[place] / moments.n if moments.cubes else None
        return cls(moments.mean(column), max(0.0, moments.var(column)), moments.n, cube)


class MeanTest(NamedTuple):
    """A comparison of means: `skew` is that of the reference distribution."""

    difference: float
    se: float
    df: float | None
    statistic: float
    p_value: float
    skew: float = 0.0

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided confidence interval of the difference."""
        tail = 0.5 * (1.0 - confidence)
        return self.difference - self.se * self._quantile(1.0 - tail), self.difference - self.se * self._quantile(tail)

    def lower(self, confidence: float) -> float:
        """One-sided lower confidence bound of the difference."""
        return self.difference - self.se * self._quantile(confidence)

    def upper(self, confidence: float) -> float:
        """One-sided upper confidence bound of the difference."""
        return self.difference - self.se * self._quantile(1.0 - confidence)

    def _quantile(self, share: float) -> float:
        return pearson3_ppf(share, self.skew) if self.skew else t_ppf(share, self.df)


def welch(arm: Sample, control: Sample, *, difference: float = 0.0) -> MeanTest:
    """Welch's t test that the means differ by `difference`. Source: Welch 1947 (vector welch_t_stats)."""
    variance = arm.mean_variance + control.mean_variance
    share = arm.mean_variance / variance
    df = 1.0 / (share**2 / (arm.n - 1) + (1.0 - share) ** 2 / (control.n - 1))
    return _test(arm.mean - control.mean, math.sqrt(variance), df, difference)


def pooled(arm: Sample, control: Sample, *, difference: float = 0.0) -> MeanTest:
    """Student's t test with one common variance. Source: Student 1908."""
    df = arm.n + control.n - 2.0
    return _test(arm.mean - control.mean, _pooled_se(arm, control), df, difference)


def permutation(arm: Sample, control: Sample) -> MeanTest:
    """The permutation test of equal means, by the exact first three moments of its reference distribution.

    Shuffling the arms gives the difference a known variance and skewness (finite-population moments of the mean,
    Cramer 1946, section 27); the tail is Pearson's type III with that skewness. Needs third moments in both samples.
    Checked against shuffled rows by tests/reference/test_oracles.py.
    """
    total = arm.n + control.n
    se = _pooled_se(arm, control)
    lean = math.sqrt(total - 1.0) / (total - 2.0) * (control.n - arm.n) / math.sqrt(arm.n * control.n)
    skew = (pooled_skewness(arm, control) or 0.0) * lean
    gap = arm.mean - control.mean
    statistic = gap / se
    p = 2.0 * min(pearson3_sf(statistic, skew), pearson3_sf(-statistic, -skew))
    return MeanTest(gap, se, None, statistic, min(1.0, p), skew)


def pooled_skewness(arm: Sample, control: Sample) -> float | None:
    """Population skewness within the arms: both arms' third moments over their common variance, which must not be 0.

    None where third moments were not collected.
    """
    if arm.cube is None or control.cube is None:
        return None
    total = arm.n + control.n
    cube = (arm.n * arm.cube + control.n * control.cube) / total
    spread = ((arm.n - 1) * arm.variance + (control.n - 1) * control.variance) / total
    return float(cube / spread**1.5)


def noninferiority(arm: Sample, control: Sample, *, margin: float) -> MeanTest:
    """Welch's one-sided test that arm is not worse than control by `margin` (H0: arm <= control - margin)."""
    test = welch(arm, control, difference=-margin)
    return test._replace(p_value=t_sf(test.statistic, test.df))


def _pooled_se(arm: Sample, control: Sample) -> float:
    spread = (arm.n - 1) * arm.variance + (control.n - 1) * control.variance
    return math.sqrt(spread / (arm.n + control.n - 2.0) * (1.0 / arm.n + 1.0 / control.n))


def _test(gap: float, se: float, df: float, difference: float) -> MeanTest:
    statistic = (gap - difference) / se
    return MeanTest(gap, se, df, statistic, two_sided(statistic, df))
