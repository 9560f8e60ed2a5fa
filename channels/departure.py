"""The last look before a message leaves: may whoever sends it still do so, and may it leave at this minute?

A process that was stopped, or a machine that was put to sleep, may wake up long after somebody else took its messages
over; a slow provider may keep a batch waiting until the window of its last messages is over. So both questions are
asked immediately before the first byte of every message, and not only before a batch of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Final

LEASE_OVER: Final = "lease_over"
"""The code of a message that did not leave because its sender came too late."""
HOURS_OVER: Final = "hours_over"
"""The code of a message that did not leave because its window, or the hours that law allows, were over by then."""
KEPT_BACK: Final = frozenset({LEASE_OVER, HOURS_OVER})
"""The codes that say nothing about the provider: it was not asked."""

InTime = Callable[[Collection[str]], bool]

_may_leave: ContextVar[Callable[[], bool]] = ContextVar("retain_may_leave", default=lambda: True)
_in_time: ContextVar[InTime] = ContextVar("retain_in_time", default=lambda _: True)
_keys: ContextVar[Collection[str]] = ContextVar("retain_leaving_keys", default=())


@contextmanager
def leaving_while(allowed: Callable[[], bool], in_time: InTime = lambda _: True) -> Iterator[None]:
    """What is sent inside leaves only while `allowed` says so, and `in_time` says it of the keys of its messages.

    Tasks started inside ask the same.
    """
    tokens = _may_leave.set(allowed), _in_time.set(in_time)
    try:
        yield
    finally:
        _may_leave.reset(tokens[0])
        _in_time.reset(tokens[1])


class carrying:  # noqa: N801 (used as a statement, once for each message: a generator would take three times as long)
    """What is sent inside carries the messages of these keys."""

    __slots__ = ("_former", "_now")

    def __init__(self, keys: Collection[str]) -> None:
        self._now = keys

    def __enter__(self) -> None:
        self._former = _keys.set(self._now)

    def __exit__(self, *_: object) -> None:
        _keys.reset(self._former)


def kept_back() -> str | None:
    """Why the next byte may not leave: a code; None where it may, as always outside of `leaving_while`."""
    if not _may_leave.get()():
        return LEASE_OVER
    return None if _in_time.get()(_keys.get()) else HOURS_OVER


def running_clock(now: datetime) -> Callable[[], datetime]:
    """A clock that shows `now` at this moment and goes on from there: the wall's where now is, a replay's own else."""
    began_s = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - began_s)
