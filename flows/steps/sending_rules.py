"""What may leave at all: the experiments whose campaigns are open, with their caps and budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse.ledger.experiments import experiments
from warehouse.ledger.outbox import CampaignRules, Cap

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from campaigns.model import Campaign
    from campaigns.problems import Problem
    from flows.wiring import Workspace


@dataclass(slots=True)
class Sending:
    """The experiments that may send, the rules of their campaigns, and why others are held."""

    experiments: set[str]
    files: Mapping[str, CampaignFile]
    rules: Mapping[str, CampaignRules]
    held: dict[str, str]


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
        rules={name: campaign_rules(file.campaign) for name, file in files.items()},
        held=held,
    )


def _why_missing(campaign: str, problems: Sequence[Problem]) -> str:
    if not problems:
        return "its file is no longer in campaigns/book"
    return f"no sound file of {campaign} in campaigns/book; first problem there: {problems[0]}"


def campaign_rules(campaign: Campaign) -> CampaignRules:
    """The campaign's caps and budget as the claim checks them."""
    caps = [
        Cap(cap.messages, cap.within, None if scope == "all" else scope)
        for scope, cap in campaign.caps.per_customer.items()
    ]
    caps += [Cap(1, gap, None if scope == "all" else scope) for scope, gap in campaign.caps.min_gap.items()]
    budget = campaign.budget
    return CampaignRules(
        caps=tuple(caps),
        max_messages=budget.messages,
        max_cost_micros=None if budget.cost is None else int(budget.cost.amount * 1_000_000),
    )
