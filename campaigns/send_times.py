"""When each step may leave: the slots of an arm's steps, chained, for customers of one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Final, Literal

from campaigns.packs import legal_bounds
from campaigns.spread import Spread, last_start
from campaigns.timing import Bounds, Slot, Window, next_slot
from campaigns.whereabouts import Whereabouts

EVERY_DAY: Final = frozenset(range(7))
ANY_TIME: Final = Window(EVERY_DAY, time(0), time(0))
"""Every hour of every day; law and quiet hours still hold."""
ANY_HOUR: Final = 24
"""Instead of an hour (0 to 23): anywhere in the slot, for who explores or of whom nothing is known."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class StepTiming:
    """When a step may leave: `after` the step before it (the first: after assignment), inside `window`.

    `at` is the moment in the window, `explore` the share that has no best hour, `spread` how messages share a slot;
    with `holidays_off` nothing leaves on public holidays.
    """

    after: timedelta
    window: Window
    if_late: str
    max_lateness: timedelta
    at: time | Literal["best_hour"] | None = None
    explore: float = 0.0
    spread: Spread | None = None
    holidays_off: bool = False


@dataclass(frozen=True, slots=True)
class SendTime:
    """One step's moment for customers of one place: claimable in [not_before, closes_at), dead at `expires_at`.

    Where messages are spread, each begins somewhere in [not_before, until).
    """

    not_before: datetime
    closes_at: datetime
    expires_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Recipients:
    """Customers who get the same moments: where they live, and for each step the channel and the best local hour."""

    where: Whereabouts
    channels: tuple[str, ...]
    hours: tuple[int, ...] = ()
    """0 to 23, or ANY_HOUR; read only for steps at best_hour."""
    begins_at: datetime | None = None
    """The moment that brought them in, from which the delay of the first step counts; None: the assignment."""


@dataclass(frozen=True, slots=True)
class SendLimits:
    """What holds for every step: the instant of the assignment, the company's quiet hours, the end of the offer."""

    as_of: datetime
    quiet: Window | None = None
    offer_ends_at: datetime | None = None


def plan_send_times(
    steps: Sequence[StepTiming], recipients: Recipients, limits: SendLimits
) -> tuple[SendTime, ...] | None:
    """The send time of each step, or None where some step has no permitted moment.

    A step's delay runs from the moment the step before it may leave. A message never outlives its offer, and law and
    quiet hours hold whatever the window says. A moment that has gone by before the assignment is late, and treated as
    `if_late` says.
    """
    times: list[SendTime] = []
    at = recipients.begins_at or limits.as_of
    for number, step in enumerate(steps):
        hour = recipients.hours[number] if recipients.hours else ANY_HOUR
        found = _moment(step, recipients.where, recipients.channels[number], hour, at + step.after, limits)
        if found is not None and found.closes_at <= limits.as_of:
            found = _late(step, recipients.where, recipients.channels[number], found, limits)
        if found is None or (limits.offer_ends_at is not None and found.not_before >= limits.offer_ends_at):
            return None
        times.append(found)
        at = found.not_before
    return tuple(times)


def step_bounds(step: StepTiming, where: Whereabouts, channel: str, quiet: Window | None) -> Bounds:
    """What law, quiet hours and holidays leave of every day for a step on a channel."""
    return legal_bounds(where.place, where.zones, channel, quiet=quiet, holidays_off=step.holidays_off)


def _moment(
    step: StepTiming, where: Whereabouts, channel: str, hour: int, at: datetime, limits: SendLimits
) -> SendTime | None:
    if not where.zones:
        return None
    bounds = step_bounds(step, where, channel, limits.quiet)
    narrow = _at_its_moment(step, where, hour, at, bounds)
    slot = next_slot(step.window, where.zones, at=narrow.opens_at if narrow else at, bounds=bounds)
    if slot is None:
        return None
    return bounded(step, slot, limits.offer_ends_at, until=_until(step, slot, narrow))


def _late(step: StepTiming, where: Whereabouts, channel: str, missed: SendTime, limits: SendLimits) -> SendTime | None:
    """The moment of a message that should have left before the assignment: None where it is given up."""
    if step.if_late == "skip":
        return None
    window = replace(step, window=ANY_TIME) if step.if_late == "send" else step
    found = _moment(window, where, channel, ANY_HOUR, limits.as_of, limits)
    return None if found is None or found.not_before >= missed.not_before + step.max_lateness else found


def _at_its_moment(step: StepTiming, where: Whereabouts, hour: int, at: datetime, bounds: Bounds) -> Slot | None:
    """The next stretch of the window at the clock time or hour the step asks for; None where it asks for none.

    An hour that the window never allows gives way to the nearest that it does; several zones that never share the hour
    give none, and the message leaves as soon as all of them allow it.
    """
    for hours in _wanted(step.at, hour):
        slot = next_slot(step.window, where.zones, at=at, bounds=bounds.with_hours(hours))
        if slot is not None:
            return slot
    return None


def _wanted(at: time | str | None, hour: int) -> Iterator[Window]:
    if isinstance(at, time):
        yield Window(EVERY_DAY, at, (datetime.combine(_EPOCH, at) + timedelta(minutes=1)).time())
    elif at is not None and hour != ANY_HOUR:
        for distance in range(13):
            for near in dict.fromkeys(((hour - distance) % 24, (hour + distance) % 24)):
                yield Window(EVERY_DAY, time(near), time((near + 1) % 24))


def _until(step: StepTiming, slot: Slot, narrow: Slot | None) -> datetime:
    """The end of the stretch in which messages begin: of the best hour, of the slot, or no stretch at all."""
    if step.at == "best_hour":
        return min(narrow.closes_at, slot.closes_at) if narrow else slot.closes_at
    return slot.closes_at if step.spread is not None and step.spread.even else slot.opens_at


def bounded(step: StepTiming, slot: Slot, offer_ends_at: datetime | None, *, until: datetime) -> SendTime:
    """The send time of a step in a slot: where it closes, when the message is given up, where it may begin."""
    expires_at = slot.closes_at if step.if_late == "skip" else max(slot.closes_at, slot.opens_at + step.max_lateness)
    if offer_ends_at is not None:
        expires_at = min(expires_at, offer_ends_at)
    closes_at = min(slot.closes_at, expires_at)
    if until > slot.opens_at:
        last = last_start((slot.opens_at - _EPOCH) // _US, (closes_at - _EPOCH) // _US)
        until = min(until, _EPOCH + last * _US)
    return SendTime(slot.opens_at, closes_at, expires_at, max(until, slot.opens_at))
