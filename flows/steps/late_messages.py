"""Messages whose slot closed before they left: into their next slot, or skipped, as their campaign says."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from campaigns.timing import Slot, next_slot
from flows.steps.legal_hours import ANY_TIME, hours_of, timing_of
from warehouse.ledger.outbox import LateMessage, late_messages, move, skip

if TYPE_CHECKING:
    from flows.steps.deliver_messages import Delivered
    from flows.steps.sending_rules import Sending
    from flows.wiring import Workspace


def put_off_late_messages(ws: Workspace, sending: Sending, now: datetime, delivered: Delivered) -> None:
    """Move or skip every late message, batch by batch; those of campaigns that are held stay as they are."""
    while True:
        with ws.ledger.read() as tx:
            late = late_messages(tx, now, experiments=frozenset(sending.experiments))
        if not late:
            return
        slots: dict[str, tuple[datetime, datetime]] = {}
        reasons: dict[str, str] = {}
        known: dict[tuple[object, ...], Slot | None] = {}
        for message in late:
            kind = (message.experiment_id, message.arm, message.step, message.channel, message.zones, message.place)
            if kind not in known:
                known[kind] = _slot_for(ws, sending, message, now)
            slot = known[kind]
            if slot is None or slot.opens_at >= message.expires_at:
                reasons[message.message_key] = "too_late"
            else:
                slots[message.message_key] = (slot.opens_at, min(slot.closes_at, message.expires_at))
        delivered.put_off += move(ws.ledger, slots, now)
        delivered.skipped["too_late"] += skip(ws.ledger, reasons, now)


def _slot_for(ws: Workspace, sending: Sending, message: LateMessage, now: datetime) -> Slot | None:
    timing = timing_of(sending, message)
    if timing is None or timing.if_late == "skip":
        return None
    window = ANY_TIME if timing.if_late == "send" else timing.window.window
    return next_slot(window, message.zones, at=now, bounds=hours_of(ws, message, message.place, timing).bounds)
