"""Effects by the segments that were named beforehand: who is moved by a message, and who is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from experiments.aggregates import Moments
from experiments.assign import fractions
from experiments.heterogeneity import SegmentReport, segment_report
from experiments.metrics import METRICS
from experiments.multiplicity import benjamini_hochberg
from flows.steps.collect_outcomes import PRE_PERIOD, add_moments
from flows.steps.uplift_ranking import Halves, rank_uplift
from warehouse.facts.outcomes import wave_moments
from warehouse.facts.segment_sql import compute_features
from warehouse.ledger.assignments import assignments_frame

if TYPE_CHECKING:
    import pandas as pd

    from experiments.design import Design
    from experiments.results import Result
    from flows.steps.collect_outcomes import Collected, WaveOutcomes
    from flows.wiring import Workspace

MOST_SEGMENTS: Final = 12
"""Values of a feature that are told apart, by their number of customers; the rest is one segment, `other`."""
MISSING: Final = "unknown"
OTHER: Final = "other"
_SHOWN: Final = (
    "n_arm", "n_control", "arm_value", "control_value", "difference", "low", "high", "p_value", "p_adjusted",
    "relative_lift", "method", "status",
)  # fmt: skip


class _Place(NamedTuple):
    """Where a customer counts: segment, arm, and the half that fits or the half that tests a ranking."""

    segment: str
    arm: str
    held_out: bool


def describe_segments(ws: Workspace, design: Design, collected: Collected) -> list[dict[str, Any]]:
    """For every feature of the design and every arm: Cochran's Q, the effects by segment, and the uplift ranking.

    Features are those of the assignment's instant, outcomes those of the mature waves. The p-values of Q are adjusted
    over features and arms (Benjamini-Hochberg); only where they reject is a segment singled out.
    """
    if not design.segments or not collected.mature:
        return []
    cohorts = [(wave, _cohort(ws, design, wave)) for wave in collected.mature_waves]
    arms = [arm for arm in design.arms if collected.mature.get(arm, 0)]
    found: list[tuple[str, SegmentReport, dict[str, Any] | None]] = []
    for feature in design.segments:
        moments = _moments(ws, design, cohorts, feature)
        for arm in arms:
            report = segment_report(
                METRICS[design.primary],
                _segments(moments),
                arm=arm,
                control=design.control,
                alpha=design.alpha,
            )
            found.append((feature, report, _uplift(design, moments, arm)))
    adjusted = _adjust([report for _, report, _ in found])
    return [
        _describe(design, feature, report, p, uplift)
        for (feature, report, uplift), p in zip(found, adjusted, strict=True)
    ]


def _cohort(ws: Workspace, design: Design, wave: WaveOutcomes) -> pd.DataFrame:
    """The wave's customers with arm, half and the values of every feature as text."""
    with ws.ledger.read() as tx:
        cohort = assignments_frame(tx, wave.wave.wave_id)
    ids = cohort["customer_id"].tolist()
    features = compute_features(
        ws.facts,
        as_of=wave.wave.as_of,
        names=design.segments,
        customer_ids=ids,
        options=ws.feature_options,
    ).set_index("customer_id")
    cohort["held_out"] = fractions(f"{design.salt}.uplift", ids) >= 0.5
    for name in design.segments:
        cohort[name] = _as_text(features[name].reindex(ids)).to_numpy()
    return cohort


def _as_text(values: pd.Series[Any]) -> pd.Series[Any]:
    """Values as people write them: yes and no, whole numbers without a point, `unknown` where missing."""
    named = {value: _name(value) for value in values.dropna().unique()}
    return values.map(named).fillna(MISSING)


