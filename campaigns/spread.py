"""Spreading messages: evenly over a window by hash, or no more than so many an hour."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from campaigns.units import show

SPREAD_PATTERN: Final = r"^(?:even|([1-9][0-9]{0,6}) per (minute|hour|day))$"
_SECONDS: Final = {"minute": 60, "hour": 3_600, "day": 86_400}
_US: Final = 1_000_000
TAIL: Final = timedelta(minutes=5)
"""Nothing is planned into the last minutes of a slot, so that a dispatcher finds time to send it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How messages share their slot: evenly (`every` is None), or one in each `every`."""

    every: timedelta | None = None

    @property
    def even(self) -> bool:
        """Whether they are spread evenly."""
        return self.every is None


def parse_spread(value: object) -> Spread:
    """ "even" or a rate such as "500 per hour"."""
    match = re.fullmatch(SPREAD_PATTERN, value, re.ASCII) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'expected "even" or a rate such as "500 per hour", got {show(value)}')
    if match[1] is None:
        return Spread()
    # rounded up: never faster than the rate
    return Spread(timedelta(microseconds=-(-_SECONDS[match[2]] * _US // int(match[1]))))


class Ticks:
    """The moments of a rate, each given once: the multiples of a step since 1970, in microseconds."""

    def __init__(self, every: timedelta) -> None:
        self._step = every // timedelta(microseconds=1)
        self._next: dict[int, int] = {}

    def take(self, earliest: int, before: int) -> int | None:
        """The first free moment at or after `earliest` and before `before`, or None; it is then taken."""
        tick = self._free(-(-earliest // self._step))
        if tick * self._step >= before:
            return None
        self._next[tick] = tick + 1
        return tick * self._step

    def _free(self, tick: int) -> int:
        """The first free tick from `tick` on; the chains of taken ones are shortened on the way."""
        passed = []
        while tick in self._next:
            passed.append(tick)
            tick = self._next[tick]
        for one in passed:
            self._next[one] = tick
        return tick


def last_start(opens: int, closes: int) -> int:
    """The end of the part of a slot into which messages are spread (microseconds): short of its close by `TAIL`.

    Of a slot shorter than ten tails the last tenth is kept free instead.
    """
    tail = TAIL // timedelta(microseconds=1)
    return closes - min(tail, (closes - opens) // 10)
