"""What may leave at all: the experiments whose campaigns are open, with their caps and budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.steps.campaign_rank import expected_value
from flows.steps.cap_rules import caps_of
from warehouse.ledger.experiments import experiments
from warehouse.ledger.outbox import CampaignRules

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from campaigns.model import Campaign
    from campaigns.problems import Problem
    from flows.settings import Settings
    from flows.wiring import Workspace


@dataclass(slots=True)
class Sending:
    """The experiments that may send, the rules of their campaigns, and why others are held."""

    experiments: set[str]
    files: Mapping[str, CampaignFile]
    rules: Mapping[str, CampaignRules]
    held: dict[str, str]
    topics: Mapping[str, str]
    """Experiment -> what its messages are about."""


def read_sending(ws: Workspace) -> Sending:
    """Every experiment of the ledger whose campaign file is there, sound, and neither paused nor archived.

    Raises BookErrors where offers.yaml or segments.yaml cannot be used.
    """
    book, problems = ws.usable_book
    files = book.campaigns
    with ws.ledger.read() as tx:
        rows = experiments(tx)
    held = {}
    for campaign in {row.campaign for row in rows}:
        if campaign not in files:
            held[campaign] = _why_missing(campaign, problems)
        elif files[campaign].campaign.status in ("paused", "archived"):
            held[campaign] = f"its file says status: {files[campaign].campaign.status}"
    return Sending(
        experiments={row.experiment_id for row in rows if row.campaign not in held},
        files=files,
        rules=read_rules(ws, [file.campaign for file in files.values()]),
        held=held,
        topics={row.experiment_id: row.topic for row in rows},
    )


def _why_missing(campaign: str, problems: Sequence[Problem]) -> str:
    if not problems:
        return "its file is no longer in campaigns/book"
    return f"no sound file of {campaign} in campaigns/book; first problem there: {problems[0]}"


def read_rules(ws: Workspace, campaigns: Sequence[Campaign]) -> dict[str, CampaignRules]:
    """The rules of each campaign by name, with what the ledger says of its value."""
    with ws.ledger.read() as tx:
        return {c.name: campaign_rules(c, ws.settings, value=expected_value(tx, c)) for c in campaigns}


def campaign_rules(campaign: Campaign, settings: Settings, *, value: float = 0.0) -> CampaignRules:
    """The campaign's and the company's caps, all of which hold, and the budget, as the claim checks them."""
    budget = campaign.budget
    return CampaignRules(
        caps=caps_of(campaign, settings),
        max_messages=budget.messages,
        max_cost_micros=None if budget.cost is None else int(budget.cost.amount * 1_000_000),
        priority=campaign.priority,
        value=value,
    )
