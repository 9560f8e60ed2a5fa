"""Retention as survival: how long each arm's customers stayed away, over all waves, immature ones included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from experiments.aggregates import SurvivalCounts
from experiments.compare_strata import Stratification, compare_survival_strata
from experiments.compare_survival import compare_survival
from experiments.compare_waves import usable_waves
from experiments.metrics import METRICS
from experiments.results import Result
from experiments.survival import Curve, common_horizon, kaplan_meier, stratified_log_rank

if TYPE_CHECKING:
    from experiments.design import Design
    from flows.steps.collect_outcomes import Collected

METRIC: Final = METRICS["time_to_repurchase"]
SHOWN_DAYS: Final = (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 270, 365)
"""Days at which the curves are written down, as far as somebody was followed for so long."""
LONGEST_CURVE: Final = 366
"""Days up to which a curve is kept day by day, for drawing."""


def describe_times(design: Design, collected: Collected) -> dict[str, Any] | None:
    """Kaplan-Meier points of every arm with log-log limits, the log-rank test and differences of restricted means.

    Customers without a purchase are censored at the end of the horizon, or where the facts are complete until. The
    log-rank test is stratified by wave. None where nobody was followed for a whole day yet. Where the shares were
    learnt, curves and means are those of the mature waves, put together by the waves' sizes.
    """
    if design.allocation != "fixed":
        return describe_learnt_times(design, collected)
    arms = _by_arm(design, collected)
    horizon = common_horizon(arms)
    if horizon is None:
        return None
    test = stratified_log_rank([_filled(design, wave.times) for wave in collected.waves])
    compared = compare_survival(METRIC, arms, control=design.control, alpha=design.alpha, horizon=horizon)
    return {
        "metric": METRIC.name,
        "unit": METRIC.unit,
        "horizon_days": horizon,
        "waves": len(collected.waves),
        "arms": {arm: _describe_arm(counts, confidence=1.0 - design.alpha) for arm, counts in arms.items()},
        "log_rank": {key: value for key, value in test._asdict().items() if key in ("chi2", "df", "p_value")},
        "rmst": [result.to_json() for result in compared],
    }


def with_times(results: Sequence[Result], times: Mapping[str, Any] | None) -> list[Result]:
    """The results with the restricted mean times in the place of the survival metric, where they are known."""
    known = {row["arm"]: Result.from_json(row) for row in (times or {}).get("rmst", ())}
    return [known.get(result.arm, result) if result.metric == METRIC.name else result for result in results]


def _by_arm(design: Design, collected: Collected) -> dict[str, SurvivalCounts]:
    total = {arm: SurvivalCounts.empty() for arm, weight in design.weights if weight > 0.0}
    for wave in collected.waves:
        for arm, counts in wave.times.items():
            total[arm] = total.get(arm, SurvivalCounts.empty()) + counts
    return total


def _filled(design: Design, times: Mapping[str, SurvivalCounts]) -> dict[str, SurvivalCounts]:
    """The wave's counts with every arm of the design named."""
    return {arm: times.get(arm, SurvivalCounts.empty()) for arm, weight in design.weights if weight > 0.0}


def _describe_arm(counts: SurvivalCounts, *, confidence: float) -> dict[str, Any]:
    curve = kaplan_meier(counts, confidence=confidence)
    followed = counts.times[-1] if counts.times else 0.0
    days = range(1, min(int(followed), LONGEST_CURVE) + 1)
    return {
        "n": counts.n,
        "events": sum(counts.events),
        "median_days": None if curve.median is None else curve.median + 1.0,
        "points": [_point(curve, day) for day in SHOWN_DAYS if day <= followed],
        "curve": [[day, _point(curve, day)["away"]] for day in days],
        "risk": [[day, _at_risk(curve, day)] for day in days],
    }


def _point(curve: Curve, day: int) -> dict[str, Any]:
    """The share that has not bought within `day` whole days: day 0 of the counts is the first one."""
    place = max((k for k, time in enumerate(curve.times) if time <= day - 1), default=None)
    if place is None:
        return {"day": day, "away": 1.0, "low": None, "high": None, "at_risk": _at_risk(curve, day)}
    return {
        "day": day,
        "away": curve.survival[place],
        "low": curve.low[place],
        "high": curve.high[place],
        "at_risk": _at_risk(curve, day),
    }


def _at_risk(curve: Curve, day: int) -> int:
    """Customers still followed and without a purchase when `day` days have passed."""
    return next((n for time, n in zip(curve.times, curve.at_risk, strict=True) if time >= day), 0)


def describe_learnt_times(design: Design, collected: Collected) -> dict[str, Any] | None:
    """`describe_times` where each wave had shares of its own: a wave counts by its size, not by its arms' sizes."""
    sizes = {
        str(number): {arm: counts.n for arm, counts in wave.times.items()}
        for number, wave in enumerate(collected.mature_waves)
    }
    usable, _ = usable_waves(design, sizes)
    strata = {name: _filled(design, collected.mature_waves[int(name)].times) for name in usable}
    if not strata:
        return None
    frame = Stratification(control=design.control, alpha=design.alpha)
    compared = compare_survival_strata(METRIC, strata, frame=frame)
    test = stratified_log_rank([_filled(design, wave.times) for wave in collected.waves])
    total = sum(sum(sizes[name].values()) for name in strata)
    weights = {name: sum(sizes[name].values()) / total for name in strata}
    return {
        "metric": METRIC.name,
        "unit": METRIC.unit,
        "horizon_days": design.horizon_days,
        "waves": len(strata),
        "arms": {
            arm: _average([(weights[name], arms[arm]) for name, arms in strata.items()])
            for arm, weight in design.weights
            if weight > 0.0
        },
        "log_rank": {key: value for key, value in test._asdict().items() if key in ("chi2", "df", "p_value")},
        "rmst": [result.to_json() for result in compared],
    }


def _average(waves: Sequence[tuple[float, SurvivalCounts]]) -> dict[str, Any]:
    """An arm's curve as the weighted mean of its waves' curves, without limits."""
    parts = [(weight, _describe_arm(counts, confidence=0.95)) for weight, counts in waves]
    days = set.intersection(*({point["day"] for point in part["points"]} for _, part in parts))
    points = []
    for day in sorted(days):
        at = [(weight, next(p for p in part["points"] if p["day"] == day)) for weight, part in parts]
        away = sum(weight * point["away"] for weight, point in at)
        risk = sum(point["at_risk"] for _, point in at)
        points.append({"day": day, "away": away, "low": None, "high": None, "at_risk": risk})
    return {
        "n": sum(part["n"] for _, part in parts),
        "events": sum(part["events"] for _, part in parts),
        "median_days": None,
        "points": points,
        "curve": [
            [row[0][0], sum(weight * away for (weight, _), (_, away) in zip(parts, row, strict=True))]
            for row in zip(*(part["curve"] for _, part in parts), strict=False)
        ],
        "risk": [
            [row[0][0], sum(n for _, n in row)] for row in zip(*(part["risk"] for _, part in parts), strict=False)
        ],
    }
