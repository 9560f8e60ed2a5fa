"""Pauses and resumes the messages of a campaign, or of all."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from channels.message import CHANNELS
from flows.steps.known_campaign import require_campaign
from warehouse.ledger import switches
from warehouse.ledger.audit import record_audit
from warehouse.ledger.errors import LedgerError

if TYPE_CHECKING:
    from flows.wiring import Workspace


def pause_campaign(ws: Workspace, campaign: str, *, by: str, reason: str, at: datetime) -> bool:
    """Let no message of the campaign ("*": of any) be claimed from now on; False where it was paused already.

    "CAMPAIGN/CHANNEL" and "*/CHANNEL" hold one channel only. Raises CampaignError where neither the book nor the ledger
    knows the campaign, LedgerError where there is no such channel.
    """
    _known(ws, campaign)
    changed = switches.pause(ws.ledger, campaign, by=by, reason=reason, at=at)
    _record(ws, "pause", campaign, by, reason, at)
    return changed


def resume_campaign(ws: Workspace, campaign: str, *, by: str, reason: str, at: datetime) -> bool:
    """Let a paused campaign's messages leave again; False where it was not paused."""
    _known(ws, campaign)
    changed = switches.resume(ws.ledger, campaign, by=by, reason=reason, at=at)
    _record(ws, "resume", campaign, by, reason, at)
    return changed


def _known(ws: Workspace, campaign: str) -> None:
    name, slash, channel = campaign.partition("/")
    if slash and channel not in CHANNELS:
        raise LedgerError(f"{campaign}: expected one of {', '.join(CHANNELS)} behind the slash, got {channel!r}")
    if name != switches.EVERYTHING:
        require_campaign(ws, name)


def _record(ws: Workspace, action: str, campaign: str, by: str, reason: str, at: datetime) -> None:
    with ws.ledger.begin() as tx:
        record_audit(tx, at=at, actor=by, action=action, subject=campaign, detail={"reason": reason})
