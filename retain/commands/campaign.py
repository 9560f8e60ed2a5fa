"""plan, apply and run: who takes part, in which arm, with which messages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retain.needs import show_needs
from retain.opening import opened
from retain.options import (
    AsOfOption,
    ByOption,
    CampaignArgument,
    JsonOption,
    NowOption,
    WorkspaceOption,
    instant,
    selection_instant,
)
from retain.printing import cell, percent, print_json, print_table, progress_bar, say, warn

if TYPE_CHECKING:
    from typing import Any

WORK_TO_DO = 2


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(plan)
    app.command()(apply)
    app.command()(run)


def plan(
    campaign: CampaignArgument,
    as_of: AsOfOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Directory for plan.json.", show_default=".retain/plans/CAMPAIGN/AS-OF"
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who would take part, in which arm, with which messages.

    Nothing is changed; plan.json is written for `retain apply`.

    Exit code 0: nothing to do; 2: there is something to apply; 1: an error.
    """
    from flows.steps.apply_plan import find_applied
    from flows.steps.plan_campaign import plan_campaign

    with opened(workspace) as ws:
        planned = plan_campaign(ws, campaign, as_of=selection_instant(as_of, now))
        path = planned.write(out or ws.root / ".retain" / "plans" / campaign / planned.stamp)
        done = find_applied(ws, campaign, planned.as_of) is not None
    if as_json:
        print_json(planned.summary)
    else:
        _show_plan(planned.summary)
        say(f"written to {path}")
    for text in planned.summary["warnings"]:
        warn(text)
    if done:
        warn(f"{campaign} was run as of this instant already; there is nothing to apply")
    elif planned.summary["eligible"]:
        if not as_json:
            say(f"next: retain apply {path}")
        raise typer.Exit(WORK_TO_DO)


def apply(
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN.JSON", help="The plan to carry out, as `retain plan` wrote it.")
    ],
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry out a plan: assignments and messages are recorded.

    A stale plan is refused. Applying again changes nothing; after a crash it completes what was begun. A launch above
    the limits of `approval` in retain.toml waits for a second person: exit code 2, and `retain approve` next.
    """
    from flows.steps.apply_plan import apply_plan_file

    with opened(workspace, by=by) as ws, progress_bar("apply", quiet=as_json) as progress:
        applied = apply_plan_file(ws, plan_file, now=instant(now), by=ws.settings.operator, progress=progress)
    _show_applied(applied.to_json(), as_json)


def run(
    campaign: CampaignArgument,
    as_of: AsOfOption = None,
    by: ByOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan and apply in one go, as a schedule does.

    Running again for the same instant changes nothing. Exit code 2: the launch waits for `retain approve`.
    """
    from flows.steps.run_campaign import run_campaign

    with opened(workspace, by=by) as ws, progress_bar("run", quiet=as_json) as progress:
        moment = selection_instant(as_of, now)
        outcome = run_campaign(ws, campaign, as_of=moment, by=ws.settings.operator, progress=progress)
    _show_applied(outcome.to_json(), as_json)


def _show_plan(summary: dict[str, Any]) -> None:
    """Print a plan as a person reads it."""
    say(f"{summary['campaign']} as of {summary['as_of']} (experiment {summary['experiment']})")
    say(f"audience {summary['audience']:,} -> eligible {summary['eligible']:,}")
    if summary["skipped"]:
        print_table(("left out because", "customers"), list(summary["skipped"].items()))
    rows = [
        (name, arm["planned"], percent(arm["share"]), arm["messages"], arm["first_send"], arm["last_send"])
        for name, arm in summary["arms"].items()
    ]
    print_table(("arm", "customers", "share", "messages", "first send (UTC)", "last send (UTC)"), rows)
    _show_journey(summary["journey"])
    _show_allocation(summary["allocation"])
    power = summary["power"]
    _show_cost(summary["cost"])
    _show_offers(summary)
    if power["baseline"] is not None:
        say(
            f"{power['metric']} without treatment {cell(power['baseline'])}; needed in the smallest arm "
            f"{cell(power['needed_per_arm'])}; smallest detectable effect {cell(power['detectable'])}; "
            f"chance to find the minimum effect {percent(power['power'])}"
        )
    show_needs(power)
    _show_zones(summary)
    say(f"earliest decision on {summary['decision_on']}; time-zone rules {summary['tzdata']}")


