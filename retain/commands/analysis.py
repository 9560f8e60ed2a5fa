"""analyze, power and demo: the maths on any table, and the whole loop on invented customers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
)
from retain.opening import opened
from retain.options import AsOfOption, CampaignArgument, JsonOption, NowOption, WorkspaceOption, instant
from retain.printing import cell, percent, print_json, print_table, say

if TYPE_CHECKING:
    from typing import Any

    from experiments.analysis import Analysis, View


TOLD = (
    "by",
    "segment",
    "group",
    "metric",
    "arm",
    "n_arm",
    "n_control",
    "difference",
    "low",
    "high",
    "p_adjusted",
    "method",
)
"""Columns of comparisons that a terminal has room for; --json has them all."""


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(analyze)
    app.command()(power)
    app.command()(demo)


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
        covariates=_pairs(covariate or [], "--covariate"),
        expect=_shares(expect),
        alpha=alpha,
        missing=missing,
        views=Views(
            strata=tuple(strata or ()),
            segments=tuple(segments or ()),
            look=_look(look),
            bayes=bayes,
            horizon=horizon,
            adjust=adjust,
            winsorise=_quantiles(winsorise or []),
            lower_is_better=tuple(lower_is_better or ()),
            margins=_numbers(margin or []),
            delivered=delivered,
        ),
    )
    if as_json:
        print_json(analysis.to_json())
    else:
        _show(analysis)
        _show_views(analysis)


def power(
    campaign: CampaignArgument,
    customers: Annotated[
        int | None,
        typer.Option(
            "--customers",
            metavar="N",
            min=1,
            help="How many take part.",
            show_default="those who may as of the instant",
        ),
    ] = None,
    baseline: Annotated[
        float | None,
        typer.Option(
            "--baseline",
            metavar="SHARE",
            help="The primary metric without treatment, where it is a proportion.",
            show_default="what the segment did before",
        ),
    ] = None,
    as_of: AsOfOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell before a campaign runs what its experiment can show.

    How many customers the minimum effect needs, which effect can be detected, and with what chance.
    """
    from flows.steps.show_power import show_power

    with opened(workspace) as ws:
        moment = instant(as_of or now, option="--as-of")
        shown = show_power(ws, campaign, as_of=moment, customers=customers, baseline=baseline)
    if as_json:
        print_json(shown)
    else:
        _show_power(shown)


