"""The moments of an arm's messages: one calculation for all customers alike, then each customer's own place in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from campaigns.errors import CampaignError
from campaigns.packs import packs_of
from campaigns.send_times import (
    Recipients,
    SendLimits,
    SendTime,
    StepTiming,
    bounded,
    plan_send_times,
    step_bounds,
)
from campaigns.spread import Spread, Ticks, last_start
from campaigns.timing import next_slot
from campaigns.whereabouts import Zones

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_SECOND: Final = 1_000_000
_MOST_SLOTS: Final = 2_000
"""How many slots a message may be pushed on before the rate is called too slow."""


@dataclass(frozen=True, slots=True)
class ArmTimes:
    """The moments of one arm's steps for n customers: `codes` index into `moments` and `recipients`."""

    arm: str
    steps: tuple[StepTiming, ...]
    limits: SendLimits
    codes: NDArray[np.intp]
    recipients: tuple[Recipients, ...]
    moments: tuple[tuple[SendTime, ...] | None, ...]

    @property
    def is_spread(self) -> bool:
        """Whether some step gives each customer a moment of its own."""
        return any(step.spread is not None or step.at == "best_hour" for step in self.steps)

    @property
    def sendable(self) -> NDArray[np.bool_]:
        """Which of the n customers have a permitted moment for every step."""
        found: NDArray[np.bool_] = np.array([moment is not None for moment in self.moments] or [True])[self.codes]
        return found

    def why_not(self) -> NDArray[np.object_]:
        """Which step has no moment for each of the n customers, and on whose clocks; "" for who can be sent to."""
        told = [
            self._first_missing(to) if m is None else "" for to, m in zip(self.recipients, self.moments, strict=True)
        ]
        found: NDArray[np.object_] = np.array(told or [""], dtype=object)[self.codes]
        return found

    def _first_missing(self, to: Recipients) -> str:
        counts = range(1, len(self.steps) + 1)
        number = next(n for n in counts if plan_send_times(self.steps[:n], to, self.limits) is None)
        channel, zones = to.channels[number - 1], ", ".join(to.where.zones) or "no known zone"
        packs = packs_of(to.where.place, to.where.zones, channel)
        legal = f"; legal hours of {', '.join(packs)}" if packs else ""
        return f"arm {self.arm}, message {number} by {channel}; clocks of {zones}{legal}"


@dataclass(frozen=True, slots=True)
class Moments:
    """When the messages of one step begin, close and expire: microseconds since 1970, one for each member of an arm."""

    not_before: NDArray[np.int64]
    closes_at: NDArray[np.int64]
    expires_at: NDArray[np.int64]


def arm_times(
    arm: str,
    steps: Sequence[StepTiming],
    zones: Zones,
    ways: Sequence[tuple[NDArray[np.object_], NDArray[np.int64]]],
    limits: SendLimits,
    *,
    begins: pd.Series[Any] | None = None,
) -> ArmTimes:
    """The moments of an arm for every customer; `ways` holds, for each step, everybody's channel and best hour.

    `begins` are the instants from which the delays count, to the minute that follows; without it the run's own.
    """
    import pandas as pd

    codes = zones.codes.astype(np.int64)
    minutes = None if begins is None else begins.dt.ceil("min")
    if minutes is not None:
        begin_codes = minutes.factorize()[0].astype(np.int64)
        codes = np.unique(codes * (len(begin_codes) + 1) + begin_codes, return_inverse=True)[1].astype(np.int64)
    names: list[NDArray[np.object_]] = []
    for channels, hours in ways:
        channel_codes, levels = pd.factorize(channels)
        names.append(channels)
        codes = (codes * (len(levels) + 1) + channel_codes) * 32 + hours
        codes = pd.factorize(codes)[0].astype(np.int64)
    first = np.unique(codes, return_index=True)[1]
    recipients = tuple(
        Recipients(
            zones.levels[zones.codes[row]],
            tuple(str(channels[row]) for channels in names),
            tuple(int(hours[row]) for _, hours in ways),
            None if minutes is None else minutes.iloc[row].to_pydatetime(),
        )
        for row in first
    )
    moments = tuple(plan_send_times(steps, one, limits) for one in recipients)
    return ArmTimes(arm, tuple(steps), limits, codes.astype(np.intp), recipients, moments)


@dataclass(slots=True)
class Members:
    """The customers of one arm: their rows among the candidates, and a fraction in [0, 1) by which they are spread."""

    times: ArmTimes
    rows: NDArray[np.intp]
    fractions: NDArray[np.float64]
    placed: list[Moments] = field(default_factory=list)
    """What has been laid out, step by step."""


