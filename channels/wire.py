"""The wire to a provider: pooled connections, one deadline over everything, and an honest answer about what was sent.

No request is ever repeated here. A request that fails is either certainly not taken (`NotSent`: nothing but the
connection attempt happened) or in doubt (`InDoubt`: at least one byte may have left); the difference is measured, not
guessed.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import aiohttp
from yarl import URL

from channels.departure import kept_back
from channels.errors import ChannelError

MAX_REPLY_BYTES: Final = 4 * 1024 * 1024
LONGEST_WAIT_S: Final = 86_400.0

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # made once: json.dumps makes one a call

_bytes_left: ContextVar[list[bool]] = ContextVar("retain_wire_bytes_left")

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
    """A whole answer: status, headers (their names in any case), body."""

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

        A request that asks for something (POST) leaves only while `kept_back` has nothing against it.
        Raises NotSent or InDoubt, never anything with an address in it.
        """
        token = _bytes_left.set(left := [False])
        try:
            async with asyncio.timeout(self.limits.total_s):
                return await self._exchange(method, url, headers, body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, EOFError) as error:
            raise (InDoubt if left[0] else NotSent)(_code(error)) from None
        finally:
            _bytes_left.reset(token)

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    async def _exchange(self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None) -> Reply:
        request = self._open().request(method, url, headers=headers, data=body, allow_redirects=False)
        async with request as response:
            told = response.content_length
            if told is not None and told <= MAX_REPLY_BYTES and "content-encoding" not in response.headers:
                return Reply(response.status, response.headers, await response.read())
            pieces, size = [], 0
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > MAX_REPLY_BYTES:
                    raise ValueError("the answer is too large")
                pieces.append(piece)
            return Reply(response.status, response.headers, pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop = loop
            self._session = self._make_session()
        return self._session

    def _make_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self.limits.connections,
            keepalive_timeout=self.limits.keepalive_s,
            ssl=self._trust if self._trust is not None else True,
        )
        timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=self.limits.connect_s)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            request_class=_NotingRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )


def to_json(document: Any) -> bytes:
    """A document as the body of a request."""
    return _ENCODER.encode(document).encode()


def form(fields: Mapping[str, Any]) -> bytes:
    """Fields as the body of a form; a list gives its field several times (measured: a tenth of urlencode's time)."""
    pairs = [(name, str(item)) for name, value in fields.items() for item in _listed(value)]
    return URL.build(path="/", query=pairs).raw_query_string.encode("ascii")


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)


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
    """The seconds a provider asks to wait: Retry-After (seconds or a date) or X-RateLimit-Reset (epoch seconds).

    Never more than a day: who asks for more is asked again.
    """
    asked, reset = headers.get("retry-after", "").strip(), headers.get("x-ratelimit-reset", "").strip()
    try:
        if asked.isdecimal():
            return min(float(asked), LONGEST_WAIT_S)
        if asked:
            return min(max(0.0, (parsedate_to_datetime(asked) - now).total_seconds()), LONGEST_WAIT_S)
        return min(max(0.0, float(reset) - now.timestamp()), LONGEST_WAIT_S) if reset else None
    except (ValueError, TypeError, OverflowError):
        return None


def asked_to_wait_s(reply: Reply, *, now: datetime) -> float | None:
    """The same for an answer that does not say what became of the request, where only Retry-After speaks to us.

    A provider names the end of its present interval (X-RateLimit-Reset) in every answer.
    """
    return retry_after_s({"retry-after": reply.headers.get("retry-after", "")}, now=now)


class _KeptBack(aiohttp.ClientError):
    """Whoever sends this has lost the right to, or its time is over; its text is the code."""


class _NotingRequest(aiohttp.ClientRequest):
    """Notes that it is about to be written: from here on the provider may get it (a trace costs an eighth more)."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        """Look whether it may still leave, note that it does, then write."""
        if self.method != "GET" and (why := kept_back()) is not None:
            raise _KeptBack(why)
        _bytes_left.get()[0] = True
        return await super().send(conn)


def _code(error: BaseException) -> str:
    """One word for what went wrong on the way."""
    if isinstance(error, _KeptBack):
        return str(error)
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError)):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connect"
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)):
        return "disconnected"
    return "broken_answer"
