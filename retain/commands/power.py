"""power and simulate: what a campaign's experiment can show, and how often its rule would be right, before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from retain.needs import show_needs
from retain.opening import opened
from retain.options import AsOfOption, CampaignArgument, JsonOption, NowOption, WorkspaceOption, selection_instant
from retain.printing import cell, percent, print_json, print_table, say
from retain.stages import Stages

if TYPE_CHECKING:
    from typing import Any


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(power)
    app.command()(simulate)


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
        moment = selection_instant(as_of, now)
        shown = show_power(ws, campaign, as_of=moment, customers=customers, baseline=baseline)
    if as_json:
        print_json(shown)
    else:
        _show_power(shown)


def simulate(
    campaign: CampaignArgument,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=1, help="How often every scenario is replayed.")
    ] = 500,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="The same seed gives the same numbers.")] = 1,
    as_of: AsOfOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a design on past customers, with planted effects.

    Nothing, the minimum effect, and harm are planted in turn: how often is an arm promoted that should not be, how
    often is a good one found, when, and how much too large is its claimed effect. Nothing is sent, and nothing of the
    campaign changes.
    """
    from flows.steps.simulate_campaign import simulate_campaign

    with opened(workspace) as ws, Stages(quiet=as_json) as stages:
        moment = selection_instant(as_of, now)
        done = simulate_campaign(ws, campaign, as_of=moment, runs=runs, seed=seed, progress=stages.show)
    if as_json:
        print_json(done.to_json() | {"stored": str(done.path)})
    else:
        _show_simulated(done.to_json())
        say(f"stored in {done.path}")


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
    show_needs(shown)
    rows = [(point["customers"], point["detectable"], percent(point["power"])) for point in shown["curve"]]
    if rows:
        print_table(("customers in all", "smallest detectable effect", "chance to find the minimum effect"), rows)


def _show_simulated(shown: dict[str, Any]) -> None:
    say(
        f"{shown['campaign']}: {shown['customers']:,} customers of {len(shown['waves'])} past runs; "
        f"{shown['scenarios'][0]['runs']:,} replays of each scenario, seed {shown['seed']}"
    )
    rows = [
        (
            scenario["scenario"].replace("_", " "),
            percent(scenario["false_promotion"]),
            percent(scenario["power"]),
            percent(scenario["promotion"]),
            percent(scenario["stop_harm"]),
            scenario["decision_on"],
            cell(scenario["claimed_over_true"]),
            cell(scenario["shrunk_over_true"]),
        )
        for scenario in shown["scenarios"]
    ]
    columns = (
        "planted", "wrongly promoted", "effect found", "promoted", "stopped for harm", "decision", "claimed / true",
        "shrunk / true",
    )  # fmt: skip
    print_table(columns, rows)
