"""Ends the messages to a customer, on one channel or on all."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from warehouse.facts.contacts import look_up_contacts
from warehouse.ledger.audit import record_audit
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.schema import CHANNELS, SUPPRESSION_REASONS
from warehouse.ledger.suppressions import suppress

if TYPE_CHECKING:
    from flows.wiring import Workspace


def suppress_customer(ws: Workspace, customer_id: str, *, channel: str, reason: str, by: str, at: datetime) -> bool:
    """Suppress a customer; after its commit nothing more leaves. False where that was so already.

    Raises LedgerError for a channel or reason that does not exist.
    """
    if channel not in (*CHANNELS, "all"):
        raise LedgerError(f'channel "{channel}": expected one of {", ".join((*CHANNELS, "all"))}')
    if reason not in SUPPRESSION_REASONS:
        raise LedgerError(f'reason "{reason}": expected one of {", ".join(SUPPRESSION_REASONS)}')
    new = suppress(ws.ledger, customer_id, channel, reason, by, at)
    with ws.ledger.begin() as tx:
        record_audit(
            tx, at=at, actor=by, action="suppress", subject=customer_id, detail={"channel": channel, "reason": reason}
        )
    return new


def is_loaded(ws: Workspace, customer_id: str) -> bool:
    """Whether the facts know the customer."""
    return bool(look_up_contacts(ws.facts, [customer_id]))
