"""measure, decide, undo and report: what came of it, and what follows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retain.opening import opened
from retain.options import CampaignArgument, JsonOption, NowOption, WorkspaceOption, instant
from retain.printing import percent, print_json, print_table, say, warn
from retain.results import show_results
from retain.views import show_views

if TYPE_CHECKING:
    from typing import Any


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(measure)
    app.command()(decide)
    app.command()(undo)
    app.command()(report)


def measure(
    campaign: Annotated[
        str | None, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.", show_default="with --programme")
    ] = None,
    programme: Annotated[
        bool, typer.Option("--programme", help="Measure all campaigns together against the global holdout.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="INSTANT", help="First instant of the window.", show_default="the period's"),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, help="Length of the window.", show_default="up to 90")
    ] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a campaign against its control, or the whole programme.

    The programme is measured against the global holdout. Everybody assigned counts, whether or not a message arrived,
    once the outcome window has passed. Measuring decides nothing.
    """
    from flows.steps.measure_experiment import measure_experiment

    if programme == (campaign is not None):
        raise typer.BadParameter("name one campaign, or give --programme for all of them", param_hint="CAMPAIGN")
    if programme:
        _measure_programme(workspace, now, as_json, start, days)
        return
    if start is not None or days is not None:
        raise typer.BadParameter("--from and --days are the window of --programme; name no campaign, or leave them out")
    assert campaign is not None  # checked above
    with opened(workspace) as ws:
        measured = measure_experiment(ws, campaign, now=instant(now)).to_json()
    if as_json:
        print_json(measured)
    else:
        _show_measurement(measured)
        show_views(measured)


def _measure_programme(
    workspace: Path | None, now: str | None, as_json: bool, start: str | None, days: int | None
) -> None:
    from flows.steps.programme import describe_history, measure_programme

    with opened(workspace) as ws:
        found = measure_programme(
            ws,
            now=instant(now),
            start=None if start is None else instant(start, option="--from"),
            window=None if days is None else timedelta(days=days),
        ).to_json()
        found["periods"] = describe_history(ws)
    if as_json:
        print_json(found)
        return
    sides = found["sides"]
    say(
        f"the whole programme from {found['from']} to {found['to']}: {sides['programme']:,} customers against "
        f"{sides['holdout']:,} of the global holdout ({percent(found['share'])}), of {found['population']:,}"
    )
    show_results(found["results"])
    if sum(found["released_lately"].values()):
        told = ", ".join(f"{n:,} of {side}" for side, n in found["released_lately"].items())
        say(f"in the holdout of the period before: {told}; what they missed then may still show")


def decide(
    campaign: CampaignArgument, workspace: WorkspaceOption = None, now: NowOption = None, as_json: JsonOption = False
) -> None:
    """Decide by the rule, and act as the campaign's feedback says.

    The decision is recorded with its evidence. Feedback off: nothing else; propose: a patch is written; apply: the
    campaign's file is changed, and `retain undo` takes it back.
    """
    from flows.steps.decide_experiment import decide_experiment

    with opened(workspace) as ws:
        decided = decide_experiment(ws, campaign, now=instant(now)).to_json()
        root = ws.root
    if as_json:
        print_json(decided)
        return
    _show_decision(decided["decision"])
    if decided["diff"]:
        say(decided["diff"])
    if decided["feedback_problem"]:
        warn(f"the file was not changed: {decided['feedback_problem']}")
    for path in decided["changed_files"]:
        say(f"changed {path}; take it back with: retain undo {campaign}")
    if decided["patch_file"]:
        say(f"proposed in {decided['patch_file']}; make it so with: git -C {root} apply {decided['patch_file']}")


def undo(
    campaign: CampaignArgument, workspace: WorkspaceOption = None, now: NowOption = None, as_json: JsonOption = False
) -> None:
    """Take back the last change to a campaign file, byte for byte.

    Refused where the file was changed since. The decision itself stays recorded.
    """
    from flows.steps.write_back_decision import undo_write_back

    with opened(workspace) as ws:
        path = undo_write_back(ws, campaign, now=instant(now))
    if as_json:
        print_json({"campaign": campaign, "restored": str(path)})
    else:
        say(f"{path}: as it was before")


def report(
    campaign: CampaignArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The HTML file to write.", show_default="reports/CAMPAIGN.html"),
    ] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a self-contained HTML report of an experiment."""
    from flows.steps.gather_report import gather_report
    from web.report import render_report

    with opened(workspace) as ws:
        data = gather_report(ws, campaign, now=instant(now))
        path = render_report(data, out=out or ws.root / "reports" / f"{campaign}.html")
    if as_json:
        print_json({"campaign": campaign, "experiment": data["experiment"], "report": str(path)})
    else:
        say(str(path))


def _show_measurement(measured: dict[str, Any]) -> None:
    """Print results as a person reads them."""
    say(f"{measured['experiment']} as of {measured['as_of']}")
    arms = [(name, arm["assigned"], arm["mature"]) for name, arm in measured["arms"].items()]
    print_table(("arm", "assigned", "mature"), arms)
    p = measured["health"]["srm_p"]
    say(f"split of assigned customers: {'nothing to test' if p is None else f'p = {p:.3g}'}")
    if measured["matures_at"] is not None and not any(arm["mature"] for arm in measured["arms"].values()):
        say(f"nothing is mature yet; the last run so far is on {measured['matures_at']}")
    show_results(measured["results"])


def _show_decision(decision: dict[str, Any]) -> None:
    """Print a verdict with its gates."""
    arm = f" {decision['arm']}" if decision["arm"] else ""
    say(f"verdict: {decision['verdict']}{arm}")
    rows = [(r["gate"], r["arm"], r["passed"], r["value"], r["threshold"], r["text"]) for r in decision["reasons"]]
    print_table(("gate", "arm", "pass", "value", "threshold", "what"), rows)