def _show_cost(cost: dict[str, str]) -> None:
    """What sending costs, beside that what the fallbacks could cost at most, and what the offers are expected to."""
    more = "" if cost["fallbacks"].startswith("0.00 ") else f" (up to {cost['fallbacks']} more by fallbacks)"
    say(f"cost of sending {cost['messages']}{more}, expected discounts {cost['discounts']}")


def _show_journey(journey: dict[str, Any]) -> None:
    """What brings customers in, and the steps of arms that do more than send one message."""
    trigger = journey["trigger"]
    if trigger is not None:
        say(f"moments: {trigger['moment']}, from {trigger['since']} until {trigger['until']}")
    for arm, steps in journey["arms"].items():
        if len(steps) > 1 or "," in steps[0]:
            say(f"{arm}: {'; '.join(steps)}")


def _show_offers(summary: dict[str, Any]) -> None:
    """What each tier is promised where an offer has tiers, and the codes that are needed."""
    for row in summary["offers"]:
        if "/" in row["offer"]:
            say(f"{row['arm']}: {row['offer']} to {row['customers']:,} customers, expected {row['cost']}")
    for pool, counts in summary["codes"].items():
        say(f"pool {pool}: {counts['needed']:,} codes needed, {counts['free']:,} there")


def _show_zones(summary: dict[str, Any]) -> None:
    """What told the customers' zones, how much of it is guessed, and whose legal hours hold."""
    from campaigns.whereabouts import SOURCES

    told = ", ".join(f"{SOURCES[source]} {n:,}" for source, n in summary["zones"].items() if n)
    if told:
        say(f"zones from: {told}; guessed for {percent(summary['zones_guessed'])}")
    if summary["jurisdictions"]:
        limited = [f"{name} {rule['messages']:,}" for name, rule in summary["jurisdictions"].items()]
        say(f"messages within legal hours: {', '.join(limited)}")


def _show_allocation(allocation: dict[str, Any]) -> None:
    """The shares of a wave that were learnt, and from what."""
    if allocation["mode"] == "fixed":
        return
    shares = ", ".join(f"{arm} {percent(share)}" for arm, share in allocation["weights"].items())
    waves = len(allocation["learnt_from"])
    source = (
        f"by {allocation['customers']:,} customers of {waves} mature run{'s' if waves > 1 else ''}"
        if waves
        else "as the file says or as this run began, until a run has matured"
    )
    say(f"shares of this run (thompson, {source}): {shares}; nobody falls below {percent(allocation['floor'])}")


def _show_applied(outcome: dict[str, Any], as_json: bool) -> None:
    for text in outcome["warnings"]:
        warn(text)
    if as_json:
        print_json(outcome)
    elif outcome["launch"]["state"] in ("awaiting_approval", "refused"):
        _show_waiting(outcome)
    else:
        _show_recorded(outcome)
    if outcome["launch"]["state"] == "awaiting_approval":
        raise typer.Exit(WORK_TO_DO)
    if outcome["launch"]["state"] == "refused":
        raise typer.Exit(1)


def _show_waiting(outcome: dict[str, Any]) -> None:
    """A launch that a second person has not approved: nothing was recorded."""
    launch = outcome["launch"]
    said = "waits for approval" if launch["state"] == "awaiting_approval" else "may not be launched"
    say(f"{outcome['experiment']} as of {outcome['as_of']}: {said}; nothing was recorded")
    for reason in launch["reasons"]:
        say(f"  {reason}")
    if launch["state"] == "awaiting_approval":
        say(f"next, by a second person: retain approve {outcome['campaign']} --as-of {outcome['as_of']} --by NAME")


def _show_recorded(outcome: dict[str, Any]) -> None:
    done = (
        "already applied" if outcome["already_applied"] else "applied" if outcome["eligible"] else "nobody takes part"
    )
    unchanged = outcome["already_applied"] or not outcome["eligible"]
    say(f"{outcome['experiment']} as of {outcome['as_of']}: {done}{'; nothing changed' if unchanged else ''}")
    print_table(("arm", "customers"), list(outcome["assigned"].items()))
    if not unchanged:
        say(f"{outcome['messages']:,} messages are planned; next: retain deliver")
