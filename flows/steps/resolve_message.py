"""Lets a person settle a message in doubt, after asking the provider or the customer."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

from warehouse.ledger.addressees import standing_of_message
from warehouse.ledger.audit import record_audit
from warehouse.ledger.changes import Outcome
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.outbox import Settlement, settle

if TYPE_CHECKING:
    from flows.wiring import Workspace

OUTCOMES: Final = ("sent", "failed")


def resolve_message(ws: Workspace, message_key: str, outcome: str, *, by: str, at: datetime) -> None:
    """Settle a message in doubt as sent or failed, on the record; it is never sent again.

    Raises LedgerError for another outcome, for a message that does not exist, and for one that is not in doubt, or is
    no longer: its provider may have been asked meanwhile, and the message sent again.
    """
    if outcome not in OUTCOMES:
        raise LedgerError(f'outcome "{outcome}": expected one of {", ".join(OUTCOMES)}')
    state, fence = _standing(ws, message_key)
    if state != "in_doubt":
        raise LedgerError(f"message {message_key} is {state}; only messages in doubt are settled by hand")
    # of the attempt that was asked about, and of no later one
    news = Settlement(message_key=message_key, state=cast(Outcome, outcome), reason="resolved", fence=fence)
    if settle(ws.ledger, [news], at).ignored:
        state, _ = _standing(ws, message_key)
        raise LedgerError(f"message {message_key} has become {state} meanwhile; nothing was changed")
    with ws.ledger.begin() as tx:
        record_audit(tx, at=at, actor=by, action="resolve", subject=message_key, detail={"outcome": outcome})


def _standing(ws: Workspace, message_key: str) -> tuple[str, int]:
    with ws.ledger.read() as tx:
        found = standing_of_message(tx, message_key)
    if found is None:
        raise LedgerError(f"no message {message_key}; expected EXPERIMENT/CUSTOMER/STEP, as `retain explain` tells it")
    return found
