"""Comparing arms within strata: effects of waves, tiers or countries put together with the strata's own weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.aggregates import LARGEST, Moments, SurvivalCounts
from experiments.compare import counts_of, cuped_adjustment, lift_fields, normal_bounds
from experiments.cuped import Adjustment
from experiments.distributions import normal_ppf, two_sided
from experiments.families import Adjust, adjust_family
from experiments.means import TINY, Sample
from experiments.metrics import Metric
from experiments.relative import Lift, Mean, fieller_lift, log_lift
from experiments.results import Result
from experiments.strata import cochran_mantel_haenszel, merge_strata
from experiments.survival import common_horizon, restricted_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratification:
    """How strata are compared: the control arm, the error rate, the adjustment over arms, the survival horizon."""

    control: str
    alpha: float = 0.05
    adjust: Adjust = "holm"
    horizon: float | None = None


def compare_strata(
    metric: Metric,
    strata: Mapping[str, Mapping[str, Moments]],
    *,
    control: str,
    alpha: float = 0.05,
    adjust: Adjust = "holm",
) -> list[Result]:
    """Every arm against control (stratum -> arm -> moments): values weighted by the strata's sizes over all arms.

    One set of weights for all arms, so that control reads the same in every comparison. Means: weighted means; ratios:
    ratio of weighted means, linearised; both also CUPED-adjusted, with one slope for all strata; proportions: interval
    of the weighted shares, p by Cochran-Mantel-Haenszel. Normal limits. A stratum in which an arm or control has fewer
    than two units makes the arm `insufficient_data`: customers are never left out silently. Source: Miratrix, Sekhon
    and Yu 2013, eq. 8.
    """
    filled = {name: arms for name, arms in strata.items() if sum(m.n for m in arms.values())}
    whole = merge_strata(filled)
    frame = Stratification(control=control, alpha=alpha, adjust=adjust)
    adjusting = cuped_adjustment(metric, whole)
    weights = _weights({name: sum(m.n for m in arms.values()) for name, arms in filled.items()})
    values = {arm: _weighted(metric, filled, arm, weights, adjusting) for arm in whole}
    results = []
    for arm in whole:
        if arm == control:
            continue
        blank = _blank(metric, arm, frame, {name: part.n for name, part in whole.items()})
        result = _result(blank, values[arm], values.get(control), frame, "CUPED, " if adjusting else "")
        if metric.kind == "proportion" and adjusting is None and result.usable:
            result = _with_cmh(result, metric, filled, frame)
        results.append(result)
    return adjust_family(results, adjust=adjust)


def compare_survival_strata(
    metric: Metric, strata: Mapping[str, Mapping[str, SurvivalCounts]], *, frame: Stratification
) -> list[Result]:
    """The same for restricted mean times up to the horizon (default: the longest that every arm and stratum has)."""
    filled = {name: arms for name, arms in strata.items() if sum(counts.n for counts in arms.values())}
    names = list(dict.fromkeys(arm for arms in filled.values() for arm in arms))
    sizes = {arm: sum(arms[arm].n for arms in filled.values() if arm in arms) for arm in names}
    weights = _weights({name: sum(counts.n for counts in arms.values()) for name, arms in filled.items()})
    horizons = [common_horizon(arms) for arms in filled.values()]
    known = [horizon for horizon in horizons if horizon is not None]
    until = frame.horizon or (min(known) if known and len(known) == len(horizons) else None)
    values = {arm: _weighted_times(filled, arm, weights, until) for arm in names}
    results = [
        _result(_blank(metric, arm, frame, sizes), values[arm], values.get(frame.control), frame, "restricted mean, ")
        for arm in names
        if arm != frame.control
    ]
    return adjust_family(results, adjust=frame.adjust)


def _weights(sizes: Mapping[str, int]) -> dict[str, float]:
    total = sum(sizes.values())
    return {name: size / total for name, size in sizes.items()}


def _weighted(
    metric: Metric,
    strata: Mapping[str, Mapping[str, Moments]],
    arm: str,
    weights: Mapping[str, float],
    adjusting: Adjustment | None,
) -> Mean | None:
    """The arm's value over the strata with its variance; None where a stratum has too few of its units."""
    parts = [(weights[name], arms.get(arm)) for name, arms in strata.items()]
    filled = [
        (weight, part) for weight, part in parts if part is not None and part.n >= 2 and part.has(*metric.columns)
    ]
    if not filled or len(filled) != len(parts):
        return None
    if metric.kind == "ratio" or (adjusting is not None and len(adjusting.before.columns) > 1):
        return _weighted_ratio(metric, filled, adjusting)
    samples = [
        (weight, Sample.of(part, metric.column) if adjusting is None else adjusting.sample(part))
        for weight, part in filled
    ]
    known = [(weight, sample) for weight, sample in samples if sample is not None]
    return Mean(sum(w * s.mean for w, s in known), sum(w * w * s.mean_variance for w, s in known))


