"""Comparing two proportions: tests and intervals from successes and sizes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.distributions import beta_ppf, chi2_sf, normal_ppf, root, two_sided
from experiments.errors import ExperimentError

_NOTHING = 1e-15  # a gap that rounding alone makes
_HUGE = 1e6  # for an infinite score: the root's search needs finite ends


class Counts(NamedTuple):
    """Successes among n units."""

    successes: int
    n: int

    @property
    def share(self) -> float:
        """successes / n."""
        return self.successes / self.n


class ZTest(NamedTuple):
    """A z statistic and its two-sided p-value."""

    statistic: float
    p_value: float


class Interval(NamedTuple):
    """Two confidence limits."""

    low: float
    high: float


def pooled_z(arm: Counts, control: Counts) -> ZTest:
    """z test of equal shares, pooled variance. Source: Fleiss, Levin and Paik 2003 (vector prop_z_pooled)."""
    share = (arm.successes + control.successes) / (arm.n + control.n)
    z = (arm.share - control.share) / math.sqrt(share * (1.0 - share) * (1.0 / arm.n + 1.0 / control.n))
    return ZTest(z, two_sided(z))


def unpooled_se(arm: Counts, control: Counts) -> float:
    """Standard error of the difference of shares without pooling."""
    return math.sqrt(arm.share * (1 - arm.share) / arm.n + control.share * (1 - control.share) / control.n)


def unpooled_z(arm: Counts, control: Counts) -> ZTest:
    """z test with the unpooled variance (Wald). Source: vector prop_z_unpooled."""
    z = (arm.share - control.share) / unpooled_se(arm, control)
    return ZTest(z, two_sided(z))


def unpooled_interval(arm: Counts, control: Counts, *, confidence: float = 0.95) -> Interval:
    """Wald interval of the difference."""
    gap = arm.share - control.share
    half = _critical(confidence) * unpooled_se(arm, control)
    return Interval(gap - half, gap + half)


def score_z(arm: Counts, control: Counts, *, difference: float = 0.0) -> float:
    """Miettinen-Nurminen score statistic of `difference`, variance at the constrained estimate times N / (N - 1).

    Source: Miettinen and Nurminen 1985, eqs. 8-9 and appendix I (vector prop_score_mn).
    """
    total = arm.n + control.n
    base = _constrained_share(arm, control, difference)
    shifted = min(1.0, max(0.0, base + difference))
    variance = (shifted * (1.0 - shifted) / arm.n + base * (1.0 - base) / control.n) * total / (total - 1.0)
    gap = arm.share - control.share - difference
    if variance <= 0.0:
        return 0.0 if abs(gap) < _NOTHING else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


def score_test(arm: Counts, control: Counts, *, difference: float = 0.0) -> ZTest:
    """Two-sided Miettinen-Nurminen score test that the shares differ by `difference`."""
    z = score_z(arm, control, difference=difference)
    return ZTest(z, two_sided(z))


def score_interval(arm: Counts, control: Counts, *, confidence: float = 0.95) -> Interval:
    """Miettinen-Nurminen interval of the difference: the differences the score test does not reject."""
    critical = _critical(confidence)
    return Interval(_score_limit(arm, control, -critical), _score_limit(arm, control, critical))


def score_bound(arm: Counts, control: Counts, *, confidence: float, upper: bool) -> float:
    """One-sided Miettinen-Nurminen bound of the difference: an end of the two-sided interval at 2 confidence - 1."""
    critical = normal_ppf(confidence)
    return _score_limit(arm, control, critical if upper else -critical)


def wilson(counts: Counts, *, confidence: float = 0.95) -> Interval:
    """Wilson score interval of one share. Source: Wilson 1927 (vector prop_wilson_one)."""
    z2 = _critical(confidence) ** 2
    centre = counts.successes + 0.5 * z2
    half = math.sqrt(z2 * (counts.successes * (1.0 - counts.share) + 0.25 * z2))
    return Interval(max(0.0, (centre - half) / (counts.n + z2)), min(1.0, (centre + half) / (counts.n + z2)))


def clopper_pearson(counts: Counts, *, confidence: float = 0.95) -> Interval:
    """Exact (conservative) interval of one share. Source: Clopper and Pearson 1934."""
    x, n, tail = counts.successes, counts.n, 0.5 * (1.0 - confidence)
    low = 0.0 if x == 0 else beta_ppf(tail, x, n - x + 1)
    high = 1.0 if x == n else beta_ppf(1.0 - tail, x + 1, n - x)
    return Interval(low, high)


def newcombe(arm: Counts, control: Counts, *, confidence: float = 0.95) -> Interval:
    """Hybrid Wilson interval of the difference. Source: Newcombe 1998, method 10 (vector prop_newcombe)."""
    gap = arm.share - control.share
    arm_low, arm_high = wilson(arm, confidence=confidence)
    control_low, control_high = wilson(control, confidence=confidence)
    low = gap - math.hypot(arm.share - arm_low, control_high - control.share)
    high = gap + math.hypot(arm_high - arm.share, control.share - control_low)
    return Interval(low, high)


def agresti_caffo(arm: Counts, control: Counts, *, confidence: float = 0.95) -> Interval:
    """Wald interval after adding one success and one failure to each arm. Source: Agresti and Caffo 2000."""
    padded = [Counts(side.successes + 1, side.n + 2) for side in (arm, control)]
    low, high = unpooled_interval(padded[0], padded[1], confidence=confidence)
    return Interval(max(-1.0, low), min(1.0, high))


def fisher(arm: Counts, control: Counts) -> float:
    """Two-sided p of Fisher's exact test: all tables as or less likely, margins fixed (vector fisher_two_sided)."""
    from scipy import stats

    return float(stats.fisher_exact(_table(arm, control)).pvalue)


