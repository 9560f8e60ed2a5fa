"""The wire to a provider: pooled connections, one deadline over everything, and an honest answer about what was sent.

No request is ever repeated here. A request that fails is either certainly not taken (`NotSent`: nothing but the
connection attempt happened) or in doubt (`InDoubt`: at least one byte may have left); the difference is measured, not
guessed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import aiohttp

from channels.errors import ChannelError

MAX_REPLY_BYTES: Final = 4 * 1024 * 1024

T = TypeVar("T")
R = TypeVar("R")


class NotSent(ChannelError):  # noqa: N818 (it names what is known, which is good news)
    """No byte of the request left: it was certainly not taken. `code` says why."""

    def __init__(self, code: str) -> None:
        """`code` is one word such as "connect"."""
        self.code = code
        super().__init__(f"the request did not leave: {code}")


class InDoubt(ChannelError):  # noqa: N818 (it names what is known)
    """The request left and no whole answer came back: it may have been taken. `code` says what happened."""

    def __init__(self, code: str) -> None:
        """`code` is one word such as "timeout"."""
        self.code = code
        super().__init__(f"the request left and no answer came: {code}")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: status, headers with lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How much of a provider is used at once (`connections`) and how long a request may take in all (`total_s`)."""

    connections: int = 64
    total_s: float = 20.0
    connect_s: float = 5.0
    keepalive_s: float = 15.0


class Wire:
    """A pool of connections that lives as long as the event loop it is used in, and opens again in the next."""

    def __init__(self, limits: WireLimits | None = None, *, trust: ssl.SSLContext | None = None) -> None:
        """`trust` replaces the system's certificates, for tests against a local server."""
        self.limits = limits or WireLimits()
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        """Make one request and read its answer, all within `total_s`; redirects are answers like others.

        Raises NotSent or InDoubt, never anything with an address in it.
        """
        trace = SimpleNamespace(left=False)
        try:
            async with asyncio.timeout(self.limits.total_s):
                return await self._exchange(method, url, headers, body, trace)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, EOFError) as error:
            raise (InDoubt if trace.left else NotSent)(_code(error)) from None

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None, trace: SimpleNamespace
    ) -> Reply:
        request = self._open().request(
            method, url, headers=headers, data=body, allow_redirects=False, trace_request_ctx=trace
        )
        async with request as response:
            pieces, size = [], 0
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > MAX_REPLY_BYTES:
                    raise ValueError("the answer is too large")
                pieces.append(piece)
            names = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, names, b"".join(pieces))

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop = loop
            self._session = self._make_session()
        return self._session

    def _make_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_that_bytes_left)
        connector = aiohttp.TCPConnector(
            limit=self.limits.connections,
            keepalive_timeout=self.limits.keepalive_s,
            ssl=self._trust if self._trust is not None else True,
        )
        timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=self.limits.connect_s)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            trace_configs=[trace],
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )


async def each(items: Sequence[T], work: Callable[[T], Awaitable[R]], *, at_once: int) -> list[R]:
    """The results of `work` on every item in their order, `at_once` of them running; memory stays flat."""
    results: dict[int, R] = {}
    numbers = iter(range(len(items)))

    async def worker() -> None:
        for number in numbers:
            results[number] = await work(items[number])

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(items))):
            group.create_task(worker())
    return [results[number] for number in range(len(items))]


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """The seconds a provider asks to wait: Retry-After (seconds or a date) or X-RateLimit-Reset (epoch seconds)."""
    asked, reset = headers.get("retry-after", "").strip(), headers.get("x-ratelimit-reset", "").strip()
    if asked.isdigit():
        return float(asked)
    try:
        if asked:
            return max(0.0, (parsedate_to_datetime(asked) - now).total_seconds())
        return max(0.0, float(reset) - now.timestamp()) if reset else None
    except (ValueError, TypeError, OverflowError):
        return None


async def _note_that_bytes_left(_session: Any, context: SimpleNamespace, _params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.left = True


def _code(error: BaseException) -> str:
    """One word for what went wrong on the way."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError)):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connect"
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)):
        return "disconnected"
    return "broken_answer"
