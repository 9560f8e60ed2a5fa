"""CUPED: the part of a metric that its pre-period value explains is taken out, for every arm with one slope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from experiments.aggregates import Moments
from experiments.means import TINY, Sample

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Quotient:
    """A mean (one column), or the ratio of two means (numerator over denominator)."""

    columns: tuple[str, ...]

    def value(self, moments: Moments) -> float | None:
        """The value over some units; None where the denominator's mean is 0."""
        below = self._below(moments)
        return None if abs(below) < TINY else moments.mean(self.columns[0]) / below

    def covariance(self, other: Quotient, moments: Moments) -> float:
        """Sample covariance (ddof 1) of the linearised units (y - R x) / mean(x) of two quotients."""
        mine, theirs = self._linear(moments), other._linear(moments)
        return sum(a * b * moments.cov(x, y) for x, a in mine for y, b in theirs)

    def _linear(self, moments: Moments) -> list[tuple[str, float]]:
        """The columns with the factors that make the linearised unit out of them."""
        below = self._below(moments)
        parts = [(self.columns[0], 1.0 / below)]
        if len(self.columns) > 1:
            parts.append((self.columns[1], -moments.mean(self.columns[0]) / below**2))
        return parts

    def _below(self, moments: Moments) -> float:
        return moments.mean(self.columns[1]) if len(self.columns) > 1 else 1.0


@dataclass(frozen=True, slots=True)
class Adjustment:
    """y - theta * (x - x_mean), with one theta and one x_mean for all arms; y and x are means or ratios of means."""

    metric: Quotient
    before: Quotient
    theta: float
    covariate_mean: float

    def sample(self, moments: Moments) -> Sample | None:
        """The adjusted sample of one arm; None where a denominator's mean is 0."""
        value, before = self.metric.value(moments), self.before.value(moments)
        if value is None or before is None:
            return None
        plain = max(0.0, self.metric.covariance(self.metric, moments))
        variance = (
            plain
            - 2.0 * self.theta * self.metric.covariance(self.before, moments)
            + self.theta**2 * self.before.covariance(self.before, moments)
        )
        if variance <= _ROUNDING * plain:
            variance = 0.0  # the covariate explains everything: what is left is rounding
        return Sample(value - self.theta * (before - self.covariate_mean), variance, moments.n)


def adjustment(
    arms: Mapping[str, Moments],
    *,
    column: str,
    covariate: str,
    below: str | None = None,
    covariate_below: str | None = None,
) -> Adjustment | None:
    """The adjustment of a mean by a pre-period mean; None where it cannot help (the covariate does not vary).

    `below`, `covariate_below`: the denominators where either is a ratio (then linearised). Theta is the slope over all
    arms together, one for all of them, so that control's adjusted value is the same in every comparison. Source: Deng,
    Xu, Kohavi and Walker 2013, eq. 4 and appendix B (vector cuped_mean; ratios: tests/reference/test_oracles.py).
    """
    metric = Quotient((column,) if below is None else (column, below))
    before = Quotient((covariate,) if covariate_below is None else (covariate, covariate_below))
    wanted = tuple(dict.fromkeys((*metric.columns, *before.columns)))
    total = _sum(moments.select(wanted) for moments in arms.values())
    if total is None or total.n < 2 or metric.value(total) is None:
        return None
    mean = before.value(total)
    spread = 0.0 if mean is None else before.covariance(before, total)
    if mean is None or spread <= 0.0:
        return None
    return Adjustment(metric, before, metric.covariance(before, total) / spread, mean)


def _sum(parts: Iterable[Moments]) -> Moments | None:
    total: Moments | None = None
    for part in parts:
        total = part if total is None else total + part
    return total
