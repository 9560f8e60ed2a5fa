"""What every public path needs: the workspace it works on, and bodies that are read only so far."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from flows.settings import Settings
from flows.wiring import Workspace, open_workspace

T = TypeVar("T")
Clock = Callable[[], datetime]


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="what was wrong; never an address")


class TooLarge(Exception):  # noqa: N818 (it names what was found)
    """A body above the limit of its path."""


class Desk:
    """The workspace that receipts are recorded in: opened by the first request, kept for those that follow."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.facts_lock = threading.Lock()
        self._stack = ExitStack()
        self._opening = threading.Lock()
        self._ws: Workspace | None = None

    async def work(self, task: Callable[[Workspace], T]) -> T:
        """The result of a task on the workspace, in a thread of its own."""
        return await run_in_threadpool(lambda: task(self._open()))

    def close(self) -> None:
        """Close the workspace; a later request opens it again."""
        with self._opening:
            self._ws = None
            self._stack.close()

    def _open(self) -> Workspace:
        with self._opening:
            if self._ws is None:
                self._ws = self._stack.enter_context(open_workspace(self.settings))
            with self.facts_lock:  # what was loaded since the last request counts for this one
                self._ws.facts.refresh()
            return self._ws


async def read_body(request: Request, *, limit: int) -> bytes:
    """The body, read no further than `limit` bytes. Raises TooLarge."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"expected at most {limit} bytes")
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise TooLarge(f"expected at most {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)
