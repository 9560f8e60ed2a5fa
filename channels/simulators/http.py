"""A small HTTP server on raw streams: it can do what no framework lets it, such as stop in the middle of an answer."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_BODY_BYTES: Final = 40 * 1024 * 1024

Manner = Literal["whole", "reset", "fin", "cut", "hang", "drip"]
"""How an answer reaches the caller: whole, not at all (reset or closed), cut in its middle, never, or byte by byte."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in; header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path without the query, decoded."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The query's fields."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The body's fields, for a form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def json(self) -> Any:
        """The body as JSON; raises ValueError."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, and the manner in which it is given."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "whole"
    delay_s: float = 0.0


def json_response(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    body = json.dumps(document, ensure_ascii=False, sort_keys=True).encode()
    return Response(status, body, {"Content-Type": "application/json", **(headers or {})})


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves a handler on the loopback, connections kept alive."""

    def __init__(self, handler: Handler) -> None:
        """Nothing listens before `start`."""
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen on 127.0.0.1 and give the port (0: any free one); with `tls`, speak https."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=MAX_BODY_BYTES, ssl=tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # asyncio starts this as a task
        self._connections.add(task)
        try:
            while (request := await _read(reader)) is not None:
                if not await _answer(writer, await self._handler(request)):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            return  # the caller went away, or speaks no HTTP
        finally:
            self._connections.discard(task)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    return Request(method, target, headers, await reader.readexactly(min(length, MAX_BODY_BYTES)))


async def _answer(writer: asyncio.StreamWriter, response: Response) -> bool:
    """Write the answer in its manner; whether the connection can be used again."""
    if response.delay_s:
        await asyncio.sleep(response.delay_s)
    if response.manner == "hang":
        await asyncio.sleep(3_600)
    if response.manner in ("reset", "hang"):
        writer.transport.abort()
        return False
    if response.manner == "fin":
        return False
    lines = [f"HTTP/1.1 {response.status} Simulated", f"Content-Length: {len(response.body)}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    data = "\r\n".join([*lines, "", ""]).encode("latin-1") + response.body
    if response.manner == "cut":
        writer.write(data[: len(data) - max(len(response.body) // 2, 1)])
        await writer.drain()
        return False
    for start in range(0, len(data), 1 if response.manner == "drip" else max(len(data), 1)):
        writer.write(data[start : start + 1] if response.manner == "drip" else data)
        await writer.drain()
        if response.manner == "drip":
            await asyncio.sleep(0.05)
    return True
