"""Strata: effects within tiers, waves or countries, put together again or tested for being alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.aggregates import Moments
from experiments.distributions import chi2_sf, normal_ppf, two_sided
from experiments.errors import ExperimentError
from experiments.means import Sample
from experiments.proportions import Counts


class StratifiedDifference(NamedTuple):
    """A difference put together over strata."""

    difference: float
    se: float
    p_value: float | None
    low: float | None
    high: float | None
    arm_value: float
    control_value: float


class CochranMantelHaenszel(NamedTuple):
    """Test of a common effect over strata, and the Mantel-Haenszel odds ratio (None: undefined)."""

    chi2: float | None
    p_value: float | None
    odds_ratio: float | None


class Heterogeneity(NamedTuple):
    """Cochran's Q: do the strata's effects differ by more than chance; i2 is the share of variation that does."""

    q: float | None
    df: int
    p_value: float | None
    i2: float | None
    pooled: float | None
    pooled_se: float | None


def post_stratify(
    strata: Sequence[tuple[Moments, Moments]], *, column: str, confidence: float = 0.95
) -> StratifiedDifference | None:
    """Difference of means weighted by the strata's sizes (both arms together), from (arm, control) moments per stratum.

    Strata in which a side has fewer than two units cannot be compared: None if one holds anybody, so that the effect
    never silently speaks of fewer customers. Source: Miratrix, Sekhon and Yu 2013, eq. 8; Deng et al. 2013, section 3.
    """
    filled = [(arm, control) for arm, control in strata if arm.n + control.n > 0]
    if not filled or any(min(arm.n, control.n) < 2 for arm, control in filled):
        return None
    total = sum(arm.n + control.n for arm, control in filled)
    values, variance = [0.0, 0.0], 0.0
    for arm, control in filled:
        weight = (arm.n + control.n) / total
        sides = [Sample.of(side, column) for side in (arm, control)]
        variance += weight**2 * sum(side.mean_variance for side in sides)
        values = [value + weight * side.mean for value, side in zip(values, sides, strict=True)]
    gap, se = values[0] - values[1], math.sqrt(variance)
    if se <= 0.0:
        return StratifiedDifference(gap, 0.0, None, None, None, values[0], values[1])
    half = normal_ppf(0.5 + 0.5 * confidence) * se
    return StratifiedDifference(gap, se, two_sided(gap / se), gap - half, gap + half, values[0], values[1])


def cochran_mantel_haenszel(
    strata: Sequence[tuple[Counts, Counts]], *, correction: bool = False
) -> CochranMantelHaenszel:
    """CMH test over (arm, control) counts per stratum. Source: Mantel and Haenszel 1959.

    `correction`: continuity correction of 1/2.
    """
    gap, variance, above, below = 0.0, 0.0, 0.0, 0.0
    for arm, control in strata:
        total = arm.n + control.n
        if total < 2:
            continue
        hits = arm.successes + control.successes
        gap += arm.successes - arm.n * hits / total
        variance += arm.n * control.n * hits * (total - hits) / (total**2 * (total - 1.0))
        above += arm.successes * (control.n - control.successes) / total
        below += (arm.n - arm.successes) * control.successes / total
    odds = above / below if below > 0.0 else None
    if variance <= 0.0:
        return CochranMantelHaenszel(None, None, odds)
    distance = max(0.0, abs(gap) - (0.5 if correction else 0.0))
    chi2 = distance**2 / variance
    return CochranMantelHaenszel(chi2, chi2_sf(chi2, 1), odds)


def cochran_q(effects: Sequence[float], errors: Sequence[float]) -> Heterogeneity:
    """Cochran's Q of effects with standard errors, and their inverse-variance mean.

    Source: Cochran 1954; I-squared: Higgins and Thompson 2002. Raises: ExperimentError for unequal lengths.
    """
    if len(effects) != len(errors):
        raise ExperimentError(f"Cochran's Q: {len(effects)} effects but {len(errors)} standard errors")
    known = [(effect, 1.0 / se**2) for effect, se in zip(effects, errors, strict=True) if se > 0.0]
    if not known:
        return Heterogeneity(None, 0, None, None, None, None)
    weight = sum(w for _, w in known)
    pooled = sum(effect * w for effect, w in known) / weight
    df = len(known) - 1
    if df == 0:
        return Heterogeneity(None, 0, None, None, pooled, math.sqrt(1.0 / weight))
    q = sum(w * (effect - pooled) ** 2 for effect, w in known)
    i2 = max(0.0, (q - df) / q) if q > 0.0 else 0.0
    return Heterogeneity(q, df, chi2_sf(q, df), i2, pooled, math.sqrt(1.0 / weight))


def merge_strata(strata: Mapping[str, Mapping[str, Moments]]) -> dict[str, Moments]:
    """The arms' moments over all strata together."""
    merged: dict[str, Moments] = {}
    for arms in strata.values():
        for arm, moments in arms.items():
            merged[arm] = merged[arm] + moments if arm in merged else moments
    return merged
