"""Retention as survival: Kaplan-Meier curves, log-rank tests and restricted mean times, all from day counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from experiments.aggregates import SurvivalCounts
from experiments.distributions import chi2_sf, normal_ppf, two_sided
from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Weights = Literal["logrank", "gehan"]


@dataclass(frozen=True, slots=True)
class Curve:
    """A Kaplan-Meier curve: after each time, the share still without the event, its standard error and limits.

    `low` and `high` are the log-log interval; None where it does not exist (nobody had the event yet, or all had).
    """

    times: tuple[float, ...]
    survival: tuple[float, ...]
    se: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    at_risk: tuple[int, ...]
    events: tuple[int, ...]

    def at(self, time: float) -> float:
        """Share still without the event just after `time`; beyond the last time the last value."""
        value = 1.0
        for when, share in zip(self.times, self.survival, strict=True):
            if when > time:
                break
            value = share
        return value

    @property
    def median(self) -> float | None:
        """First time at which at most half are left without the event; None if that is never reached."""
        pairs = zip(self.times, self.survival, strict=True)
        return next((time for time, share in pairs if share <= 0.5), None)

    def linear_interval(self, *, confidence: float = 0.95) -> list[tuple[float, float]]:
        """The plain Greenwood interval S +- z se, cut to 0..1."""
        z = normal_ppf(0.5 + 0.5 * confidence)
        pairs = zip(self.survival, self.se, strict=True)
        return [(max(0.0, share - z * se), min(1.0, share + z * se)) for share, se in pairs]


class LogRank(NamedTuple):
    """A log-rank test; `expected` events per arm under equal hazards. p None where there is nothing to test."""

    chi2: float | None
    df: int
    p_value: float | None
    observed: Mapping[str, float]
    expected: Mapping[str, float]


class Rmst(NamedTuple):
    """Restricted mean time without the event, to a horizon, with its standard error."""

    value: float
    se: float


class RmstDifference(NamedTuple):
    """Arm minus control; p and limits None where nothing varies."""

    difference: float
    se: float
    p_value: float | None
    low: float | None
    high: float | None


def kaplan_meier(counts: SurvivalCounts, *, confidence: float = 0.95) -> Curve:
    """The product-limit estimate with Greenwood's variance and log-log limits.

    Source: Kaplan and Meier 1958; Greenwood 1926; Kalbfleisch and Prentice 2002, eq. 1.17 (vector km_small).
    """
    z = normal_ppf(0.5 + 0.5 * confidence)
    share, gathered = 1.0, 0.0
    survival: list[float] = []
    errors: list[float] = []
    limits: list[tuple[float | None, float | None]] = []
    for risk, happened in zip(counts.at_risk, counts.events, strict=True):
        if risk > happened:
            share *= 1.0 - happened / risk
            gathered += happened / (risk * (risk - happened))
        elif happened:
            share, gathered = 0.0, 0.0
        survival.append(share)
        errors.append(share * math.sqrt(gathered))
        limits.append(_log_log(share, gathered, z))
    low, high = tuple(pair[0] for pair in limits), tuple(pair[1] for pair in limits)
    return Curve(counts.times, tuple(survival), tuple(errors), low, high, counts.at_risk, counts.events)


def log_rank(arms: Mapping[str, SurvivalCounts], *, weights: Weights = "logrank") -> LogRank:
    """Log-rank test of k arms. Source: Mantel 1966; Gehan 1965 (vectors logrank_2, logrank_gehan)."""
    return stratified_log_rank([arms], weights=weights)


def stratified_log_rank(strata: Sequence[Mapping[str, SurvivalCounts]], *, weights: Weights = "logrank") -> LogRank:
    """Log-rank test of k arms within strata (waves, tiers): observed, expected and covariances add up over the strata.

    Raises: ExperimentError where strata name different arms.
    """
    import numpy as np

    names = list(strata[0]) if strata else []
    if any(set(stratum) != set(names) for stratum in strata):
        raise ExperimentError("log-rank: every stratum must name the same arms (give empty counts where one has none)")
    k = len(names)
    observed, expected, covariance = np.zeros(k), np.zeros(k), np.zeros((k, k))
    scored = np.zeros(k)
    for stratum in strata:
        part = _stratum([stratum[name] for name in names], weights)
        observed += part[0]
        expected += part[1]
        scored += part[2]
        covariance += part[3]
    chi2 = _quadratic(scored, covariance)
    p = None if chi2 is None else chi2_sf(chi2, k - 1)
    by_name = [dict(zip(names, values.tolist(), strict=True)) for values in (observed, expected)]
    return LogRank(chi2, max(0, k - 1), p, by_name[0], by_name[1])


def restricted_mean(counts: SurvivalCounts, *, horizon: float) -> Rmst:
    """Area under the Kaplan-Meier curve up to `horizon`, with a Greenwood-type standard error.

    Var = sum over event times t <= horizon of (area from t to horizon)**2 d / (n (n - d)).
    Source: Irwin 1949; Royston and Parmar 2013, eq. 2. Raises: ExperimentError where the horizon is not positive.
    """
    if horizon <= 0.0:
        raise ExperimentError(f"restricted mean: the horizon must be above 0, got {horizon}")
    curve = kaplan_meier(counts)
    inside = [i for i, time in enumerate(curve.times) if time <= horizon]
    edges = [0.0, *(curve.times[i] for i in inside), horizon]
    levels = [1.0, *(curve.survival[i] for i in inside)]
    areas = [levels[i] * (edges[i + 1] - edges[i]) for i in range(len(levels))]
    after, variance = sum(areas), 0.0
    for place, i in enumerate(inside):
        after -= areas[place]
        risk, happened = curve.at_risk[i], curve.events[i]
        if happened and risk > happened:
            variance += after**2 * happened / (risk * (risk - happened))
    return Rmst(sum(areas), math.sqrt(variance))


def rmst_difference(
    arm: SurvivalCounts, control: SurvivalCounts, *, horizon: float, confidence: float = 0.95
) -> RmstDifference:
    """Difference of restricted mean times (arm minus control), normal interval and p; arms independent."""
    first, second = restricted_mean(arm, horizon=horizon), restricted_mean(control, horizon=horizon)
    gap, se = first.value - second.value, math.hypot(first.se, second.se)
    if se <= 0.0:
        return RmstDifference(gap, 0.0, None, None, None)
    half = normal_ppf(0.5 + 0.5 * confidence) * se
    return RmstDifference(gap, se, two_sided(gap / se), gap - half, gap + half)


def common_horizon(arms: Mapping[str, SurvivalCounts]) -> float | None:
    """The longest time that every arm was observed for; None where an arm has nobody or only time 0."""
    longest = [counts.times[-1] if counts.times else 0.0 for counts in arms.values()]
    return min(longest) if longest and min(longest) > 0.0 else None


def _stratum(arms: Sequence[SurvivalCounts], weights: Weights) -> tuple[Array, Array, Array, Array]:
    """Observed, expected, weighted observed - expected, and covariance of one stratum (hypergeometric per time)."""
    import numpy as np

    times = np.unique(np.concatenate([np.asarray(counts.times, dtype=np.float64) for counts in arms] or [np.empty(0)]))
    events = np.zeros((len(arms), times.size))
    leaving = np.zeros((len(arms), times.size))
    for row, counts in enumerate(arms):
        place = np.searchsorted(times, np.asarray(counts.times, dtype=np.float64))
        events[row, place] = counts.events
        leaving[row, place] = np.asarray(counts.events) + np.asarray(counts.censored)
    risk = leaving.sum(axis=1, keepdims=True) - np.cumsum(leaving, axis=1) + leaving
    happening = events.sum(axis=0) > 0
    events, risk = events[:, happening], risk[:, happening]
    total, dead = risk.sum(axis=0), events.sum(axis=0)
    weight = total if weights == "gehan" else np.ones_like(total)
    share = risk / total
    expected = share * dead
    spread = weight**2 * dead * np.where(total > 1, (total - dead) / np.maximum(total - 1.0, 1.0), 0.0)
    covariance = np.diag((spread * share).sum(axis=1)) - (share * spread) @ share.T
    scored = (weight * (events - expected)).sum(axis=1)
    return events.sum(axis=1), expected.sum(axis=1), scored, covariance


def _quadratic(scored: Array, covariance: Array) -> float | None:
    """Chi-square of the scores; None where the covariance does not reach k - 1 dimensions."""
    import numpy as np

    if scored.size < 2:
        return None
    part = covariance[:-1, :-1]
    if np.linalg.matrix_rank(part) < part.shape[0]:
        return None
    return float(scored[:-1] @ np.linalg.solve(part, scored[:-1]))


def _log_log(share: float, gathered: float, z: float) -> tuple[float | None, float | None]:
    if not 0.0 < share < 1.0:
        return None, None
    spread = z * math.sqrt(gathered) / abs(math.log(share))
    return share ** math.exp(spread), share ** math.exp(-spread)
