"""simulate: how often the rule would be right about a campaign, on the company's own past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from retain.opening import opened
from retain.options import AsOfOption, CampaignArgument, JsonOption, NowOption, WorkspaceOption, instant
from retain.printing import cell, percent, print_json, print_table, say
from retain.stages import Stages

if TYPE_CHECKING:
    from typing import Any


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(simulate)


def simulate(
    campaign: CampaignArgument,
    runs: Annotated[int, typer.Option("--runs", min=1, help="How often every scenario is replayed.")] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same numbers.")] = 1,
    as_of: AsOfOption = None,
    workspace: WorkspaceOption = None,
    now: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a campaign's design on past customers, with planted effects.

    Nothing, the minimum effect, and harm are planted in turn: how often is an arm promoted that should not be, how
    often is a good one found, when, and how much too large is its claimed effect. Nothing is sent, and nothing of the
    campaign changes.
    """
    from flows.steps.simulate_campaign import simulate_campaign

    with opened(workspace) as ws, Stages(quiet=as_json) as stages:
        moment = instant(as_of or now, option="--as-of")
        done = simulate_campaign(ws, campaign, as_of=moment, runs=runs, seed=seed, progress=stages.show)
    if as_json:
        print_json(done.to_json() | {"stored": str(done.path)})
    else:
        _show(done.to_json())
        say(f"stored in {done.path}")


def _show(shown: dict[str, Any]) -> None:
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
