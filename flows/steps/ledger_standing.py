"""What the ledger says when a plan is made: the epoch, who took part where, who may not be written to, what is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from campaigns.eligibility import CHANNELS, Standing
from campaigns.offers import expected_cost
from campaigns.plan import Limits
from flows.steps.planning_rules import experiment_name, freeze_design
from flows.steps.sending_rules import campaign_rules
from warehouse.ledger.assignments import layer_busy
from warehouse.ledger.experiments import current_experiment, end_experiment, experiments, latest_epoch, start_experiment
from warehouse.ledger.standing import assigned_elsewhen, assigned_in_earlier_epochs, customers_at_cap, promised
from warehouse.ledger.suppressions import suppressed
from warehouse.ledger.waves import waves

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


def begin_epoch(ws: Workspace, epoch: Epoch, design: Design, *, now: datetime) -> None:
    """Record the design of a new epoch, and end the one it replaces. Does nothing for a running one."""
    if not epoch.is_new:
        return
    with ws.ledger.begin() as tx:
        if epoch.ends is not None:
            end_experiment(tx, epoch.ends, reason="design changed", ended_at=now)
        start_experiment(tx, design.to_json(), design_hash=design.content_hash(), started_at=now)


def read_standing(ws: Workspace, campaign: Campaign, epoch: Epoch, *, as_of: datetime) -> Standing:
    """The customers whom the ledger keeps out of a run as of an instant, by reason."""
    reentry_after = campaign.audience.reentry_after
    experiment_id = epoch.experiment_id
    caps = campaign_rules(campaign).caps
    since = None if reentry_after is None else as_of - reentry_after
    with ws.ledger.read() as tx:
        return Standing(
            already_assigned=assigned_elsewhen(tx, experiment_id, as_of),
            reentry_too_soon=assigned_in_earlier_epochs(tx, campaign.name, experiment_id, since=since),
            rival_campaign=layer_busy(tx, _rivals(ws, campaign), as_of=as_of),
            capped=customers_at_cap(tx, caps, at=as_of, experiment_id=experiment_id),
            suppressed={channel: suppressed(tx, channel) for channel in CHANNELS},
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
    """What the offers of the campaign's other runs are expected to cost, by today's terms."""
    cost = {
        name: float(expected_cost(file.offers[arm.offer]).amount)
        for name, arm in file.campaign.arms.items()
        if arm.offer is not None
    }
    with ws.ledger.read() as tx:
        runs = [run for row in experiments(tx, file.campaign.name) for run in waves(tx, row.experiment_id)]
    others = [run for run in runs if (run.experiment_id, run.as_of) != (epoch.experiment_id, as_of)]
    return sum(n * cost.get(arm, 0.0) for run in others for arm, n in run.planned.items())


def _rivals(ws: Workspace, campaign: Campaign) -> list[str]:
    layer = campaign.audience.exclusive
    if layer is None:
        return []
    files = ws.usable_book[0].campaigns.values()
    return [
        f.campaign.name for f in files if f.campaign.audience.exclusive == layer and f.campaign.name != campaign.name
    ]
