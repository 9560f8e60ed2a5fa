"""A mail server for tests and demonstrations: takes every message, keeps it, and fails on request."""

from __future__ import annotations

import asyncio
import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

from channels.simulators.tls import Certificate

_PATH: Final = re.compile(r"(?:FROM|TO):<([^>]*)>", re.IGNORECASE)
_LONGEST: Final = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mail:
    """One message that was taken: its envelope, its bytes, and how it came."""

    sender: str
    recipient: str
    data: bytes
    is_encrypted: bool
    username: str | None

    @property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        return message_from_bytes(self.data, policy=SMTP)


@dataclass
class SmtpSink:
    """A server on the loopback. Answers by recipient stand in place of its own.

    `at_rcpt` and `at_data` (before the text), `after_data`: recipient -> a reply ("550 5.1.1 nobody"), "drop" (the
    connection ends) or "hang". What is answered 250 after the text, or dropped with "taken drop", was taken.
    """

    certificate: Certificate | None = None
    passwords: dict[str, str] = field(default_factory=dict)
    greeting: str = "220 localhost"
    at_mail: str | None = None
    at_rcpt: dict[str, str] = field(default_factory=dict)
    at_data: dict[str, str] = field(default_factory=dict)
    after_data: dict[str, str] = field(default_factory=dict)
    taken: list[Mail] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _sessions: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, port: int = 0) -> int:
        """Listen on 127.0.0.1 and give the port (0: any free one)."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=_LONGEST)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        self.hang_up()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def hang_up(self) -> None:
        """Drop every connection, as a server does that has waited too long."""
        for session in list(self._sessions):
            session.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # asyncio starts this as a task
        self._sessions.add(task)
        self.connections += 1
        try:
            await _Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # the caller went away, or we did
        finally:
            self._sessions.discard(task)
            writer.close()


class _DroppedError(ConnectionError):
    """The connection is to end here."""


class _Session:
    """One caller's conversation."""

    def __init__(self, sink: SmtpSink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sink, self._reader, self._writer = sink, reader, writer
        self._is_encrypted = False
        self._username: str | None = None
        self._sender, self._recipient = "", ""

    async def run(self) -> None:
        await self._say(self._sink.greeting)
        while line := (await self._reader.readuntil(b"\r\n")).decode("latin-1").rstrip("\r\n"):
            verb, _, rest = line.partition(" ")
            if verb.upper() == "QUIT":
                await self._say("221 bye")
                return
            await self._obey(verb.upper(), rest)

    async def _obey(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO" | "HELO":
                await self._say(*self._abilities())
            case "STARTTLS" if self._sink.certificate is not None:
                await self._say("220 go ahead")
                await self._writer.start_tls(self._sink.certificate.server_context())
                self._is_encrypted = True
            case "AUTH":
                await self._authenticate(rest)
            case "MAIL":
                await self._mail(rest)
            case "RCPT":
                self._recipient = _path(rest)
                await self._answer(self._sink.at_rcpt.get(self._recipient, "250 ok"))
            case "DATA":
                await self._data()
            case "RSET" | "NOOP":
                await self._say("250 ok")
            case _:
                await self._say("502 not here")

    def _abilities(self) -> list[str]:
        able = ["250-localhost", "250-8BITMIME"]
        if self._sink.certificate is not None and not self._is_encrypted:
            able.append("250-STARTTLS")
        return [*able, "250-AUTH PLAIN", "250 SIZE 10485760"] if self._sink.passwords else [*able, "250 SIZE 10485760"]

    async def _authenticate(self, rest: str) -> None:
        method, _, given = rest.partition(" ")
        try:
            _, username, password = base64.b64decode(given).decode().split("\0")
        except ValueError:
            username, password = "", ""
        known = method.upper() == "PLAIN" and self._sink.passwords.get(username) == password != ""
        self._username = username if known else None
        await self._say("235 welcome" if known else "535 5.7.8 wrong user or password")

    async def _mail(self, rest: str) -> None:
        self._sender = _path(rest)
        if self._sink.passwords and self._username is None:
            await self._say("530 5.7.0 log in first")
        else:
            await self._answer(self._sink.at_mail or "250 ok")

    async def _data(self) -> None:
        await self._answer(self._sink.at_data.get(self._recipient, "354 go ahead"))
        if self._recipient in self._sink.at_data:
            return
        text = await self._reader.readuntil(b"\r\n.\r\n")
        answer = self._sink.after_data.get(self._recipient, "250 taken")
        if answer.startswith(("250", "taken")):
            lines = text.removesuffix(b".\r\n").split(b"\r\n")
            data = b"\r\n".join(line.removeprefix(b".") for line in lines)
            self._sink.taken.append(Mail(self._sender, self._recipient, data, self._is_encrypted, self._username))
        await self._answer(answer.removeprefix("taken "))

    async def _answer(self, answer: str) -> None:
        if answer == "hang":
            await asyncio.sleep(3_600)
        if answer == "drop":
            self._writer.transport.abort()
            raise _DroppedError
        await self._say(answer)

    async def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self._writer.drain()


def _path(rest: str) -> str:
    found = _PATH.match(rest)
    return found[1] if found else ""


@contextmanager
def receiving(sink: SmtpSink) -> Iterator[int]:
    """Run a sink in a thread of its own; gives its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="smtp-sink", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(sink.start(), loop).result(10)
        asyncio.run_coroutine_threadsafe(sink.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
