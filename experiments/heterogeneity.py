"""Heterogeneity: effects by pre-registered segment, Cochran's Q before any of them is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from experiments.aggregates import Moments
from experiments.compare import compare
from experiments.metrics import Metric
from experiments.multiplicity import benjamini_hochberg
from experiments.results import Result
from experiments.strata import Heterogeneity, cochran_q

Group = Literal["persuadables", "sure_things", "lost_causes", "sleeping_dogs", "unknown"]


@dataclass(frozen=True, slots=True)
class SegmentEffect:
    """One segment's result (p adjusted over the segments by Benjamini-Hochberg) and its group."""

    segment: str
    result: Result
    group: Group


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """Effects by segment. `differ`: Cochran's Q rejects that they are alike; only then is there a `best` segment.

    `by`: what the segments are made of (a column), where known.
    """

    arm: str
    effects: tuple[SegmentEffect, ...]
    heterogeneity: Heterogeneity
    differ: bool
    best: str | None
    metric: str = ""
    by: str = ""

    @property
    def line(self) -> str:
        """One line that says whether the segments may be told apart, by Cochran's Q."""
        p = self.heterogeneity.p_value
        said = "differ" if self.differ else "do not differ beyond chance: the overall effect is the best estimate"
        q = "not known" if p is None else f"= {p:.3g}"
        return f"{self.metric}, {self.arm} by {self.by}: effects {said} (Cochran's Q, p {q})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"heterogeneity": self.heterogeneity._asdict()}


def segment_report(
    metric: Metric, segments: Mapping[str, Mapping[str, Moments]], *, arm: str, control: str, alpha: float = 0.05
) -> SegmentReport:
    """Effect of one arm in every segment (segment -> arm -> moments), as an exploration.

    Persuadables: the effect is better after adjustment; sleeping dogs: worse; among the others, sure things convert at
    least as often as all of control, lost causes less. Where Q does not reject, nobody is singled out (`unknown`).
    Source: Cochran 1954; Benjamini and Hochberg 1995; groups: Radcliffe and Surry 2011.
    """
    found = {name: _in_segment(metric, arms, arm, control, alpha) for name, arms in segments.items()}
    return report_of_results(metric, found, arm=arm, alpha=alpha)


def report_of_results(metric: Metric, found: Mapping[str, Result], *, arm: str, alpha: float = 0.05) -> SegmentReport:
    """`segment_report` for results per segment that were made elsewhere (survival metrics)."""
    results = _adjusted(found)
    usable = [r for r in results.values() if r.usable and r.difference is not None and r.se is not None]
    spread = cochran_q([r.difference or 0.0 for r in usable], [r.se or 0.0 for r in usable])
    differ = spread.p_value is not None and spread.p_value <= alpha
    overall = _overall(results)
    effects = tuple(
        SegmentEffect(name, result, _group(result, metric, overall, alpha) if differ else "unknown")
        for name, result in results.items()
    )
    winners = [effect for effect in effects if effect.group == "persuadables"]
    sign = 1.0 if metric.higher_is_better else -1.0
    best = max(winners, key=lambda effect: sign * (effect.result.difference or 0.0)).segment if winners else None
    return SegmentReport(arm, effects, spread, differ, best, metric.name)


def _in_segment(metric: Metric, arms: Mapping[str, Moments], arm: str, control: str, alpha: float) -> Result:
    empty = Moments.empty(metric.columns)
    pair = {arm: arms.get(arm, empty), control: arms.get(control, empty)}
    return compare(metric, pair, control=control, alpha=alpha)[0]


def _adjusted(found: Mapping[str, Result]) -> dict[str, Result]:
    tested = {name: result.p_value for name, result in found.items() if result.p_value is not None}
    adjusted = dict(zip(tested, benjamini_hochberg(list(tested.values())), strict=True))
    return {name: replace(result, p_adjusted=adjusted.get(name)) for name, result in found.items()}


def _overall(results: Mapping[str, Result]) -> float:
    """Control's value over all segments."""
    known = [(r.n_control, r.control_value) for r in results.values() if r.control_value is not None]
    total = sum(n for n, _ in known)
    return sum(n * value for n, value in known) / total if total else 0.0


def _group(result: Result, metric: Metric, overall: float, alpha: float) -> Group:
    if not result.usable or result.difference is None or result.p_adjusted is None or result.control_value is None:
        return "unknown"
    better = (result.difference > 0.0) == metric.higher_is_better
    if result.p_adjusted <= alpha:
        return "persuadables" if better else "sleeping_dogs"
    return "sure_things" if result.control_value >= overall else "lost_causes"
