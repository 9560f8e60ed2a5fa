"""The last look before a message leaves: may whoever sends it still do so?

A process that was stopped, or a machine that was put to sleep, may wake up long after somebody else took its messages
over. So the question is asked immediately before the first byte of every message, and not only before a batch of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

LEASE_OVER: Final = "lease_over"
"""The code of a message that did not leave because its sender came too late."""

_may_leave: ContextVar[Callable[[], bool]] = ContextVar("retain_may_leave", default=lambda: True)


@contextmanager
def leaving_while(allowed: Callable[[], bool]) -> Iterator[None]:
    """What is sent inside leaves only while `allowed` says so; tasks started inside ask the same."""
    token = _may_leave.set(allowed)
    try:
        yield
    finally:
        _may_leave.reset(token)


def may_leave() -> bool:
    """Whether the next byte may leave; always, outside of `leaving_while`."""
    return _may_leave.get()()
