"""CUPED: the part of a metric that its pre-period value explains is taken out, for every arm with one slope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from experiments.aggregates import Moments
from experiments.means import Sample

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Adjustment:
    """y - theta * (x - x_mean), with one theta and one x_mean for all arms."""

    column: str
    covariate: str
    theta: float
    covariate_mean: float

    def sample(self, moments: Moments) -> Sample:
        """The adjusted sample of one arm."""
        shift = self.theta * (moments.mean(self.covariate) - self.covariate_mean)
        variance = (
            moments.var(self.column)
            - 2.0 * self.theta * moments.cov(self.column, self.covariate)
            + self.theta**2 * moments.var(self.covariate)
        )
        if variance <= _ROUNDING * moments.var(self.column):
            variance = 0.0  # the covariate explains everything: what is left is rounding
        return Sample(moments.mean(self.column) - shift, variance, moments.n)


def adjustment(arms: Mapping[str, Moments], *, column: str, covariate: str) -> Adjustment | None:
    """The adjustment of one column by one pre-period column; None where the covariate does not vary.

    Theta is the slope over all arms together, one for all of them, so that control's adjusted mean is the same in
    every comparison. Source: Deng, Xu, Kohavi and Walker 2013, eq. 4 (vector cuped_mean).
    """
    total = _sum(moments.select((column, covariate)) for moments in arms.values())
    if total is None or total.n < 2 or total.var(covariate) <= 0.0:
        return None
    theta = total.cov(column, covariate) / total.var(covariate)
    return Adjustment(column, covariate, theta, total.mean(covariate))


def _sum(parts: Iterable[Moments]) -> Moments | None:
    total: Moments | None = None
    for part in parts:
        total = part if total is None else total + part
    return total
