"""`retain demo`: runs the loop on invented customers and prints the truth beside the estimate."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.printing import cell, percent, print_table, say
from retain.stages import Stages

if TYPE_CHECKING:
    from flows.demo.loop import DemoRun


def run_and_report(
    root: Path | None, *, customers: int, seed: int, quiet: bool, providers: str = "local"
) -> dict[str, Any]:
    """Run the demonstration in `root` (else in a new directory), write its report, print what came out unless quiet."""
    from flows.demo.loop import run_demo
    from web.report import render_report

    folder = (root or Path(tempfile.mkdtemp(prefix="retain-demo-"))).resolve()
    with Stages(quiet=quiet) as stages:
        run = run_demo(folder, customers=customers, seed=seed, progress=stages.show, providers=providers)
        stages.show("report", 0, 1)
        report = render_report(run.report_data, out=folder / "reports" / "winback-demo.html")
        stages.show("report", 1, 1)
    outcome = run.to_json(report=report)
    if not quiet:
        _print(run, outcome)
    return outcome


def _print(run: DemoRun, outcome: dict[str, Any]) -> None:
    sent = outcome["messages"]
    say(
        f"\n{outcome['selected']:,} customers at risk, {outcome['eligible']:,} may take part; "
        f"{sent['planned']:,} messages planned, {sent['sent']:,} sent, {sent['skipped']:,} skipped, "
        f"{sent['failed']:,} failed, {sent['in_doubt']:,} in doubt"
    )
    if run.simulator is not None:
        accepted, twice = run.simulator["accepted"], run.simulator["duplicates"]
        say(f"the simulator accepted {accepted:,} messages, {twice:,} of them twice")
    rows = [
        (
            result["arm"],
            result["n_arm"],
            percent(result["arm_value"]),
            percent(result["control_value"]),
            percent(result["difference"], signed=True),
            f"{percent(result['low'], signed=True)} to {percent(result['high'], signed=True)}",
            percent(outcome["truth"][result["arm"]], signed=True),
            result["p_adjusted"],
            f"{outcome['truth_margin'][result['arm']]:+.2f}",
        )
        for result in outcome["results"]
        if result["metric"] == "repurchase"
    ]
    columns = ("arm", "customers", "repurchase", "control", "lift", "95 % interval", "true lift", "p", "true margin")
    print_table(columns, rows, title="Repurchase within 30 days, against control")
    decision = outcome["decision"]
    say(f"verdict: {decision['verdict']} {decision['arm'] or ''}".rstrip())
    for arm in outcome["truth"]:
        _print_why_not(arm, decision)
    if decision["diff"]:
        say(decision["diff"])
    say(f"workspace {run.root}")
    say(f"report    {outcome['report']}")
    say(f"{outcome['seconds']} s; next: retain status --workspace {run.root}", now=True)


def _print_why_not(arm: str, decision: dict[str, Any]) -> None:
    """The first check that kept an arm from winning."""
    failed = [r for r in decision["reasons"] if r["arm"] == arm and r["passed"] is False]
    if arm != decision["arm"] and failed:
        say(f"not {arm}: {failed[0]['text']}: {cell(failed[0]['value'])}, limit {cell(failed[0]['threshold'])}")