def _name(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return {"True": "yes", "False": "no"}.get(text, text) or MISSING


def _moments(
    ws: Workspace, design: Design, cohorts: Sequence[tuple[WaveOutcomes, pd.DataFrame]], feature: str
) -> dict[_Place, Moments]:
    """Moments of all mature waves by segment, arm and half."""
    import pandas as pd

    counted = pd.concat([cohort[feature] for _, cohort in cohorts]).value_counts()
    kept = set(sorted(counted.index, key=lambda value: (-counted[value], value))[:MOST_SEGMENTS])
    horizon = timedelta(days=design.horizon_days)
    parts = []
    for wave, cohort in cohorts:
        segment = cohort[feature].where(cohort[feature].isin(kept), OTHER)
        grouped = cohort.assign(segment=segment).groupby(["segment", "arm", "held_out"], sort=True)
        places = [_Place(str(name), str(arm), bool(half)) for name, arm, half in grouped.size().index]
        numbered = cohort[["customer_id"]].assign(arm=grouped.ngroup().astype(str))
        start = wave.wave.assigned_at
        groups = wave_moments(ws.facts, numbered, start=start, horizon=horizon, pre_period=PRE_PERIOD)
        parts.append({place: groups[str(number)] for number, place in enumerate(places)})
    return _add(parts)


def _add(parts: Iterable[Mapping[_Place, Moments]]) -> dict[_Place, Moments]:
    total: dict[_Place, Moments] = {}
    for part in parts:
        for place, moments in part.items():
            total[place] = total[place] + moments if place in total else moments
    return dict(sorted(total.items()))


def _segments(moments: Mapping[_Place, Moments]) -> dict[str, dict[str, Moments]]:
    """Segment -> arm -> moments of both halves."""
    segments: dict[str, dict[str, Moments]] = {}
    for place, part in moments.items():
        arms = segments.setdefault(place.segment, {})
        arms.update(add_moments([{place.arm: arms[place.arm]} if place.arm in arms else {}, {place.arm: part}]))
    return segments


def _uplift(design: Design, moments: Mapping[_Place, Moments], arm: str) -> dict[str, Any] | None:
    """The ranking of the segments, fitted on one half and tested on the other; None unless the primary is a share."""
    metric = METRICS[design.primary]
    if metric.kind != "proportion":
        return None
    empty = Moments.empty((metric.column,))
    segments: dict[str, dict[bool, Halves]] = {}
    for segment in dict.fromkeys(place.segment for place in moments):
        segments[segment] = {
            held_out: Halves.of(
                moments.get(_Place(segment, arm, held_out), empty),
                moments.get(_Place(segment, design.control, held_out), empty),
                column=metric.column,
            )
            for held_out in (False, True)
        }
    return rank_uplift(segments)


def _adjust(reports: Sequence[SegmentReport]) -> list[float | None]:
    """Q's p-values over all features and arms together."""
    tested = [r.heterogeneity.p_value for r in reports if r.heterogeneity.p_value is not None]
    adjusted = iter(benjamini_hochberg(tested))
    return [None if r.heterogeneity.p_value is None else next(adjusted) for r in reports]


def _describe(
    design: Design, feature: str, report: SegmentReport, p_adjusted: float | None, uplift: dict[str, Any] | None
) -> dict[str, Any]:
    differ = p_adjusted is not None and p_adjusted <= design.alpha
    if not differ:
        effects = tuple(replace(effect, group="unknown") for effect in report.effects)
        report = replace(report, differ=False, best=None, effects=effects)
    spread = report.heterogeneity
    return {
        "feature": feature,
        "metric": design.primary,
        "arm": report.arm,
        "q": spread.q,
        "df": spread.df,
        "p_value": spread.p_value,
        "p_adjusted": p_adjusted,
        "i2": spread.i2,
        "differ": differ,
        "best": report.best,
        "effects": [
            {"segment": effect.segment, "group": effect.group, **_shown(effect.result)} for effect in report.effects
        ],
        "uplift": uplift,
    }


def _shown(result: Result) -> dict[str, Any]:
    return {key: getattr(result, key) for key in _SHOWN}
