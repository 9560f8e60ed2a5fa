"""analyze: the engine of the house on any experiment's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from retain.commands.analysis_options import (
    AdjustOption,
    AlphaOption,
    ArmOption,
    BayesOption,
    ControlOption,
    CovariateOption,
    DeliveredOption,
    ExpectOption,
    FileArgument,
    HorizonOption,
    LookOption,
    LowerIsBetterOption,
    MarginOption,
    MetricOption,
    MissingOption,
    SegmentsOption,
    StrataOption,
    WinsoriseOption,
    columns_of,
    look_of,
    margins_of,
    quantiles_of,
    shares_of,
)
from retain.options import JsonOption
from retain.printing import print_json, print_table, say
from retain.results import show_results

if TYPE_CHECKING:
    from experiments.analysis import Analysis, View
    from experiments.health import Srm

COMPARISONS: Final = ("stratified", "segments")
"""The views whose rows are results as the plain ones are."""
TOLD: Final = (
    *("by", "segment", "group", "metric", "arm", "n_arm", "n_control"),
    *("difference", "low", "high", "p_adjusted", "method"),
)
"""Columns of comparisons that a terminal has room for; --json has them all."""
TITLES: Final[dict[View, str]] = {
    "stratified": "Within strata, put together again",
    "segments": "By segment (winners only where Q says that effects differ)",
    "look": "At this look",
    "bayes": "With what was believed before",
    "survival": "Until it happens",
    "noninferior": "Against margins",
    "reached": "On those whom the messages reached",
}
"""Above the tables of the views."""


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(analyze)


def analyze(  # noqa: PLR0913  (the options of one command)
    file: FileArgument,
    arm: ArmOption,
    control: ControlOption,
    metric: MetricOption,
    covariate: CovariateOption = None,
    expect: ExpectOption = None,
    alpha: AlphaOption = 0.05,
    missing: MissingOption = "refuse",
    strata: StrataOption = None,
    segments: SegmentsOption = None,
    look: LookOption = None,
    bayes: BayesOption = False,
    horizon: HorizonOption = None,
    adjust: AdjustOption = "holm",
    winsorise: WinsoriseOption = None,
    lower_is_better: LowerIsBetterOption = None,
    margin: MarginOption = None,
    delivered: DeliveredOption = None,
    as_json: JsonOption = False,
) -> None:
    """Analyse any experiment's table with the engine of retain.

    The table has one row per unit: its arm and the values of the metrics. For experiments that did not run here.
    """
    from flows.steps.analyze_file import Views, analyze_file

    analysis = analyze_file(
        file,
        arm=arm,
        control=control,
        metrics=metric,
        covariates=columns_of(covariate),
        expect=shares_of(expect),
        alpha=alpha,
        missing=missing,
        views=Views(
            strata=tuple(strata or ()),
            segments=tuple(segments or ()),
            look=look_of(look),
            bayes=bayes,
            horizon=horizon,
            adjust=adjust,
            winsorise=quantiles_of(winsorise),
            lower_is_better=tuple(lower_is_better or ()),
            margins=margins_of(margin),
            delivered=delivered,
        ),
    )
    if as_json:
        print_json(analysis.to_json())
    else:
        _show(analysis)
        _show_views(analysis)


def _show(analysis: Analysis) -> None:
    say(", ".join(f"{name}: {n:,}" for name, n in analysis.arms.items()))
    say(f"split: {_split(analysis.srm)}")
    show_results([result.to_json() for result in analysis.results])


def _split(test: Srm) -> str:
    """Whether the arms have the sizes that were planned."""
    if test.p_value is None:
        return "not tested; give the planned shares with --expect"
    return "as planned" if test.healthy else f"NOT as planned (p = {test.p_value:.2g}); do not trust the results"


def _show_views(analysis: Analysis) -> None:
    """The views that were asked for, each as a table of its own."""
    for view, title in TITLES.items():
        frame = analysis.to_frame(view)
        if frame.empty:
            continue
        for line in _lines(analysis, view):
            say(line)
        if view in COMPARISONS:  # without a p, why there is none
            frame["method"] = frame["method"].where(frame["p_value"].notna(), frame["status"])
        told = [name for name in frame.columns if not frame[name].isin([None, "unknown"]).all()]
        wanted = [name for name in told if view not in COMPARISONS or name in TOLD]
        rows = frame[wanted].astype(object).where(frame[wanted].notna(), None).to_numpy().tolist()
        print_table(wanted, rows, title=title)


def _lines(analysis: Analysis, view: View) -> list[str]:
    """What is said above a view's table: the look's boundary, Cochran's Q of the segments, the log-rank test."""
    if view == "look" and analysis.look is not None:
        return [analysis.look.line]
    if view == "segments":
        return [report.line for report in analysis.segments]
    return [seen.line for seen in analysis.survival] if view == "survival" else []