def demo(
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace", "-w", metavar="DIR", help="Where to make the workspace.", show_default="a new directory"
        ),
    ] = None,
    customers: Annotated[
        int, typer.Option("--customers", metavar="N", min=100, help="How many customers to invent.")
    ] = 20_000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same seed gives the same world.")] = 7,
    providers: Annotated[
        str,
        typer.Option(
            "--providers",
            metavar="NAME",
            help="local writes the messages to files; simulated sends them over HTTP to a simulator on this machine.",
        ),
    ] = "local",
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop on invented customers.

    Their true behaviour is known, and is shown beside what was measured. Needs no network, no account and no server.
    """
    from retain.demonstration import run_and_report

    outcome = run_and_report(workspace, customers=customers, seed=seed, quiet=as_json, providers=providers)
    if as_json:
        print_json(outcome)


def _show_power(shown: dict[str, Any]) -> None:
    say(f"{shown['campaign']} as of {shown['as_of']}: {shown['customers']:,} customers")
    if shown["baseline"] is None:
        say("no baseline: too few customers were in the segment one horizon earlier; give one with --baseline")
        return
    source = f"what {shown['history']:,} customers of the segment did before" if shown["history"] else "as given"
    say(f"{shown['metric']} without treatment: {cell(shown['baseline'])} ({source})")
    if shown["needed_per_arm"] is None:
        say("its variation does not allow a reckoning of sizes")
        return
    runs = "" if shown["runs_needed"] is None else f", {shown['runs_needed']:,} runs like this one"
    say(
        f"minimum effect {cell(shown['minimum_effect'])} with power {percent(shown['wanted_power'])} needs "
        f"{shown['needed_per_arm']:,} customers in the smallest arm: {shown['needed_customers']:,} in all{runs}"
    )
    if shown["promoted_from"] is not None:
        say(
            f"promoted with that chance from a true effect of {cell(shown['promoted_from'])}: the estimate must reach "
            "the minimum effect too, and at exactly that half of them do not"
        )
    for guard in shown["guardrails"]:
        if guard["needed_per_arm"] is not None:
            say(f"guardrail {guard['metric']} needs {guard['needed_per_arm']:,} customers in the smallest arm")
    if shown["days_to_decision"] is not None:
        say(f"by the segment's inflow all of them are measured in {shown['days_to_decision']:,.0f} days")
    rows = [(point["customers"], point["detectable"], percent(point["power"])) for point in shown["curve"]]
    if rows:
        print_table(("customers in all", "smallest detectable effect", "chance to find the minimum effect"), rows)


def _pairs(texts: list[str], option: str, *, expected: str = "METRIC=COLUMN") -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, column = text.partition("=")
        if not (name and separator and column):
            raise typer.BadParameter(f'"{text}" cannot be read; expected {expected}', param_hint=option)
        pairs[name] = column
    return pairs


def _shares(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        shares = {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise typer.BadParameter(f'"{text}" cannot be read; expected A=1,B=1', param_hint="--expect") from None
    if any(share <= 0 for share in shares.values()):
        raise typer.BadParameter("every share must be above 0", param_hint="--expect")
    return shares


def _show(analysis: Analysis) -> None:
    report = analysis.to_json()
    say(", ".join(f"{name}: {arm['n']:,}" for name, arm in report["arms"].items()))
    p = report["srm"]["p_value"]
    say(
        "split: as planned"
        if p is None or p >= 0.001
        else f"split: NOT as planned (p = {p:.2g}); do not trust the results"
    )
    rows = [
        [
            result["metric"],
            result["arm"],
            result["arm_value"],
            result["control_value"],
            result["difference"],
            _interval(result["low"], result["high"]),
            percent(result["relative_lift"], signed=True),
            result["p_adjusted"] if result["p_adjusted"] is not None else result["p_value"],
            result["status"] if result["p_value"] is None else result["method"],
        ]
        for result in report["results"]
    ]
    columns = ("metric", "arm", "value", "control", "difference", "interval", "lift", "p", "method")
    print_table(columns, rows)


def _show_views(analysis: Analysis) -> None:
    """The views that were asked for, each as a table of its own."""
    titles: dict[View, str] = {
        "stratified": "Within strata, put together again",
        "segments": "By segment (winners only where Q says that effects differ)",
        "look": "At this look",
        "bayes": "With what was believed before",
        "survival": "Until it happens",
        "noninferior": "Against margins",
        "reached": "On those whom the messages reached",
    }
    for view, title in titles.items():
        frame = analysis.to_frame(view)
        if frame.empty:
            continue
        for line in _lines(analysis, view):
            say(line)
        told = [name for name in frame.columns if not frame[name].isin([None, "unknown"]).all()]
        wanted = [name for name in told if view not in ("stratified", "segments") or name in TOLD]
        rows = frame[wanted].astype(object).where(frame[wanted].notna(), None).to_numpy().tolist()
        print_table(wanted, rows, title=title)


def _lines(analysis: Analysis, view: View) -> list[str]:
    """What is said above a view's table: the look's boundary, Cochran's Q of the segments, the log-rank test."""
    from experiments.tables_html import look_line, segments_line, survival_line

    if view == "look" and analysis.look is not None:
        return [look_line(analysis.look)]
    if view == "segments":
        return [segments_line(report) for report in analysis.segments]
    return [survival_line(seen) for seen in analysis.survival] if view == "survival" else []


def _quantiles(texts: list[str]) -> dict[str, float]:
    """ "spend=0.999" as {"spend": 0.999}."""
    quantiles = {}
    for name, text in _pairs(texts, "--winsorise", expected="METRIC=QUANTILE").items():
        try:
            quantiles[name] = float(text)
        except ValueError:
            quantiles[name] = -1.0
        if not 0.0 < quantiles[name] < 1.0:
            raise typer.BadParameter(
                f'"{name}={text}" cannot be read; expected METRIC=QUANTILE with a quantile between 0 and 1, as in '
                "spend=0.999",
                param_hint="--winsorise",
            )
    return quantiles


def _numbers(texts: list[str]) -> dict[str, float]:
    """ "complained=0.002" as {"complained": 0.002}."""
    pairs = _pairs(texts, "--margin", expected="METRIC=WORSENING")
    try:
        return {name: float(text) for name, text in pairs.items()}
    except ValueError:
        raise typer.BadParameter(
            f"{', '.join(texts)} cannot be read; expected METRIC=WORSENING in its unit, as in complained=0.002",
            param_hint="--margin",
        ) from None


def _look(text: str | None) -> tuple[int, int, float | None] | None:
    """ "2/4" or "2/4:0.5" as (2, 4, 0.5)."""
    if text is None:
        return None
    place, _, share = text.partition(":")
    try:
        number, of = (int(part) for part in place.split("/"))
        return number, of, float(share) if share else None
    except ValueError:
        raise typer.BadParameter(
            f'"{text}" cannot be read; expected K/N such as 2/4, or 2/4:0.5', param_hint="--look"
        ) from None


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:+.4g} to {high:+.4g}"
