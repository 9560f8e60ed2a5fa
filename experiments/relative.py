"""Relative lift (arm / control - 1) and its interval: linear delta, log delta and Fieller."""

from __future__ import annotations

import math
from typing import NamedTuple

from experiments.means import TINY, Sample

_EXPONENT = 700.0  # beyond, exp overflows


class Mean(NamedTuple):
    """A mean (or share, or ratio) and the variance of that mean."""

    value: float
    variance: float


class Lift(NamedTuple):
    """Relative lift with its limits."""

    lift: float
    low: float
    high: float


def delta_se(arm: Mean, control: Mean) -> float:
    """Standard error of arm / control by the linear delta method, arms independent."""
    ratio = arm.value / control.value
    return math.sqrt(arm.variance + ratio**2 * control.variance) / abs(control.value)


def delta_lift(arm: Mean, control: Mean, *, critical: float) -> Lift | None:
    """Linear delta interval; None where control is not positive. Source: Deng et al. 2018 (rel_lift_delta_prop)."""
    if control.value <= TINY:
        return None
    lift = arm.value / control.value - 1.0
    half = critical * delta_se(arm, control)
    return Lift(lift, lift - half, lift + half)


def log_lift(arm: Mean, control: Mean, *, critical: float) -> Lift | None:
    """Log-scale interval; None unless both values are positive and its limits are finite.

    Source: Katz et al. 1978 (vector rel_lift_log_prop).
    """
    if control.value <= TINY or arm.value <= TINY:
        return None
    ratio = arm.value / control.value
    half = critical * math.sqrt(arm.variance / arm.value**2 + control.variance / control.value**2)
    if not half < _EXPONENT or not math.isfinite(ratio):
        return None
    return Lift(ratio - 1.0, ratio * math.exp(-half) - 1.0, ratio * math.exp(half) - 1.0)


def fieller_lift(arm: Mean, control: Mean, *, critical: float) -> Lift | None:
    """Fieller's interval: the ratios whose difference arm - ratio * control is not rejected.

    It excludes 0 exactly when the interval of the difference with the same critical value does. None where control
    is not positive, or so uncertain that the set has no end. Source: Fieller 1954.
    """
    if control.value <= TINY:
        return None
    blur = critical**2 * control.variance / control.value**2
    if blur >= 1.0:
        return None
    ratio = arm.value / control.value
    inner = arm.variance * (1.0 - blur) + ratio * ratio * control.variance
    half = critical / control.value * math.sqrt(max(0.0, inner))
    if not math.isfinite(ratio / (1.0 - blur)) or not math.isfinite(half / (1.0 - blur)):
        return None
    return Lift(ratio - 1.0, (ratio - half) / (1.0 - blur) - 1.0, (ratio + half) / (1.0 - blur) - 1.0)


def log_df(arm: Sample, control: Sample) -> float:
    """Welch's degrees of freedom of log(arm) - log(control), for a t quantile in `log_lift` (vector ratio_delta)."""
    parts = (arm.mean_variance / arm.mean**2, control.mean_variance / control.mean**2)
    return sum(parts) ** 2 / (parts[0] ** 2 / (arm.n - 1) + parts[1] ** 2 / (control.n - 1))
