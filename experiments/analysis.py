"""Analysis of any experiment's table, in a notebook or from the command line.

>>> from experiments import analyze
>>> table = {"arm": ["a", "a", "a", "c", "c", "c"], "spend": [3.0, 4.0, 5.0, 1.0, 2.0, 3.0]}
>>> analyze(table, arm="arm", control="c", metrics=["spend:mean"]).results[0].difference
2.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from experiments.aggregates import Moments, SurvivalCounts
from experiments.compare import compare
from experiments.compare_survival import compare_survival
from experiments.errors import ExperimentError
from experiments.families import Adjust
from experiments.health import Srm, srm, srm_by_stratum
from experiments.metrics import Metric, parse_metric
from experiments.results import Result
from experiments.survival import common_horizon
from experiments.table import Collected, Missing, Table, collect

if TYPE_CHECKING:
    import pandas as pd

    from experiments.analysis_extras import NonInferiority, ReachedEffect
    from experiments.heterogeneity import SegmentReport
    from experiments.views import BayesResult, Look, LookView, Prior, SurvivalView

View = Literal["results", "stratified", "segments", "look", "bayes", "survival", "noninferior", "reached"]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a table says: arms with their sizes, the split's health, one result per metric and arm.

    The rest is there where it was asked for: `stratified` results beside the plain ones with the split per stratum,
    `segments` (an exploration), the `look`, the Bayesian view, every survival metric's curves and log-rank test, arms
    against margins (`noninferior`), and the effects on those reached.
    """

    control: str
    alpha: float
    arms: Mapping[str, int]
    srm: Srm
    results: tuple[Result, ...]
    stratified: tuple[Result, ...] = ()
    srm_strata: Mapping[str, Srm] = field(default_factory=dict)
    segments: tuple[SegmentReport, ...] = ()
    look: LookView | None = None
    bayes: tuple[BayesResult, ...] = ()
    survival: tuple[SurvivalView, ...] = ()
    noninferior: tuple[NonInferiority, ...] = ()
    reached: tuple[ReachedEffect, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; the views that were not asked for are left out."""
        plain: dict[str, Any] = {
            "control": self.control,
            "alpha": self.alpha,
            "arms": {arm: {"n": n} for arm, n in self.arms.items()},
            "srm": self.srm._asdict(),
            "results": [result.to_json() for result in self.results],
        }
        if self.srm_strata:
            plain["srm_strata"] = {name: test._asdict() for name, test in self.srm_strata.items()}
        if self.look is not None:
            plain["look"] = self.look.to_json()
        for name in ("stratified", "segments", "bayes", "survival", "noninferior", "reached"):
            if getattr(self, name):
                plain[name] = [view.to_json() for view in getattr(self, name)]
        return plain

    def to_frame(self, view: View = "results") -> pd.DataFrame:
        """One row per metric and arm (of segments: also per segment; of survival: per metric and arm)."""
        import pandas as pd

        return pd.DataFrame(_rows(self, view))

    def _repr_html_(self) -> str:
        from experiments.tables_html import analysis_html

        return analysis_html(self)


def analyze(  # noqa: PLR0913 - a notebook's one call; everything after the table is named and most is optional
    table: Any,
    *,
    arm: str,
    control: str,
    metrics: Sequence[str | Metric],
    covariates: Mapping[str, str] | None = None,
    expect: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    missing: Missing = "refuse",
    winsorise: Mapping[str, float] | None = None,
    strata: str | Sequence[str] = (),
    segments: str | Sequence[str] = (),
    look: Look | None = None,
    bayes: Prior | None = None,
    horizon: float | None = None,
    adjust: Adjust = "holm",
    lower_is_better: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    delivered: str | None = None,
) -> Analysis:
    """Analyse an experiment's table: every arm against control on every metric.

    `table`: DataFrame, Arrow table or mapping of arrays, one row per unit. `arm`: the column that names the arm.
    `metrics`: `visit:proportion`, `spend:mean`, `aov=revenue/orders:ratio`, `back=days/bought:survival`.
    `covariates`: metric -> pre-period column (CUPED), for a ratio also `numerator/denominator`. `expect`: planned
    weights of the arms (any scale) for the split check. `missing`: what a missing value means. `winsorise`: metric ->
    quantile (0..1), capped over all arms pooled. `strata`: columns known before assignment, compared within and put
    together again. `segments`: columns whose values are explored one by one. `look`: which planned look this is.
    `bayes`: a prior, for the Bayesian view. `horizon`: survival times count up to it (default: as long as every arm was
    observed). `adjust`: how p-values of several arms are adjusted. `lower_is_better`: metrics of which less is better
    (complaints, days to the next order), for margins, the Bayesian view and the names of segments; differences stay arm
    minus control. `margins`: metric -> tolerated worsening in its unit. `delivered`: a column of 0 and 1, for the
    effect on those reached. Raises: ExperimentError for a column, metric, arm or value that does not fit.

    >>> from experiments import Look, Prior
    >>> table = {"arm": ["a", "c"] * 40, "tier": ["x", "x", "y", "y"] * 20, "spend": [float(i % 7) for i in range(80)]}
    >>> found = analyze(table, arm="arm", control="c", metrics=["spend:mean"], strata="tier", segments="tier",
    ...                 look=Look(number=1, of=4), bayes=Prior(effect_sd=0.5))
    >>> found.stratified[0].method, found.segments[0].differ, found.look.boundary > 4.0, len(found.bayes)
    ('post-stratified, normal', False, True, 1)
    """
    read = Table(table, missing=missing)
    wanted = _directed(read_metrics(metrics, covariates), lower_is_better)
    _cap(read, wanted, winsorise or {})
    parts = _collect_parts(read, wanted, arm=arm, strata=_columns(strata), segments=_columns(segments))
    frame = _Frame(control, alpha, expect, look, bayes, horizon, adjust)
    found = _analysis(wanted, parts, frame)
    noninferior = _against_margins(found, wanted, margins or {})
    return replace(found, noninferior=noninferior, reached=_on_reached(read, wanted, arm, delivered, frame))


def analyze_moments(  # noqa: PLR0913 - the same call as `analyze`, from aggregates
    moments: Mapping[str, Moments],
    *,
    control: str,
    metrics: Sequence[str | Metric],
    covariates: Mapping[str, str] | None = None,
    expect: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    times: Mapping[str, Mapping[str, SurvivalCounts]] | None = None,
    strata: Mapping[str, Mapping[str, Moments]] | None = None,
    segments: Mapping[str, Mapping[str, Mapping[str, Moments]]] | None = None,
    look: Look | None = None,
    bayes: Prior | None = None,
    horizon: float | None = None,
    adjust: Adjust = "holm",
) -> Analysis:
    """`analyze` for aggregates that a database made: moments per arm of every column that `needed_columns` lists.

    `times`: survival metric -> arm -> day counts. `strata`: stratum -> arm -> moments; `segments`: column -> segment ->
    arm -> moments (survival metrics are compared over the whole, and `not_measured` without `times`).
    """
    wanted = read_metrics(metrics, covariates)
    plain = [metric for metric in wanted if metric.name not in (times or {})]

    def collected(arms: Mapping[str, Moments]) -> Collected:
        return Collected({name: m.n for name, m in arms.items()}, {metric.name: arms for metric in plain}, {})

    parts = _Parts(
        whole=replace(collected(moments), times=dict(times or {})),
        strata={name: collected(arms) for name, arms in (strata or {}).items()},
        segments={
            column: {name: collected(arms) for name, arms in groups.items()}
            for column, groups in (segments or {}).items()
        },
    )
    return _analysis(wanted, parts, _Frame(control, alpha, expect, look, bayes, horizon, adjust))


def needed_columns(metrics: Sequence[str | Metric], covariates: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The columns whose moments these metrics need, each once."""
    return tuple(dict.fromkeys(column for metric in read_metrics(metrics, covariates) for column in metric.needs))


def read_metrics(metrics: Sequence[str | Metric], covariates: Mapping[str, str] | None = None) -> list[Metric]:
    """The metrics with their covariates. Raises: ExperimentError where one is unreadable, repeated or unknown."""
    wanted = [parse_metric(metric) if isinstance(metric, str) else metric for metric in metrics]
    names = [metric.name for metric in wanted]
    if not wanted or len(set(names)) != len(names):
        raise ExperimentError(
            f"metrics: give at least one and no name twice, got {names}; another view of a column takes a name of its "
            "own, as in twice=spend:mean"
        )
    for name in covariates or {}:
        _metric_named(wanted, name)
    return [replace(metric, covariate=(covariates or {}).get(metric.name, metric.covariate)) for metric in wanted]


def _directed(metrics: Sequence[Metric], lower_is_better: Sequence[str]) -> list[Metric]:
    """The metrics, those named turned round."""
    for name in lower_is_better:
        _metric_named(metrics, name)
    return [replace(m, higher_is_better=False) if m.name in lower_is_better else m for m in metrics]


@dataclass(frozen=True, slots=True)
class _Frame:
    control: str
    alpha: float
    expect: Mapping[str, float] | None
    look: Look | None
    bayes: Prior | None
    horizon: float | None
    adjust: Adjust


@dataclass(frozen=True, slots=True)
class _Parts:
    whole: Collected
    strata: Mapping[str, Collected]
    segments: Mapping[str, Mapping[str, Collected]]


def _cap(table: Table, metrics: Sequence[Metric], quantiles: Mapping[str, float]) -> None:
    """Cap the columns of the named metrics, each at its quantile over all arms pooled."""
    for name, share in quantiles.items():
        capped = _metric_named(metrics, name)
        if capped.kind == "survival":
            raise ExperimentError(f"winsorise: {name} is a time until something happens; give it a horizon instead")
        table.winsorise(capped.column, share)


def _collect_parts(
    table: Table, metrics: Sequence[Metric], *, arm: str, strata: tuple[str, ...], segments: tuple[str, ...]
) -> _Parts:
    """The aggregates of the whole table, of its strata, and of each exploring column's segments."""
    return _Parts(
        whole=collect(table, arm=arm, metrics=metrics)[""],
        strata=collect(table, arm=arm, metrics=metrics, by=strata) if strata else {},
        segments={column: collect(table, arm=arm, metrics=metrics, by=(column,)) for column in segments},
    )


def _against_margins(
    found: Analysis, metrics: Sequence[Metric], margins: Mapping[str, float]
) -> tuple[NonInferiority, ...]:
    """Every arm against the margins: by the stratified results where there are any."""
    if not margins:
        return ()
    from experiments.analysis_extras import noninferiority_view

    for name in margins:
        _metric_named(metrics, name)
    return noninferiority_view(metrics, found.stratified or found.results, margins)


def _on_reached(
    table: Table, metrics: Sequence[Metric], arm: str, delivered: str | None, frame: _Frame
) -> tuple[ReachedEffect, ...]:
    """The effects on those whom messages reached, where a column says who they are."""
    if delivered is None:
        return ()
    from experiments.analysis_extras import reached_view

    return reached_view(table, metrics, arm=arm, control=frame.control, delivered=delivered, alpha=frame.alpha)


def _analysis(wanted: Sequence[Metric], parts: _Parts, frame: _Frame) -> Analysis:
    whole = parts.whole
    _check(whole, frame)
    results = tuple(result for metric in wanted for result in _plain(metric, whole, frame))
    expect = frame.expect
    found = Analysis(
        control=frame.control,
        alpha=frame.alpha,
        arms=dict(whole.counts),
        srm=srm(whole.counts, expect) if expect is not None else Srm(None, len(whole.counts) - 1, None),
        results=results,
        segments=tuple(report for column in parts.segments for report in _segments(wanted, column, parts, frame)),
        survival=_survival(wanted, parts, frame),
    )
    if parts.strata:
        by_stratum = {name: part.counts for name, part in parts.strata.items()}
        found = replace(
            found,
            stratified=tuple(result for metric in wanted for result in _stratified(metric, parts, frame)),
            srm_strata=srm_by_stratum(by_stratum, expect) if expect is not None else {},
        )
    return _seen(found, wanted, whole, frame)


def _seen(found: Analysis, wanted: Sequence[Metric], whole: Collected, frame: _Frame) -> Analysis:
    """With the look and the Bayesian view, where asked for: of the stratified results where there are any."""
    if frame.look is not None:
        from experiments.views import look_view

        found = replace(found, look=look_view(found.stratified or found.results, frame.look, alpha=frame.alpha))
    if frame.bayes is not None:
        from experiments.views import bayes_view

        found = replace(found, bayes=bayes_view(wanted, found.results, whole.moments, frame.bayes))
    return found


def _plain(metric: Metric, part: Collected, frame: _Frame) -> list[Result]:
    if metric.name in part.times:
        arms = part.times[metric.name]
        return compare_survival(
            metric, arms, control=frame.control, alpha=frame.alpha, horizon=frame.horizon, adjust=frame.adjust
        )
    arms_moments = part.moments[metric.name]
    return compare(metric, arms_moments, control=frame.control, alpha=frame.alpha, adjust=frame.adjust)


def _stratified(metric: Metric, parts: _Parts, frame: _Frame) -> list[Result]:
    from experiments.compare_strata import Stratification, compare_strata, compare_survival_strata

    if metric.kind != "survival":
        moments = {name: part.moments[metric.name] for name, part in parts.strata.items()}
        return compare_strata(metric, moments, control=frame.control, alpha=frame.alpha, adjust=frame.adjust)
    times = {name: part.times[metric.name] for name, part in parts.strata.items() if metric.name in part.times}
    within = Stratification(
        control=frame.control, alpha=frame.alpha, adjust=frame.adjust, horizon=_horizon(metric, parts.whole, frame)
    )
    return compare_survival_strata(metric, times, frame=within)


def _segments(wanted: Sequence[Metric], column: str, parts: _Parts, frame: _Frame) -> list[SegmentReport]:
    """One report per metric and arm: the segments' results, adjusted over the segments."""
    from experiments.heterogeneity import report_of_results

    reports = []
    for metric in wanted:
        within = replace(frame, horizon=_horizon(metric, parts.whole, frame), adjust="none")
        found = {
            name: {result.arm: result for result in _plain(metric, part, within)}
            for name, part in parts.segments[column].items()
            if metric.name in part.moments or metric.name in part.times
        }
        for arm in parts.whole.counts if found else ():
            if arm != frame.control:
                of_arm = {name: results[arm] for name, results in found.items() if arm in results}
                reports.append(replace(report_of_results(metric, of_arm, arm=arm, alpha=frame.alpha), by=column))
    return reports


def _survival(wanted: Sequence[Metric], parts: _Parts, frame: _Frame) -> tuple[SurvivalView, ...]:
    if not parts.whole.times:
        return ()
    from experiments.views import survival_view

    views = []
    for metric in wanted:
        if metric.kind == "survival":
            strata = {name: part.times[metric.name] for name, part in parts.strata.items() if metric.name in part.times}
            arms = parts.whole.times[metric.name]
            views.append(survival_view(metric, arms, horizon=frame.horizon, strata=strata))
    return tuple(views)


def _horizon(metric: Metric, whole: Collected, frame: _Frame) -> float | None:
    """One horizon for all parts of the table."""
    if frame.horizon is not None or metric.name not in whole.times:
        return frame.horizon
    return common_horizon(whole.times[metric.name])


def _rows(analysis: Analysis, view: View) -> list[dict[str, Any]]:
    if view == "segments":
        return [
            {"by": report.by, "segment": effect.segment, "group": effect.group, "differ": report.differ}
            | effect.result.to_json()
            for report in analysis.segments
            for effect in report.effects
        ]
    if view == "survival":
        return [{"metric": seen.metric, **asdict(arm)} for seen in analysis.survival for arm in seen.arms]
    if view == "look":
        return [] if analysis.look is None else [asdict(result) for result in analysis.look.results]
    if view not in ("results", "stratified", "bayes", "noninferior", "reached"):
        raise ExperimentError(f"view {view!r} is not known; known are {', '.join(get_args(View))}")
    return [row.to_json() for row in getattr(analysis, view)]


def _check(whole: Collected, frame: _Frame) -> None:
    if not whole.counts:
        raise ExperimentError("the table has no rows; expected one row per unit")
    if frame.control not in whole.counts:
        raise ExperimentError(f"control {frame.control!r} is not among the arms {', '.join(whole.counts)}")
    if not 0.0 < frame.alpha < 1.0:
        raise ExperimentError(f"alpha must lie between 0 and 1, got {frame.alpha}")
    if frame.horizon is not None and not 0.0 < frame.horizon < float("inf"):
        raise ExperimentError(f"horizon must be above 0, got {frame.horizon}")


def _columns(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _metric_named(wanted: Sequence[Metric], name: str) -> Metric:
    for metric in wanted:
        if metric.name == name:
            return metric
    raise ExperimentError(f"metric {name!r} is not asked for; asked for are {', '.join(m.name for m in wanted)}")
