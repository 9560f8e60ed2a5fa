"""Shows what became of every planned message, by arm and channel."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.steps.dispatch_pace import accounts_of, resting_channels
from warehouse.ledger.counts import counts
from warehouse.ledger.experiments import experiments
from warehouse.ledger.fallbacks import count_fallbacks
from warehouse.ledger.switches import EVERYTHING, switches

if TYPE_CHECKING:
    from flows.wiring import Workspace


def show_status(ws: Workspace, campaign: str | None) -> list[dict[str, Any]]:
    """Every experiment of a campaign, or of all: its state and its messages (planned = the sum of the others).

    Raises CampaignError for a campaign that neither the ledger nor the book knows.
    """
    shown: list[dict[str, Any]] = []
    with ws.ledger.read() as tx:
        stopped = [switch for switch in switches(tx) if switch.paused]
        for row in experiments(tx, campaign):
            counted = counts(tx, row.experiment_id)
            shown.append(
                {
                    "campaign": row.campaign,
                    "experiment": row.experiment_id,
                    "status": row.status,
                    "paused": any(switch.scope in (row.campaign, EVERYTHING) for switch in stopped),
                    "paused_because": [
                        {"scope": s.scope, "reason": s.reason, "by": s.changed_by, "since": s.changed_at.isoformat()}
                        for s in stopped
                        if s.scope.partition("/")[0] in (row.campaign, EVERYTHING)
                    ],
                    "total": counted.total,
                    "skipped": counted.skipped,
                    "fallbacks": count_fallbacks(tx, row.experiment_id),
                    "messages": [
                        {"arm": arm, "channel": channel, **fates}
                        for (arm, channel), fates in counted.by_arm_and_channel.items()
                    ],
                }
            )
    if campaign is not None and not shown:
        ws.campaign(campaign)
    return shown


def show_resting(ws: Workspace, *, at: datetime) -> dict[str, str]:
    """Channel -> why its provider's account is left alone at an instant, so that its messages wait."""
    return resting_channels(ws.ledger, accounts_of(ws.settings), now=at)
