"""Always-valid inference as other systems publish it, to reproduce and to read their reports.

The house's own alarm is `sequential.sequence_one_sided`; these are the mixture SPRT and the Howard-style sequence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from experiments.distributions import normal_ppf


class AlwaysValid(NamedTuple):
    """Likelihood ratio, its p-value, and the sequence's limits."""

    likelihood_ratio: float
    p_value: float
    low: float
    high: float


def mixture_sprt(effect: float, variance: float, *, mixing_sd: float, alpha: float = 0.05) -> AlwaysValid:
    """Normal mixture SPRT of an effect with this variance. Source: Johari et al. 2015, eq. 11 (msprt_normal)."""
    mixing = mixing_sd**2
    total = variance + mixing
    ratio = math.sqrt(variance / total) * math.exp(min(700.0, effect**2 * mixing / (2.0 * variance * total)))
    half = math.sqrt(variance * total / mixing * (2.0 * math.log(1.0 / alpha) + math.log(total / variance)))
    return AlwaysValid(ratio, min(1.0, 1.0 / ratio), effect - half, effect + half)


def unit_mixture_critical(variance_sum: float, variance: float, n: int, *, alpha: float = 0.05) -> float:
    """The critical |z| of Statsig's mSPRT, whose mixing variance is z(alpha/2)**2 times the mean unit variance.

    `variance_sum`: arm's plus control's unit variance; `variance`: of the difference; n: both arms together.
    Source: Zhao, Chen and Johari 2019 as published by Statsig, alpha / 2 inside the logarithm (vector statsig_msprt).
    """
    mixing = normal_ppf(1.0 - 0.5 * alpha) ** 2 * variance_sum / n
    total = variance + mixing
    return math.sqrt(total / mixing * (-2.0 * math.log(0.5 * alpha) + math.log(total / variance)))


def howard_rho(*, tuning: float, alpha: float = 0.05) -> float:
    """The mixing parameter that makes Howard's normal-mixture boundary tightest at `tuning` units (vector eppo_cs)."""
    logged = -2.0 * math.log(alpha)
    return tuning / (logged + math.log(1.0 + logged))


def howard_half_width(se: float, n: int, *, tuning: float, alpha: float = 0.05) -> float:
    """Half-width at n units. Source: Howard, Ramdas, McAuliffe and Sekhon 2021, eq. 14, as Eppo uses it."""
    rho = howard_rho(tuning=tuning, alpha=alpha)
    return se * math.sqrt((n + rho) / n * math.log((n + rho) / (rho * alpha**2)))