def _weighted_ratio(
    metric: Metric, parts: Sequence[tuple[float, Moments]], adjusting: Adjustment | None
) -> Mean | None:
    """The ratio of weighted means, less theta times the covariate's; the variance of the units' linear combination."""
    value, linear = _quotient(metric.columns, parts)
    if value is None:
        return None
    if adjusting is not None:
        before, factors = _quotient(adjusting.before.columns, parts)
        if before is None:
            return None
        value -= adjusting.theta * (before - adjusting.covariate_mean)
        linear += [(column, -adjusting.theta * factor) for column, factor in factors]
    variance = sum(
        weight**2 / part.n * max(0.0, sum(a * b * part.cov(x, y) for x, a in linear for y, b in linear))
        for weight, part in parts
    )
    return Mean(value, variance)


def _quotient(
    columns: Sequence[str], parts: Sequence[tuple[float, Moments]]
) -> tuple[float | None, list[tuple[str, float]]]:
    """The ratio of weighted means (or one weighted mean), and the columns' factors in the linearised unit."""
    means = [sum(weight * part.mean(column) for weight, part in parts) for column in columns]
    if len(means) == 1:
        return means[0], [(columns[0], 1.0)]
    if abs(means[1]) < TINY:
        return None, []
    ratio = means[0] / means[1]
    return ratio, [(columns[0], 1.0 / means[1]), (columns[1], -ratio / means[1])]


def _weighted_times(
    strata: Mapping[str, Mapping[str, SurvivalCounts]], arm: str, weights: Mapping[str, float], horizon: float | None
) -> Mean | None:
    parts = [(weights[name], arms.get(arm)) for name, arms in strata.items()]
    filled = [(weight, counts) for weight, counts in parts if counts is not None and counts.n >= 2]
    if not filled or len(filled) != len(parts) or horizon is None:
        return None
    times = [(weight, restricted_mean(counts, horizon=horizon)) for weight, counts in filled]
    return Mean(sum(w * t.value for w, t in times), sum((w * t.se) ** 2 for w, t in times))


def _blank(metric: Metric, arm: str, frame: Stratification, sizes: Mapping[str, int]) -> Result:
    return Result(
        metric=metric.name,
        kind=metric.kind,
        arm=arm,
        control=frame.control,
        n_arm=sizes[arm],
        n_control=sizes.get(frame.control, 0),
    )


def _result(blank: Result, arm: Mean | None, control: Mean | None, frame: Stratification, prefix: str) -> Result:
    if not blank.n_control:
        return replace(blank, status="no_control")
    if arm is None or control is None:
        return replace(blank, status="insufficient_data")
    if not _in_range(arm, control):
        return replace(blank, status="not_comparable")
    gap, se = arm.value - control.value, math.sqrt(arm.variance + control.variance)
    shown = replace(blank, arm_value=arm.value, control_value=control.value, difference=gap)
    if se <= 1e-12 * max(abs(arm.value), abs(control.value), TINY):
        return replace(shown, status="zero_variance")
    critical = normal_ppf(1.0 - 0.5 * frame.alpha)
    values: dict[str, Any] = {"low": gap - critical * se, "high": gap + critical * se, "p_value": two_sided(gap / se)}
    values |= {"se": se, "method": f"{prefix}post-stratified, normal"}
    lift = lift_fields(_lift(blank.kind, arm, control, critical))
    return replace(shown, **values, **normal_bounds(gap, se), **lift)


def _in_range(*sides: Mean) -> bool:
    return all(abs(side.value) <= LARGEST and side.variance <= LARGEST**2 for side in sides)


def _lift(kind: str, arm: Mean, control: Mean, critical: float) -> Lift | None:
    if kind == "survival":
        return None
    interval = log_lift if kind == "proportion" else fieller_lift
    return interval(arm, control, critical=critical)


def _with_cmh(
    result: Result, metric: Metric, strata: Mapping[str, Mapping[str, Moments]], frame: Stratification
) -> Result:
    tables = [(counts_of(arms[result.arm], metric), counts_of(arms[frame.control], metric)) for arms in strata.values()]
    p = cochran_mantel_haenszel(tables).p_value
    return (
        result if p is None else replace(result, p_value=p, method="Cochran-Mantel-Haenszel; post-stratified interval")
    )
