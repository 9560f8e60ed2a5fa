"""deliver, status, pause, resume and explain: what the operator does day by day."""

from __future__ import annotations

from typing import Annotated

import typer

from retain.opening import opened
from retain.options import (
    ByOption,
    CampaignArgument,
    CustomerArgument,
    JsonOption,
    NowOption,
    ReasonOption,
    WorkspaceOption,
    instant,
)
from retain.printing import print_json, print_table, progress_bar, say, warn
from retain.stock import show_stock

FATES = ("planned", "sent", "failed", "skipped", "in_doubt", "pending")


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(deliver)
    app.command()(status)
    app.command()(pause)
    app.command()(resume)
    app.command()(explain)


def deliver(
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Send at most so many messages.")
    ] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send every message that may leave now.

    Run it as often as you like, in as many processes as you like: no message leaves twice.
    """
    from channels.departure import running_clock
    from flows.steps.deliver_messages import deliver_messages
    from flows.wiring import worker_name

    at = instant(now)
    clock = running_clock(at) if now is None else None
    with opened(workspace) as ws, progress_bar("deliver", quiet=as_json) as progress:
        delivered = deliver_messages(ws, now=at, worker=worker_name(), limit=limit, clock=clock, progress=progress)
    outcome = delivered.to_json()
    for campaign, why in outcome["held"].items():
        warn(f"{campaign} is held: {why}")
    for scope, why in outcome["paused"].items():
        warn(f"{scope} is paused: {why}; to let it go on: retain resume '{scope}'")
    for channel, why in outcome["resting"].items():
        warn(f"the account for {channel} rests: {why}; its messages stay pending")
    for channel, why in outcome["unusable"].items():
        warn(f"the account for {channel} cannot be used: {why}; its messages stay pending")
    if as_json:
        print_json(outcome)
    else:
        print_table(("messages", "n"), list(delivered.counts().items()))
        if outcome["skipped_because"]:
            print_table(("skipped because", "messages"), list(outcome["skipped_because"].items()))
    if outcome["unusable"]:
        raise typer.Exit(1)


def status(
    campaign: Annotated[
        str | None, typer.Argument(metavar="CAMPAIGN", help="Only this campaign.", show_default="all")
    ] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of every planned message.

    planned = sent + failed + skipped + in doubt + pending, for every arm and channel.
    """
    from flows.steps.offer_codes import show_pools
    from flows.steps.show_status import show_resting, show_status

    at = instant(now)
    with opened(workspace) as ws:
        shown, resting, pools = show_status(ws, campaign), show_resting(ws, at=at), show_pools(ws, at=at)
    if as_json:
        print_json({"experiments": shown, "resting": resting, "pools": pools})
        return
    for entry in shown:
        rows = [(row["arm"], row["channel"], *(row[fate] for fate in FATES)) for row in entry["messages"]]
        paused = ", paused" if entry["paused"] else ""
        print_table(("arm", "channel", *FATES), rows, title=f"{entry['experiment']} ({entry['status']}{paused})")
        if entry["fallbacks"]:
            say(f"{entry['fallbacks']:,} of them follow a message that did not arrive, on the next channel of its step")
    scopes = {switch["scope"]: switch for entry in shown for switch in entry["paused_because"]}
    for scope, switch in sorted(scopes.items()):
        warn(
            f"{scope} is paused by {switch['by']} since {switch['since']}: {switch['reason']}; "
            f"to let it go on: retain resume '{scope}'"
        )
    for channel, why in resting.items():
        warn(f"the account for {channel} rests: {why}; its messages stay pending")
    show_stock(pools)
    if not shown:
        say("nothing has been applied yet; next: retain plan CAMPAIGN")


def pause(
    campaign: CampaignArgument,
    by: ByOption = None,
    reason: ReasonOption = "by hand",
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a campaign's messages at once.

    "*" stops all campaigns, "CAMPAIGN/email" and "*/email" one channel. Nothing is lost: `retain resume` lets them
    leave again.
    """
    from flows.steps.pause_campaign import pause_campaign

    with opened(workspace, by=by) as ws:
        changed = pause_campaign(ws, campaign, by=ws.settings.operator, reason=reason, at=instant(now))
    if as_json:
        print_json({"campaign": campaign, "paused": True, "changed": changed})
    else:
        say(f"{campaign}: paused" if changed else f"{campaign}: was paused already")


def resume(
    campaign: CampaignArgument,
    by: ByOption = None,
    reason: ReasonOption = "by hand",
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a paused campaign's messages leave again.

    Name what `retain status` shows: the campaign, "*", "CAMPAIGN/email".
    """
    from flows.steps.pause_campaign import resume_campaign

    with opened(workspace, by=by) as ws:
        changed = resume_campaign(ws, campaign, by=ws.settings.operator, reason=reason, at=instant(now))
    if as_json:
        print_json({"campaign": campaign, "paused": False, "changed": changed})
    else:
        say(f"{campaign}: goes on" if changed else f"{campaign}: was not paused")


def explain(
    campaign: CampaignArgument,
    customer: CustomerArgument,
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
    if story["events"]:
        whys = [e["why"] if e["rule"] in e["why"] else f"{e['why']}; {e['rule']}" for e in story["events"]]
        lines = [(e["at"], e["what"], why) for e, why in zip(story["events"], whys, strict=True)]
        print_table(("when (UTC)", "what", "why"), lines)
