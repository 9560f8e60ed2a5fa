"""The last look at the clock before a message leaves: legal hours, quiet hours and holidays where the customer lives.

The plan and the slot in the outbox have seen to them already. This look does not trust them: a slot that slipped, a
rule that has changed since the plan, or a claim that came late sends nothing at a forbidden minute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import TYPE_CHECKING, Final

from campaigns.packs import legal_bounds
from campaigns.timing import Bounds, Window, allows, next_slot
from warehouse.ledger.outbox import ClaimedMessage, LateMessage, move, skip
from warehouse.ledger.places import places_of

if TYPE_CHECKING:
    from campaigns.timing_terms import Timing
    from flows.steps.sending_rules import Sending
    from flows.wiring import Workspace

ANY_TIME: Final = Window(frozenset(range(7)), time(0), time(0))
"""Every hour of every day; law, quiet hours and holidays still hold."""
OUTSIDE_HOURS: Final = "outside_hours"
"""The reason code of a message that the last look kept back."""


@dataclass(frozen=True, slots=True)
class Hours:
    """The bounds of one message where its customer may live."""

    zones: tuple[str, ...]
    bounds: Bounds

    def allow(self, at: datetime) -> bool:
        """Whether it may leave at this very instant."""
        return allows(ANY_TIME, self.zones, at=at, bounds=self.bounds)


@dataclass(frozen=True, slots=True)
class Looked:
    """What the look let through, with the hours of each; how many were put off, and how many given up."""

    messages: list[ClaimedMessage]
    hours: dict[str, Hours]
    put_off: int
    skipped: int


class InTime:
    """Whether messages that are under way may still leave: asked immediately before each one's first byte."""

    def __init__(
        self, closing: Mapping[str, datetime | None], hours: Mapping[str, Hours], clock: Callable[[], datetime]
    ) -> None:
        """`closing`: when each message's slot closes, by key; `hours`: the bounds of each, also of others."""
        self._closing, self._hours, self._clock = closing, hours, clock
        self._told: dict[tuple[int, datetime], bool] = {}

    def __call__(self, keys: Collection[str]) -> bool:
        """Whether all of them may leave now."""
        now = self._clock()
        return all(self._may_leave(key, now) for key in keys)

    def _may_leave(self, key: str, now: datetime) -> bool:
        closes_at, hours = self._closing[key], self._hours[key]
        if closes_at is not None and now >= closes_at:
            return False
        minute = (id(hours), now.replace(second=0, microsecond=0))  # hours begin and end with a minute
        if minute not in self._told:
            self._told[minute] = hours.allow(now)
        return self._told[minute]


def look_at_clock(ws: Workspace, sending: Sending, claimed: Sequence[ClaimedMessage], now: datetime) -> Looked:
    """Let through what may leave now; put the rest off to its next slot, or skip what has none before it expires."""
    with ws.ledger.read() as tx:
        places = places_of(tx, [message.message_key for message in claimed])
    passed, hours = [], {}
    known: dict[tuple[object, ...], tuple[Hours, bool]] = {}
    slots: dict[str, tuple[datetime, datetime]] = {}
    reasons: dict[str, str] = {}
    for message in claimed:
        timing = timing_of(sending, message)
        place = places.get(message.message_key, "")
        kind = (message.experiment_id, message.arm, message.step, message.channel, message.zones, place)
        if kind not in known:
            found = hours_of(ws, message, place, timing)
            known[kind] = found, found.allow(now)
        of, is_allowed = known[kind]
        if is_allowed:
            passed.append(message)
            hours[message.message_key] = of
            continue
        window = ANY_TIME if timing is None or timing.if_late == "send" else timing.window.window
        slot = next_slot(window, of.zones, at=now, bounds=of.bounds)
        if slot is None or slot.opens_at >= message.expires_at or (timing is not None and timing.if_late == "skip"):
            reasons[message.message_key] = OUTSIDE_HOURS
        else:
            slots[message.message_key] = (slot.opens_at, min(slot.closes_at, message.expires_at))
    if not (slots or reasons):
        return Looked(passed, hours, 0, 0)
    fence = claimed[0].fence
    put_off = move(ws.ledger, slots, now, reason=OUTSIDE_HOURS, fence=fence)
    return Looked(passed, hours, put_off, skip(ws.ledger, reasons, now, fence=fence))


def hours_of(ws: Workspace, message: ClaimedMessage | LateMessage, place: str, timing: Timing | None) -> Hours:
    """The bounds of a message by the packs, the settings and the file as they are today."""
    quiet = ws.settings.policy.quiet_window
    off = timing is not None and timing.on_holidays == "wait"
    return Hours(message.zones, legal_bounds(place, message.zones, message.channel, quiet=quiet, holidays_off=off))


def timing_of(sending: Sending, message: ClaimedMessage | LateMessage) -> Timing | None:
    """The timing of the message's step as the file has it today; None where the file no longer has the step."""
    campaign = sending.files[message.experiment_id.rpartition(":")[0]].campaign
    arm = campaign.arms.get(message.arm)
    if arm is None or message.step > len(arm.steps):
        return None
    return campaign.timing_of(message.arm, arm.steps[message.step - 1])
