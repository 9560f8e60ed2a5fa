"""Shrinkage: the winner's estimate pulled towards what past campaigns achieved (the winner's curse)."""

from __future__ import annotations

import math
from typing import NamedTuple

from experiments.distributions import normal_cdf, normal_pdf, normal_ppf


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


def expected_loss(chosen: Posterior, rival: Posterior) -> float:
    """Expected shortfall E[max(0, rival - chosen)] of independent normal posteriors."""
    gap, spread = rival.mean - chosen.mean, math.hypot(chosen.sd, rival.sd)
    if spread == 0.0:
        return max(0.0, gap)
    return gap * normal_cdf(gap / spread) + spread * normal_pdf(gap / spread)