def place_messages(arms: Sequence[Members]) -> None:
    """Give every message of every arm its own moment, step by step: spread, at its rate, never before its delay ends.

    Messages of one rate share it, whatever their arm. Raises CampaignError where a rate leaves some message no moment
    before its offer ends.
    """
    ticks: dict[Spread, Ticks] = {}
    for number in range(max((len(arm.times.steps) for arm in arms), default=0)):
        laid = [_Layout(arm, number) for arm in arms if number < len(arm.times.steps)]
        for layout in laid:
            layout.keep_delays()
        for spread in dict.fromkeys(layout.step.spread for layout in laid):
            if spread is not None and spread.every is not None:
                queue = ticks.setdefault(spread, Ticks(spread.every))
                _keep_rate([layout for layout in laid if layout.step.spread == spread], queue)
        for layout in laid:
            layout.members.placed.append(layout.moments)


class _Layout:
    """One step of one arm while its messages find their places."""

    def __init__(self, members: Members, number: int) -> None:
        self.members, self.number = members, number
        self.step = members.times.steps[number]
        codes = members.times.codes[members.rows]
        columns = [self._column(name, codes) for name in ("not_before", "closes_at", "expires_at", "until")]
        opens, closes, expires, until = columns
        within = (members.fractions * (until - opens)).astype(np.int64) // _SECOND * _SECOND
        self.moments = Moments(opens + within, closes, expires)

    def _column(self, name: str, codes: NDArray[np.intp]) -> NDArray[np.int64]:
        moments = self.members.times.moments
        values = [0 if m is None else (getattr(m[self.number], name) - _EPOCH) // _US for m in moments]
        return np.asarray(values, dtype=np.int64)[codes] if values else np.zeros(len(codes), dtype=np.int64)

    def keep_delays(self) -> None:
        """Push on whoever would get the step before the delay after the step before is over."""
        if not self.number:
            return
        earliest = self.members.placed[-1].not_before + self.step.after // _US
        for i in np.flatnonzero(self.moments.not_before < earliest):
            self.put(int(i), int(earliest[i]), None)

    def put(self, i: int, earliest: int, ticks: Ticks | None) -> None:
        """Place one message at the first free moment at or after `earliest`, in its slot or a later one."""
        for number, slot in enumerate(self._slots(i)):
            opens, closes = (slot.not_before - _EPOCH) // _US, (slot.closes_at - _EPOCH) // _US
            start, end = max(opens, earliest), last_start(opens, closes)
            found = ticks.take(start, end) if ticks else start if start < end else None
            if found is not None:
                self.moments.not_before[i] = found
                self.moments.closes_at[i] = closes
                self.moments.expires_at[i] = (slot.expires_at - _EPOCH) // _US
                return
            if number >= _MOST_SLOTS:
                break
        raise CampaignError(
            f"arm {self.members.times.arm}, step {self.number + 1}: its spread leaves some message no moment before "
            "its offer ends; nothing is planned; raise the rate, widen the window, lower audience.limit, or let the "
            "offer last longer"
        )

    def _slots(self, i: int) -> Iterator[SendTime]:
        """The message's slots from its present one on, up to the end of its offer."""
        times = self.members.times
        code = times.codes[self.members.rows[i]]
        to, planned = times.recipients[code], times.moments[code]
        if planned is None:
            return
        slot = planned[self.number]
        bounds = step_bounds(self.step, to.where, to.channels[self.number], times.limits.quiet)
        ends_at = times.limits.offer_ends_at
        while ends_at is None or slot.not_before < ends_at:
            yield slot
            later = next_slot(self.step.window, to.where.zones, at=slot.closes_at, bounds=bounds)
            if later is None:
                return
            slot = bounded(self.step, later, ends_at, until=later.opens_at)


def _keep_rate(layouts: Sequence[_Layout], ticks: Ticks) -> None:
    """Give the messages ticks of their own: in the order in which they may begin, of equals by their fraction."""
    starts = np.concatenate([layout.moments.not_before for layout in layouts])
    shares = np.concatenate([layout.members.fractions for layout in layouts])
    owners = np.repeat(np.arange(len(layouts)), [len(layout.members.rows) for layout in layouts])
    places = np.concatenate([np.arange(len(layout.members.rows)) for layout in layouts])
    for position in np.lexsort((shares, starts)):
        layouts[owners[position]].put(int(places[position]), int(starts[position]), ticks)
