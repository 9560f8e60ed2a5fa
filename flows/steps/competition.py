"""Campaigns that are due together: the one of higher rank has its customers first, in whatever order they are run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from campaigns.errors import CampaignError
from campaigns.problems import BookErrors
from campaigns.schedule import due_at
from flows.steps.campaign_rank import rank_campaigns
from flows.steps.cap_rules import caps_of
from flows.steps.ledger_standing import layer_of
from warehouse.ledger.experiments import experiments
from warehouse.ledger.standing import customers_at_cap
from warehouse.ledger.waves import find_wave

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from campaigns.eligibility import Standing
    from campaigns.plan import Plan
    from flows.steps.ledger_standing import Epoch
    from flows.wiring import Workspace

LOOK_BACK: Final = timedelta(hours=24)
"""How far back a daily run looks for schedules that have come round."""

Planner = Callable[[str, datetime], "Plan"]


@dataclass(frozen=True, slots=True)
class DueCampaign:
    """A campaign whose schedule has come round, and the instant it named."""

    campaign: str
    as_of: datetime


@dataclass(slots=True)
class _Taken:
    """What campaigns of higher rank are about to take: whole customers, and messages (channel, topic) to them."""

    customers: set[str] = field(default_factory=set)
    messages: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))


def due_campaigns(ws: Workspace, *, now: datetime) -> list[DueCampaign]:
    """The active campaigns whose schedule has come round in the 24 hours up to `now`, each with that instant.

    In the order in which they have their customers: by priority, then by expected value, then by name.
    """
    files = {name: file.campaign for name, file in ws.usable_book[0].campaigns.items()}
    ranks = rank_campaigns(ws, list(files.values()))
    due = []
    for name in sorted(files, key=lambda name: ranks[name]):
        schedule = files[name].schedule
        if files[name].status != "active" or schedule is None:
            continue
        as_of = due_at(schedule.cron, schedule.timezone, now=now, within=LOOK_BACK)
        if as_of is not None:
            due.append(DueCampaign(name, as_of))
    return due


def yield_to_higher(
    ws: Workspace, file: CampaignFile, epoch: Epoch, standing: Standing, *, as_of: datetime, plan: Planner
) -> Standing:
    """The standing, less the customers whom campaigns of higher rank that are due as well are about to take.

    `plan` plans such a campaign as of its own instant; one that cannot be planned takes nobody. Campaigns of the same
    priority and value do not outrank each other.
    """
    campaign = file.campaign
    layer, rest = layer_of(ws, campaign), ws.settings.policy.cool_off
    caps = caps_of(campaign, ws.settings)
    taken = _Taken()
    for due in _higher(ws, file, as_of=as_of):
        in_layer = due.campaign in layer.rivals or rest is not None
        if not in_layer and not caps:
            continue
        try:
            planned = plan(due.campaign, due.as_of)
        except (CampaignError, BookErrors):
            continue
        if in_layer:
            taken.customers.update(planned.assignments["customer_id"])
        _add_messages(taken, planned, ws.usable_book[0].campaigns[due.campaign].campaign.topic)
    if not taken.customers and not taken.messages:
        return standing
    with ws.ledger.read() as tx:
        crowded = customers_at_cap(tx, caps, at=as_of, experiment_id=epoch.experiment_id, planned=taken.messages)
    return replace(standing, outranked=taken.customers | (crowded - set(standing.capped)))


def _add_messages(taken: _Taken, planned: Plan, topic: str) -> None:
    """Messages of the arms, and those that control would be sent."""
    for frame in (planned.messages, planned.withheld):
        for customer, channel in zip(frame["customer_id"], frame["channel"], strict=True):
            taken.messages[customer].append((channel, topic))


def _higher(ws: Workspace, file: CampaignFile, *, as_of: datetime) -> list[DueCampaign]:
    """The other campaigns that are due, have not been run, and rank higher by priority or value."""
    name = file.campaign.name
    book: Mapping[str, CampaignFile] = ws.usable_book[0].campaigns
    others = [due for due in due_campaigns(ws, now=as_of) if due.campaign != name]
    ranks = rank_campaigns(ws, [file.campaign, *(book[due.campaign].campaign for due in others)])
    higher = [due for due in others if ranks[due.campaign][:2] < ranks[name][:2]]
    return [due for due in higher if not _was_run(ws, due)]


def _was_run(ws: Workspace, due: DueCampaign) -> bool:
    with ws.ledger.read() as tx:
        found = (find_wave(tx, row.experiment_id, due.as_of) for row in experiments(tx, due.campaign))
        return any(wave is not None and wave.recorded is not None for wave in found)
