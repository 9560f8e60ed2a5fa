"""Shrinkage: the winner's estimate pulled towards what past campaigns achieved (the winner's curse)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.distributions import normal_cdf, normal_pdf, normal_ppf

START_WEIGHT = 4.0
"""What the starting spread counts for: as much as this many exactly measured past effects."""
LEAST_SPREAD = 0.1
"""The spread never falls below this share of the starting one: a few lucky zeros do not forbid every effect."""


class Posterior(NamedTuple):
    """A normal posterior of an effect."""

    mean: float
    sd: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Central credible interval."""
        half = normal_ppf(0.5 + 0.5 * confidence) * self.sd
        return self.mean - half, self.mean + half


def shrink(effect: float, se: float, *, prior_mean: float = 0.0, prior_sd: float) -> Posterior:
    """Posterior of an effect estimated with standard error `se` under a normal prior (normal-normal conjugacy)."""
    if prior_sd <= 0.0:
        return Posterior(prior_mean, 0.0)
    if se <= 0.0:
        return Posterior(effect, 0.0)
    weight = prior_sd**2 / (prior_sd**2 + se**2)
    return Posterior(weight * effect + (1.0 - weight) * prior_mean, math.sqrt(weight) * se)


def prior_spread(effects: Sequence[float], errors: Sequence[float], *, start: float) -> float:
    """Standard deviation of true effects around none, from past estimates and their standard errors.

    Method of moments: E[effect**2] = spread**2 + error**2. An estimate counts for the inverse of its square's variance,
    (start**2 / (start**2 + error**2))**2, so that imprecise ones hardly do; `start`, in the same unit and above 0,
    counts for four exact ones. Source: DerSimonian and Laird 1986, with the mean known to be 0. The result is above 0.
    """
    variance, total = START_WEIGHT * start**2, START_WEIGHT
    for effect, error in zip(effects, errors, strict=True):
        weight = (start**2 / (start**2 + error**2)) ** 2
        variance += weight * (effect**2 - error**2)
        total += weight
    return math.sqrt(max(variance / total, (LEAST_SPREAD * start) ** 2))


def expected_loss(chosen: Posterior, rival: Posterior) -> float:
    """Expected shortfall E[max(0, rival - chosen)] of independent normal posteriors."""
    gap, spread = rival.mean - chosen.mean, math.hypot(chosen.sd, rival.sd)
    if spread == 0.0:
        return max(0.0, gap)
    return gap * normal_cdf(gap / spread) + spread * normal_pdf(gap / spread)
