"""approve and approvals: a second person's word on launches above the workspace's limits."""

from __future__ import annotations

from typing import Annotated

import typer

from retain.commands.campaign import WORK_TO_DO
from retain.opening import opened
from retain.options import CampaignArgument, JsonOption, NowOption, WorkspaceOption, instant
from retain.printing import print_json, print_table, say

COLUMNS = ("campaign", "as_of", "state", "recipients", "cost", "discounts", "requested_by", "answered_by")


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(approve)
    app.command()(approvals)


def approve(  # noqa: PLR0913  (the options of one command)
    campaign: CampaignArgument,
    by: Annotated[str, typer.Option("--by", metavar="WHO", help="Who answers; never the one who asked.")],
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="INSTANT", help="Which launch, where several wait.", show_default="the only one"
        ),
    ] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse it instead.")] = False,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; it is recorded.")] = "",
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a launch that waits, or refuse it. It is then run, or applied, by whoever asked, or by the schedule.

    Who takes part may move by `measurement.drift` until then, and no further.
    """
    from flows.steps.approve_launch import answer
    from warehouse.ledger.launches import LaunchAnswer

    moment = None if as_of is None else instant(as_of, option="--as-of")
    with opened(workspace) as ws:
        request = answer(ws, campaign, moment, LaunchAnswer(not refuse, by, instant(now), note))
    if as_json:
        print_json({"campaign": campaign, "as_of": request.as_of.isoformat(), "approved": not refuse, "by": by})
        return
    say(f"{campaign} as of {request.as_of.isoformat()}: {'refused' if refuse else 'approved'} by {by}")
    if not refuse:
        say(f"next: retain run {campaign} --as-of {request.as_of.isoformat()} (or `retain apply` its plan)")


def approvals(
    campaign: Annotated[
        str | None, typer.Argument(metavar="CAMPAIGN", help="Only this campaign.", show_default="all")
    ] = None,
    token_of: Annotated[
        str | None,
        typer.Option("--token-of", metavar="NAME", help="Print this approver's token for the page of `retain serve`."),
    ] = None,
    codes_of: Annotated[
        str | None,
        typer.Option("--codes-of", metavar="NAME", help="Print this approver's codes for the launches that wait."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List launches that wait for a second person, and the answers.

    Exit code 2: some wait.
    """
    from flows.steps.approve_launch import approver_token, list_launches, waiting_codes

    with opened(workspace) as ws:
        if token_of is not None:
            waiting_codes(ws, token_of)  # refuses whoever may not approve
            _show_token(token_of, approver_token(ws, token_of), as_json=as_json)
            return
        if codes_of is not None:
            _show_codes(waiting_codes(ws, codes_of), as_json=as_json)
            return
        found = list_launches(ws, campaign)
    if as_json:
        print_json({"launches": found})
    elif found:
        print_table(COLUMNS, [tuple(launch[name] for name in COLUMNS) for launch in found])
    else:
        say("no launch had to be approved yet")
    if any(launch["state"] == "awaiting_approval" for launch in found):
        raise typer.Exit(WORK_TO_DO)


def _show_token(approver: str, token: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"approver": approver, "token": token})
    else:
        say(token)


def _show_codes(codes: list[dict[str, str]], *, as_json: bool) -> None:
    if as_json:
        print_json({"codes": codes})
    elif codes:
        print_table(("campaign", "as of", "code"), [tuple(code.values()) for code in codes])
    else:
        say("no launch waits for approval")
