"""CACE: the effect on those whom the messages actually reached, beside the effect of intending to treat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from experiments.aggregates import Moments
from experiments.distributions import normal_ppf, two_sided

FIRST_STAGE_FLOOR = 0.10

CaceStatus = Literal["ok", "insufficient_data", "delivery_unknown", "weak_first_stage", "zero_variance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cace:
    """Effect per reached customer; None with a status where it cannot be told.

    `first_stage`: difference of delivered shares.
    """

    status: CaceStatus
    effect: float | None = None
    se: float | None = None
    p_value: float | None = None
    low: float | None = None
    high: float | None = None
    itt: float | None = None
    first_stage: float | None = None


def cace(
    arm: Moments, control: Moments, *, outcome: str, delivered: str = "delivered", confidence: float = 0.95
) -> Cace:
    """Wald estimate: difference of outcomes divided by difference of delivered shares, delta-method standard error.

    Refused below 10 points of difference in delivery. Holds where a message changes nothing for those it does not
    reach. Source: Angrist, Imbens and Rubin 1996; variance: Imbens and Angrist 1994.
    """
    if not arm.has(outcome, delivered) or not control.has(outcome, delivered):
        return Cace(status="delivery_unknown")
    if min(arm.n, control.n) < 2:
        return Cace(status="insufficient_data")
    itt = arm.mean(outcome) - control.mean(outcome)
    stage = arm.mean(delivered) - control.mean(delivered)
    if stage < FIRST_STAGE_FLOOR:
        return Cace(status="weak_first_stage", itt=itt, first_stage=stage)
    effect = itt / stage
    variance = sum(_residual_variance(side, outcome, delivered, effect) / side.n for side in (arm, control))
    se = math.sqrt(max(0.0, variance)) / stage
    if se <= 0.0:
        return Cace(status="zero_variance", effect=effect, itt=itt, first_stage=stage)
    half = normal_ppf(0.5 + 0.5 * confidence) * se
    return Cace(
        status="ok",
        effect=effect,
        se=se,
        p_value=two_sided(effect / se),
        low=effect - half,
        high=effect + half,
        itt=itt,
        first_stage=stage,
    )


def _residual_variance(side: Moments, outcome: str, delivered: str, effect: float) -> float:
    """Variance of outcome - effect * delivered within one arm."""
    return side.var(outcome) - 2.0 * effect * side.cov(outcome, delivered) + effect**2 * side.var(delivered)
