"""init, validate, preview and doctor: a workspace, its files, its health."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retain.opening import opened
from retain.options import CampaignArgument, JsonOption, NowOption, WorkspaceOption, instant
from retain.printing import print_json, print_table, say, warn


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(init)
    app.command()(validate)
    app.command()(preview)
    app.command()(doctor)


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory to make the workspace in.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: sample campaigns, templates, settings, deployments."""
    from flows.steps.make_workspace import make_workspace

    files = make_workspace(directory.resolve())
    if as_json:
        print_json({"workspace": str(directory.resolve()), "files": [str(path) for path in files]})
        return
    say(f"{directory.resolve()}: {len(files)} files")
    say(f"next: retain -h, or put your data in: retain load customers FILE --workspace {directory}")


def validate(
    campaign: Annotated[
        str | None, typer.Argument(metavar="[CAMPAIGN]", help="Only this campaign.", show_default="all")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check campaigns, offers, segments and templates; every problem at once, with its place."""
    from flows.steps.validate_book import validate_book

    with opened(workspace) as ws:
        checked = validate_book(ws, campaign)
    if as_json:
        print_json(checked.to_json())
    else:
        for problem in checked.problems:
            say(str(problem))
        say(f"{len(checked.campaigns)} campaigns checked: {checked.n_errors} errors, {checked.n_warnings} warnings")
    if checked.n_errors:
        raise typer.Exit(1)


def preview(
    campaign: CampaignArgument,
    customer: Annotated[str | None, typer.Option("--customer", help="Show what this customer would read.")] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every message of a campaign as it would be read. Nothing is sent and no code is used up."""
    from flows.steps.preview_messages import preview_messages

    with opened(workspace) as ws:
        shown = preview_messages(ws, campaign, customer_id=customer, as_of=instant(now))
    if as_json:
        print_json({"campaign": campaign, "messages": shown})
        return
    for message in shown:
        say(f"--- {message['arm']}, step {message['step']}: {message['channel']} {message['template']}")
        for part in ("subject", "title", "body", "text"):
            if message["content"].get(part):
                say(str(message["content"][part]).strip())
        if "segments" in message:
            say(f"({message['segments']} SMS segments, {message['encoding']})")
        say("")


def doctor(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Check that everything the workspace needs is there and agrees."""
    from flows.steps.examine_workspace import examine_workspace

    with opened(workspace) as ws:
        findings = examine_workspace(ws)
    if as_json:
        print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        print_table(("check", "ok", "finding"), [(f.check, f.ok, f.finding) for f in findings])
    if not all(finding.ok for finding in findings):
        warn("something needs attention")
        raise typer.Exit(1)
