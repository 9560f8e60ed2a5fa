"""The order of a journey where something was late: no message leaves too soon after the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from campaigns.timing import Slot, next_slot
from flows.steps.legal_hours import ANY_TIME, hours_of, timing_of
from warehouse.ledger.claim_rules import campaign_of
from warehouse.ledger.outbox import LateMessage, move, skip
from warehouse.ledger.sequence import too_soon

if TYPE_CHECKING:
    from flows.steps.deliver_messages import Delivered
    from flows.steps.sending_rules import Sending
    from flows.wiring import Workspace

STEP_BEFORE: Final = "step_before"
"""The reason code of a message that waits for the one before it."""


class Order:
    """Keeps the steps of every journey apart, batch by batch of one delivery run."""

    def __init__(self, ws: Workspace, sending: Sending, delivered: Delivered) -> None:
        """`delivered` counts what is put off or skipped."""
        self._ws, self._sending, self._delivered = ws, sending, delivered
        self._asked_at: datetime | None = None

    def keep(self, now: datetime) -> None:
        """Put off whatever is due by `now` and would leave less than its delay after the message before it.

        That one may have been put off itself, or still wait, or have been followed on another channel: planned moments
        alone would then send a reminder first, or both at once. Skipped where it would expire first.
        """
        if self._asked_at is not None and now <= self._asked_at:
            return
        gaps = {
            key: gap for experiment_id in sorted(self._sending.experiments) for key, gap in self._gaps(experiment_id)
        }
        found = too_soon(self._ws.ledger, gaps, after=self._asked_at, until=now) if gaps else []
        self._asked_at = now
        slots: dict[str, tuple[datetime, datetime]] = {}
        reasons: dict[str, str] = {}
        known: dict[tuple[object, ...], Slot | None] = {}
        for message, free_at in found:
            kind = (message.experiment_id, message.arm, message.step, message.channel, message.zones, message.place)
            if (*kind, free_at) not in known:
                known[*kind, free_at] = self._slot_from(message, free_at)
            slot = known[*kind, free_at]
            if slot is None or slot.opens_at >= message.expires_at:
                reasons[message.message_key] = STEP_BEFORE
            else:
                slots[message.message_key] = (slot.opens_at, min(slot.closes_at, message.expires_at))
        if found:
            self._delivered.put_off += move(self._ws.ledger, slots, now, reason=STEP_BEFORE)
            self._delivered.skipped[STEP_BEFORE] += skip(self._ws.ledger, reasons, now)

    def forget(self) -> None:
        """Ask again about everything that waits: messages were added."""
        self._asked_at = None

    def _gaps(self, experiment_id: str) -> Iterator[tuple[tuple[str, str, int, bool], timedelta]]:
        """The delay before each message of an experiment but the first of its arm, as the file has them today."""
        for name, arm in self._sending.files[campaign_of(experiment_id)].campaign.arms.items():
            for number, step in enumerate(arm.steps, start=1):
                if number > 1:
                    yield (experiment_id, name, number, False), step.after
                if step.repeat is not None:
                    yield (experiment_id, name, number, True), step.repeat.every

    def _slot_from(self, message: LateMessage, at: datetime) -> Slot | None:
        timing = timing_of(self._sending, message)
        window = ANY_TIME if timing is None else timing.window.window
        return next_slot(window, message.zones, at=at, bounds=hours_of(self._ws, message, message.place, timing).bounds)