def boschloo(arm: Counts, control: Counts) -> float:
    """Two-sided p of Boschloo's unconditional exact test. Source: Boschloo 1970 (vector barnard_boschloo)."""
    from scipy import stats

    return float(stats.boschloo_exact(_columns(arm, control)).pvalue)


def barnard(arm: Counts, control: Counts) -> float:
    """Two-sided p of Barnard's unconditional exact test, pooled Wald statistic. Source: Barnard 1945."""
    from scipy import stats

    return float(stats.barnard_exact(_columns(arm, control)).pvalue)


def chi2_homogeneity(arms: Sequence[Counts]) -> tuple[float, int, float]:
    """Chi-square, degrees of freedom and p of equal shares in k arms (vector chi2_3arms).

    Raises: ExperimentError where no unit or every unit converted: nothing varies.
    """
    total = Counts(sum(arm.successes for arm in arms), sum(arm.n for arm in arms))
    if total.n == 0 or total.successes in (0, total.n) or any(arm.n == 0 for arm in arms):
        raise ExperimentError("chi-square of shares: needs units in every arm, and some that converted and some not")
    spread = total.share * (1.0 - total.share)
    chi2 = sum(arm.n * (arm.share - total.share) ** 2 for arm in arms) / spread
    return chi2, len(arms) - 1, chi2_sf(chi2, len(arms) - 1)


def smallest_expected(arm: Counts, control: Counts) -> float:
    """The smallest expected cell of the two-by-two table under equal shares."""
    total = arm.n + control.n
    successes = arm.successes + control.successes
    return min(arm.n, control.n) * min(successes, total - successes) / total


def _score_limit(arm: Counts, control: Counts, critical: float) -> float:
    """The difference whose score statistic is -critical: below the estimate for a negative one, above for a positive.

    Brackets grow from the Wald limit outwards, so that a root takes half as many steps as from the whole range.
    """
    gap, side = arm.share - control.share, math.copysign(1.0, critical)
    end = side
    if gap * side >= 1.0:
        return end

    def excess(difference: float) -> float:
        return _clip(score_z(arm, control, difference=difference)) + critical

    step = critical * max(unpooled_se(arm, control), 1.0 / (arm.n + control.n))
    near, far = gap, side * min(1.0, side * (gap + step))
    while far != end and excess(far) * side > 0.0:
        step *= 2.0
        near, far = far, side * min(1.0, side * (far + step))
    return root(excess, min(near, far), max(near, far))


def _constrained_share(arm: Counts, control: Counts, difference: float) -> float:
    """Control's share that maximises the likelihood when arm = control + difference (closed-form cubic)."""
    x, n = control
    hits, total = arm.successes + x, arm.n + n
    l2 = (arm.n + 2.0 * n) * difference - total - hits
    l1 = (n * difference - total - 2.0 * x) * difference + hits
    l0 = x * difference * (1.0 - difference)
    q = l2**3 / (27.0 * total**3) - l1 * l2 / (6.0 * total**2) + l0 / (2.0 * total)
    p = math.copysign(math.sqrt(max(0.0, l2**2 / (9.0 * total**2) - l1 / (3.0 * total))), q)
    if p == 0.0:
        share = -l2 / (3.0 * total)
    else:
        angle = (math.pi + math.acos(min(1.0, max(-1.0, q / p**3)))) / 3.0
        share = 2.0 * p * math.cos(angle) - l2 / (3.0 * total)
    return min(max(share, 0.0, -difference), 1.0, 1.0 - difference)


def _critical(confidence: float) -> float:
    return normal_ppf(0.5 + 0.5 * confidence)


def _clip(z: float) -> float:
    return min(_HUGE, max(-_HUGE, z))


def _table(arm: Counts, control: Counts) -> list[list[int]]:
    return [[side.successes, side.n - side.successes] for side in (arm, control)]


def _columns(arm: Counts, control: Counts) -> list[list[int]]:
    """The table with the two samples as columns, as scipy's unconditional tests want it."""
    return [list(row) for row in zip(*_table(arm, control), strict=True)]
