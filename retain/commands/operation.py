"""deliver, status, pause, resume, suppress and explain: what the operator does day by day."""

from __future__ import annotations

from typing import Annotated

import typer

from retain.opening import opened
from retain.options import CampaignArgument, JsonOption, NowOption, WorkspaceOption, instant
from retain.printing import print_json, print_table, progress_bar, say, warn

ByOption = Annotated[str, typer.Option("--by", help="Who does this; it is recorded.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(deliver)
    app.command()(status)
    app.command()(pause)
    app.command()(resume)
    app.command()(suppress)
    app.command()(explain)


def deliver(
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Send at most so many messages.")] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send every message that may leave now. Run it as often as you like, in as many processes as you like."""
    from flows.steps.deliver_messages import deliver_messages
    from flows.wiring import worker_name

    with opened(workspace) as ws, progress_bar("deliver", quiet=as_json) as progress:
        delivered = deliver_messages(ws, now=instant(now), worker=worker_name(), limit=limit, progress=progress)
    if as_json:
        print_json(delivered.to_json())
        return
    print_table(("messages", "n"), list(delivered.counts().items()))
    if delivered.skipped:
        print_table(("skipped because", "messages"), sorted(delivered.skipped.items()))
    for campaign, why in delivered.held.items():
        warn(f"{campaign} is held: {why}")


def status(
    campaign: Annotated[str | None, typer.Argument(metavar="[CAMPAIGN]", show_default="all")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of every planned message: planned = sent + failed + skipped + in doubt + pending."""
    from flows.steps.show_status import show_status

    with opened(workspace) as ws:
        shown = show_status(ws, campaign)
    if as_json:
        print_json({"experiments": shown})
        return
    fates = ("planned", "sent", "failed", "skipped", "in_doubt", "pending")
    for entry in shown:
        rows = [(row["arm"], row["channel"], *(row[fate] for fate in fates)) for row in entry["messages"]]
        paused = ", paused" if entry["paused"] else ""
        print_table(("arm", "channel", *fates), rows, title=f"{entry['experiment']} ({entry['status']}{paused})")
    if not shown:
        say("nothing has been applied yet; next: retain plan CAMPAIGN")


def pause(
    campaign: CampaignArgument,
    by: ByOption = "operator",
    reason: ReasonOption = "by hand",
    workspace: WorkspaceOption = None,
    now: NowOption = None,
) -> None:
    """Stop a campaign's messages at once ("*": everything). Nothing is lost; `resume` lets them go on."""
    from flows.steps.pause_campaign import pause_campaign

    with opened(workspace) as ws:
        changed = pause_campaign(ws, campaign, by=by, reason=reason, at=instant(now))
    say(f"{campaign}: paused" if changed else f"{campaign}: was paused already")


def resume(
    campaign: CampaignArgument,
    by: ByOption = "operator",
    reason: ReasonOption = "by hand",
    workspace: WorkspaceOption = None,
    now: NowOption = None,
) -> None:
    """Let a paused campaign's messages leave again."""
    from flows.steps.pause_campaign import resume_campaign

    with opened(workspace) as ws:
        changed = resume_campaign(ws, campaign, by=by, reason=reason, at=instant(now))
    say(f"{campaign}: goes on" if changed else f"{campaign}: was not paused")


def suppress(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER")],
    channel: Annotated[str, typer.Option("--channel", help="sms, email, push or all.")] = "all",
    reason: Annotated[str, typer.Option("--reason", help="stop, unsubscribe, complaint, bounce or manual.")] = "manual",
    by: ByOption = "operator",
    workspace: WorkspaceOption = None,
    now: NowOption = None,
) -> None:
    """Never write to a customer again on a channel. It holds from this moment, for messages already queued too."""
    from flows.steps.suppress_customer import suppress_customer

    with opened(workspace) as ws:
        new = suppress_customer(ws, customer, channel=channel, reason=reason, by=by, at=instant(now))
    say(f"{customer}: suppressed on {channel}" if new else f"{customer}: was suppressed on {channel} already")


def explain(
    campaign: CampaignArgument,
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER")],
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell why a customer did or did not get which message."""
    from flows.steps.explain_customer import explain_customer

    with opened(workspace) as ws:
        story = explain_customer(ws, campaign, customer, now=instant(now))
    if as_json:
        print_json(story)
        return
    say(story["answer"])
    print_table(("when (UTC)", "what", "why"), [(e["at"], e["what"], e["why"]) for e in story["events"]])
