"""Analysis of any experiment's table, in a notebook or from the command line.

>>> from experiments import analyze
>>> table = {"arm": ["a", "a", "a", "c", "c", "c"], "spend": [3.0, 4.0, 5.0, 1.0, 2.0, 3.0]}
>>> analyze(table, arm="arm", control="c", metrics=["spend:mean"]).results[0].difference
2.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from experiments.aggregates import Moments, SurvivalCounts
from experiments.compare import compare
from experiments.compare_survival import compare_survival
from experiments.errors import ExperimentError
from experiments.health import Srm, srm
from experiments.metrics import Metric, parse_metric
from experiments.results import Result
from experiments.table import Missing, Table, arm_moments, arm_survival

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a table says: arms with their sizes, the split's health, one result per metric and arm."""

    control: str
    alpha: float
    arms: Mapping[str, int]
    srm: Srm
    results: tuple[Result, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "control": self.control,
            "alpha": self.alpha,
            "arms": {arm: {"n": n} for arm, n in self.arms.items()},
            "srm": {"chi2": self.srm.chi2, "df": self.srm.df, "p_value": self.srm.p_value},
            "results": [result.to_json() for result in self.results],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per metric and arm."""
        import pandas as pd

        return pd.DataFrame([result.to_json() for result in self.results])

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
) -> Analysis:
    """Analyse an experiment's table: every arm against control on every metric.

    `table`: DataFrame, Arrow table or mapping of arrays, one row per unit. `arm`: the column that names the arm.
    `metrics`: `visit:proportion`, `spend:mean`, `aov=revenue/orders:ratio`, `back=days/bought:survival`.
    `covariates`: metric -> pre-period column (CUPED). `expect`: planned weights of the arms (any scale) for the split
    check. `missing`: what a missing value means. `winsorise`: metric -> quantile (0..1), capped over all arms pooled.
    Raises: ExperimentError for a column, metric, arm or value that does not fit.
    """
    read = Table(table, missing=missing)
    wanted = read_metrics(metrics, covariates)
    for name, share in (winsorise or {}).items():
        read.winsorise(_metric_named(wanted, name).column, share)
    moment_metrics = [metric for metric in wanted if metric.kind != "survival"]
    columns = [column for metric in moment_metrics for column in metric.needs]
    counts = {name: moments.n for name, moments in arm_moments(read, arm=arm, columns=()).items()}
    if missing == "drop":
        moments = {metric.name: arm_moments(read, arm=arm, columns=metric.needs) for metric in moment_metrics}
    else:
        moments = dict.fromkeys((metric.name for metric in moment_metrics), arm_moments(read, arm=arm, columns=columns))
    times = {
        metric.name: arm_survival(read, arm=arm, time=metric.columns[0], event=metric.columns[1])
        for metric in wanted
        if metric.kind == "survival"
    }
    return _analysis(wanted, _Collected(moments, times, counts), _Frame(control, alpha, expect))


def analyze_moments(
    moments: Mapping[str, Moments],
    *,
    control: str,
    metrics: Sequence[str | Metric],
    covariates: Mapping[str, str] | None = None,
    expect: Mapping[str, float] | None = None,
    alpha: float = 0.05,
) -> Analysis:
    """`analyze` for aggregates that a database made: moments per arm of every column that `needed_columns` lists.

    Survival metrics need day counts: `compare_survival.compare_survival`.
    """
    wanted = read_metrics(metrics, covariates)
    counts = {name: part.n for name, part in moments.items()}
    collected = _Collected({metric.name: moments for metric in wanted}, {}, counts)
    return _analysis(wanted, collected, _Frame(control, alpha, expect))


def needed_columns(metrics: Sequence[str | Metric], covariates: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The columns whose moments these metrics need, each once."""
    return tuple(dict.fromkeys(column for metric in read_metrics(metrics, covariates) for column in metric.needs))


def read_metrics(metrics: Sequence[str | Metric], covariates: Mapping[str, str] | None = None) -> list[Metric]:
    """The metrics with their covariates. Raises: ExperimentError where one is unreadable, repeated or unknown."""
    wanted = [parse_metric(metric) if isinstance(metric, str) else metric for metric in metrics]
    names = [metric.name for metric in wanted]
    if not wanted or len(set(names)) != len(names):
        raise ExperimentError(f"metrics: give at least one and no name twice, got {names}")
    for name in covariates or {}:
        _metric_named(wanted, name)
    return [replace(metric, covariate=(covariates or {}).get(metric.name, metric.covariate)) for metric in wanted]


@dataclass(frozen=True, slots=True)
class _Frame:
    control: str
    alpha: float
    expect: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class _Collected:
    moments: Mapping[str, Mapping[str, Moments]]
    times: Mapping[str, Mapping[str, SurvivalCounts]]
    counts: Mapping[str, int]


def _analysis(wanted: Sequence[Metric], collected: _Collected, frame: _Frame) -> Analysis:
    counts = collected.counts
    if frame.control not in counts:
        raise ExperimentError(f"control {frame.control!r} is not among the arms {', '.join(counts)}")
    if not 0.0 < frame.alpha < 1.0:
        raise ExperimentError(f"alpha must lie between 0 and 1, got {frame.alpha}")
    expect = frame.expect
    results: list[Result] = []
    for metric in wanted:
        if metric.name in collected.times:
            arms = collected.times[metric.name]
            results += compare_survival(metric, arms, control=frame.control, alpha=frame.alpha)
        else:
            results += compare(metric, collected.moments[metric.name], control=frame.control, alpha=frame.alpha)
    check = srm(counts, expect) if expect is not None else Srm(None, len(counts) - 1, None)
    return Analysis(frame.control, frame.alpha, dict(counts), check, tuple(results))


def _metric_named(wanted: Sequence[Metric], name: str) -> Metric:
    for metric in wanted:
        if metric.name == name:
            return metric
    raise ExperimentError(f"metric {name!r} is not asked for; asked for are {', '.join(m.name for m in wanted)}")
