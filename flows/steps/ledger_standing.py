"""What the ledger says when a plan is made: the epoch, who took part where, who may not be written to, what is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from campaigns.eligibility import CHANNELS, Standing
from campaigns.plan import Limits
from campaigns.words import DEFAULT_TOPIC
from flows.steps.cap_rules import caps_of
from flows.steps.planning_rules import experiment_name, freeze_design
from warehouse.ledger.experiments import current_experiment, end_experiment, latest_epoch, start_experiment
from warehouse.ledger.layers import Layer, layer_busy, resting, taken_lately
from warehouse.ledger.promises import promised_cost
from warehouse.ledger.standing import (
    assigned_elsewhen,
    assigned_in_earlier_epochs,
    customers_at_cap,
    earlier_draws,
    promised,
    units_elsewhen,
)
from warehouse.ledger.suppressions import suppressed
from warehouse.ledger.waves import wave_id_of

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from campaigns.model import Campaign
    from experiments.design import Design
    from flows.wiring import Workspace


@dataclass(frozen=True, slots=True)
class Epoch:
    """The experiment a run belongs to. `is_new`: it starts with this run; `ends`: the one that it replaces."""

    campaign: str
    number: int
    is_new: bool
    ends: str | None = None

    @property
    def experiment_id(self) -> str:
        """The id of the epoch's experiment."""
        return experiment_name(self.campaign, self.number)


def find_epoch(ws: Workspace, file: CampaignFile) -> Epoch:
    """The campaign's running experiment, or the next epoch where there is none or its design has changed since."""
    campaign = file.campaign
    with ws.ledger.read() as tx:
        running = current_experiment(tx, campaign.name)
        latest = latest_epoch(tx, campaign.name)
    if running is None:
        return Epoch(campaign.name, latest + 1, is_new=True)
    wanted = freeze_design(file, ws.settings, epoch=running.epoch).content_hash()
    if wanted == running.design_hash:
        return Epoch(campaign.name, running.epoch, is_new=False)
    return Epoch(campaign.name, latest + 1, is_new=True, ends=running.experiment_id)


def begin_epoch(ws: Workspace, epoch: Epoch, design: Design, *, now: datetime, topic: str = DEFAULT_TOPIC) -> None:
    """Record the design of a new epoch, and end the one it replaces. Does nothing for a running one."""
    if not epoch.is_new:
        return
    with ws.ledger.begin() as tx:
        if epoch.ends is not None:
            end_experiment(tx, epoch.ends, reason="design changed", ended_at=now)
        start_experiment(tx, design.to_json(), design_hash=design.content_hash(), started_at=now, topic=topic)


def read_standing(ws: Workspace, campaign: Campaign, epoch: Epoch, *, as_of: datetime) -> Standing:
    """The customers whom the ledger keeps out of a run as of an instant, by reason."""
    reentry_after = campaign.audience.reentry_after
    experiment_id = epoch.experiment_id
    caps = caps_of(campaign, ws.settings)
    since = None if reentry_after is None else as_of - reentry_after
    layer, rest = layer_of(ws, campaign), ws.settings.policy.cool_off
    with ws.ledger.read() as tx:
        return Standing(
            already_assigned=assigned_elsewhen(tx, experiment_id, as_of),
            reentry_too_soon=assigned_in_earlier_epochs(tx, campaign.name, experiment_id, since=since),
            rival_campaign=layer_busy(tx, layer.rivals, as_of=as_of),
            cooling_off=resting(tx, layer, as_of=as_of)
            | (set() if rest is None else taken_lately(tx, campaign.name, as_of=as_of, within=rest)),
            capped=customers_at_cap(tx, caps, at=as_of, experiment_id=experiment_id),
            suppressed={channel: suppressed(tx, channel, topic=campaign.topic) for channel in CHANNELS},
            assigned_units=units_elsewhen(tx, experiment_id, as_of),
            before=earlier_draws(tx, campaign.name, epoch.number),
        )


def budget_left(ws: Workspace, file: CampaignFile, epoch: Epoch, *, as_of: datetime) -> Limits:
    """What the campaign may still use up: its limits less what its other runs have promised so far."""
    campaign, budget = file.campaign, file.campaign.budget
    discounts = _promised_discounts(ws, file, epoch, as_of)
    with ws.ledger.read() as tx:
        messages, cost_micros = promised(tx, campaign.name, experiment_id=epoch.experiment_id, as_of=as_of)
    return Limits(
        customers=campaign.audience.limit,
        messages=None if budget.messages is None else max(0, budget.messages - messages),
        cost=None if budget.cost is None else max(0.0, float(budget.cost.amount) - cost_micros / 1_000_000),
        discounts=None if budget.discounts is None else max(0.0, float(budget.discounts.amount) - discounts),
    )


def _promised_discounts(ws: Workspace, file: CampaignFile, epoch: Epoch, as_of: datetime) -> float:
    """What the offers of the campaign's other runs were expected to cost when they were applied."""
    with ws.ledger.read() as tx:
        return promised_cost(tx, file.campaign.name, but=wave_id_of(epoch.experiment_id, as_of)) / 1_000_000


def layer_of(ws: Workspace, campaign: Campaign) -> Layer:
    """The other campaigns of the campaign's exclusive layer, and how long their customers rest."""
    name = campaign.audience.exclusive
    if name is None:
        return Layer()
    others = (file.campaign for file in ws.usable_book[0].campaigns.values())
    rivals = sorted(c.name for c in others if c.audience.exclusive == name and c.name != campaign.name)
    return Layer(tuple(rivals), campaign.audience.cool_off or timedelta(0))
