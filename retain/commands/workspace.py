"""init, demo, validate, preview, doctor and serve: a workspace, its files, its health, its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retain.opening import opened
from retain.options import CampaignArgument, JsonOption, NowOption, WorkspaceOption, instant
from retain.printing import print_json, print_table, say, warn


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(init)
    app.command()(demo)
    app.command()(validate)
    app.command()(preview)
    app.command()(doctor)
    app.command()(serve)


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory to make the workspace in.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: sample campaigns, templates, settings.

    Nothing is overwritten: a directory that holds a workspace already is refused.
    """
    from flows.steps.make_workspace import make_workspace

    files = make_workspace(directory.resolve())
    if as_json:
        print_json({"workspace": str(directory.resolve()), "files": [str(path) for path in files]})
        return
    say(f"{directory.resolve()}: {len(files)} files made")
    say(f"next: put your customers in: retain load customers FILE --workspace {directory}")


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


def validate(
    campaign: Annotated[
        str | None, typer.Argument(metavar="CAMPAIGN", help="Only this campaign.", show_default="all")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check campaigns, offers, segments and templates.

    Every problem is told at once, with its file, line and column. Exit code 1 where there is an error among them.
    """
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
    customer: Annotated[
        str | None,
        typer.Option(
            "--customer", metavar="CUSTOMER", help="Show what this customer would read.", show_default="a sample"
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every message of a campaign as it would be read.

    Nothing is sent and no code is used up.
    """
    from flows.steps.preview_messages import preview_messages

    with opened(workspace) as ws:
        shown = preview_messages(ws, campaign, customer_id=customer, as_of=instant(now))
    if as_json:
        print_json({"campaign": campaign, "messages": shown})
        return
    for message in shown:
        _show_message(message)


def doctor(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Check that what the workspace needs is there and agrees.

    Exit code 1 where something needs attention.
    """
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


def serve(
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="The port to listen at; 0 takes a free one.")
    ] = 8080,
    workspace: WorkspaceOption = None,
) -> None:
    """Show the experiments and their reports in a browser.

    On this machine only (127.0.0.1), until interrupted with Ctrl-C. Pages show what was measured last; nothing is
    measured, decided or changed by looking. Under /u and /receipts it takes what customers and providers answer.
    """
    from web.app import serve as serve_pages

    with opened(workspace) as ws:
        settings = ws.settings
    serve_pages(settings, port=port, ready=_ready)


def _ready(address: str) -> None:
    say(f"{address} (stop with Ctrl-C)", now=True)


def _show_message(message: dict[str, Any]) -> None:
    say(f"--- {message['arm']}, step {message['step']}: {message['channel']} {message['template']}")
    say(f"({message['journey']})")
    for part in ("subject", "title", "body", "text"):
        if message["content"].get(part):
            say(str(message["content"][part]).strip())
    if "segments" in message:
        say(f"({message['segments']} SMS segments, {message['encoding']})")
    say("")
