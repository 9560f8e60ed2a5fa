"""The whole loop on invented customers: load, plan, apply, deliver, (they react), measure, decide, write back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from flows.demo.exposure import Exposure
from flows.demo.reactions import Reactions, react
from flows.demo.simulated import LOCAL, chosen_providers, simulators_count
from flows.demo.story import AS_OF, BOOK, CAMPAIGN, TEMPLATES
from flows.demo.world import World, make_world
from flows.settings import Settings, read_settings
from flows.steps.apply_plan import apply_plan
from flows.steps.decide_experiment import Decided, decide_experiment
from flows.steps.deliver_messages import deliver_messages
from flows.steps.gather_report import gather_report
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.steps.plan_campaign import PlannedCampaign, plan_campaign
from flows.steps.show_status import show_status
from flows.wiring import Workspace, open_workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.deliveries import sent_messages
from warehouse.ledger.suppressions import Suppression, suppress_many
from warehouse.ledger.waves import waves

if TYPE_CHECKING:
    from collections.abc import Iterator

DELIVERY_DAYS: Final = 3
DELIVERY_EVERY: Final = timedelta(hours=3)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is."""


@dataclass(frozen=True)
class DemoRun:
    """What the demonstration did, with the truth that only it knows."""

    root: Path
    planned: PlannedCampaign
    decided: Decided
    reactions: Reactions
    report_data: dict[str, Any]
    messages: dict[str, int]
    simulator: dict[str, int] | None
    """What the simulator accepted, where the messages went to one."""
    seconds: float

    def to_json(self, *, report: Path | None) -> dict[str, Any]:
        """What `retain demo --json` prints."""
        decided = self.decided.to_json()
        return {
            **({} if self.simulator is None else {"simulator": self.simulator}),
            "workspace": str(self.root),
            "selected": self.planned.summary["audience"],
            "eligible": self.planned.summary["eligible"],
            "assigned": {arm: counts["planned"] for arm, counts in self.planned.summary["arms"].items()},
            "messages": self.messages,
            "results": decided["measurement"]["results"],
            "decision": {**decided["decision"], "diff": decided["diff"]},
            "truth": {arm: truth.lift for arm, truth in self.reactions.truth.items()},
            "truth_margin": {arm: truth.margin for arm, truth in self.reactions.truth.items()},
            "changed_files": decided["changed_files"],
            "report": None if report is None else str(report),
            "seconds": round(self.seconds, 2),
        }


def run_demo(root: Path, *, customers: int, seed: int, progress: Progress, providers: str = LOCAL) -> DemoRun:
    """Make a workspace in `root` and take its campaign once round the loop, in simulated time.

    The same `customers` and `seed` give the same world, assignments, results and decision. `providers`: "local" writes
    the messages to files, "simulated" sends them over HTTP to a simulator on this machine.
    Raises SettingsError where `root` holds a workspace already.
    """
    started = time.perf_counter()
    make_workspace(root, book=BOOK, templates=TEMPLATES)
    _say_what_margins_include(root)
    with chosen_providers(providers) as chosen, open_workspace(_settings(root, seed, chosen)) as ws:
        world = _load_world(ws, customers, seed, progress)
        progress("plan", 0, 1)
        planned = plan_campaign(ws, CAMPAIGN, as_of=AS_OF)
        planned.write(root / ".retain" / "plans" / CAMPAIGN / planned.stamp)
        progress("plan", 1, 1)
        apply_plan(ws, planned, now=AS_OF, progress=lambda done, total: progress("apply", done, total))
        _deliver(ws, progress)
        simulator = simulators_count(chosen)
        reactions = _react(ws, world, planned, progress)
        progress("measure and decide", 0, 1)
        ripe_at = _horizon_end(planned) + ws.settings.measurement.lateness
        decided = decide_experiment(ws, CAMPAIGN, now=ripe_at)
        data = gather_report(ws, CAMPAIGN, now=ripe_at, decided=decided)
        data["truth"] = {arm: truth.lift for arm, truth in reactions.truth.items()}
        messages = show_status(ws, CAMPAIGN)[0]["total"]
        progress("measure and decide", 1, 1)
    return DemoRun(root, planned, decided, reactions, data, messages, simulator, time.perf_counter() - started)


def _settings(root: Path, seed: int, providers: Mapping[str, Any]) -> Settings:
    own: dict[str, Any] = {"seed": f"demo-{seed}", "secret": f"demonstration-key-of-seed-{seed}"}
    if providers:  # an address for status callbacks, which carry the message's key to the simulator
        own |= {"providers": dict(providers), "public_url": "https://shop.example.com"}
    return read_settings(root, overrides=own, environment=False)


def _say_what_margins_include(root: Path) -> None:
    """The invented shop books points as they are earned: its margins are net of them."""
    path = root / "retain.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('["percent_off", "amount_off"]', '["percent_off", "points"]'), encoding="utf-8")


def _load_world(ws: Workspace, customers: int, seed: int, progress: Progress) -> World:
    progress("invent customers", 0, 1)
    world = make_world(customers=customers, seed=seed, as_of=AS_OF)
    files = world.write(ws.root / "import")
    progress("invent customers", 1, 1)
    for number, (table, path) in enumerate(files.items(), start=1):
        load_facts(ws, table, [path], renames={}, now=AS_OF)
        progress("load", number, len(files))
    return world


def _ticks() -> Iterator[datetime]:
    for number in range(int(timedelta(days=DELIVERY_DAYS) / DELIVERY_EVERY)):
        yield AS_OF + number * DELIVERY_EVERY


def _deliver(ws: Workspace, progress: Progress) -> None:
    """Deliver every few simulated hours, until every zone's window has opened."""
    total = show_status(ws, CAMPAIGN)[0]["total"]["planned"]
    sent = 0
    for now in _ticks():
        delivered = deliver_messages(ws, now=now, worker="demo")
        sent += delivered.sent + delivered.failed + delivered.skipped.total()
        progress("deliver", min(sent, total), total)


def _react(ws: Workspace, world: World, planned: PlannedCampaign, progress: Progress) -> Reactions:
    """Let the customers live through the horizon, and load what they did."""
    progress("customers react", 0, 1)
    until = _horizon_end(planned)
    experiment = planned.epoch.experiment_id
    with ws.ledger.read() as tx:
        assigned = assignments_frame(tx, waves(tx, experiment)[0].wave_id)
        sent = sent_messages(tx, experiment)
    exposure = Exposure(
        assigned=assigned, sent=sent, assigned_at=AS_OF, horizon=planned.file.campaign.experiment.horizon
    )
    reactions = react(world, exposure, until=until, seed=world.seed)
    for table, path in reactions.write(ws.root / "import").items():
        load_facts(ws, table, [path], renames={}, now=until)
    suppress_many(ws.ledger, _wishes(reactions.unsubscribes))
    progress("customers react", 1, 1)
    return reactions


def _wishes(unsubscribes: pd.DataFrame) -> list[Suppression]:
    return [
        Suppression(
            str(row.customer_id),
            str(row.channel),
            "unsubscribe",
            "demonstration",
            pd.Timestamp(str(row.at)).to_pydatetime(),
        )
        for row in unsubscribes.itertuples()
    ]


def _horizon_end(planned: PlannedCampaign) -> datetime:
    return AS_OF + planned.file.campaign.experiment.horizon
