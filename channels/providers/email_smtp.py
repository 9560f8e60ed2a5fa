"""E-mail through any SMTP server: one transaction a message over a few connections that are kept.

SMTP knows no keys and answers no questions, so a message in doubt is not sent again: capability N. Doubt begins with
the command DATA: what fails before it was certainly not taken.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime, formataddr
from typing import TYPE_CHECKING, Final

from channels.departure import carrying, kept_back
from channels.errors import ChannelError
from channels.message import Channel, Email, Outgoing
from channels.provider import Action, Capability, SendResult
from channels.providers.mime import key_name, to_mime
from channels.wire import each

if TYPE_CHECKING:
    from aiosmtplib import SMTP

_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_NOBODY: Final = frozenset({"5.1.1", "5.1.6", "5.1.10"})
"""Enhanced status codes (RFC 3463, RFC 7505) of a mailbox that does not exist, has moved, or takes no mail at all."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """The server that takes our mail, and who sends. Printing it shows no password."""

    host: str
    sender: str
    port: int = 587
    sender_name: str | None = None
    reply_to: str | None = None
    username: str | None = None
    password: str = field(default="", repr=False)
    security: str = "starttls"
    """starttls (refused without), tls (from the first byte), or none (for a server on this machine)."""
    connections: int = 4
    total_s: float = 60.0
    """How long one message may take in all."""
    trust: ssl.SSLContext | None = field(default=None, repr=False)
    """In place of the system's certificates, for tests against a local server."""

    def __post_init__(self) -> None:
        if self.security not in ("starttls", "tls", "none"):
            raise ChannelError(f'smtp: security is "starttls", "tls" or "none", got {self.security!r}')
        if not _ADDRESS.fullmatch(self.sender):
            raise ChannelError("smtp: the sender is not an e-mail address")


class SmtpProvider:
    """Sends e-mail through one server."""

    name: Final = "smtp"
    channel: Final[Channel] = "email"
    capability: Final[Capability] = "N"

    def __init__(self, server: SmtpServer) -> None:
        """Connects when the first message is sent."""
        self.server = server
        self._idle: list[SMTP] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        """One transaction for each message; a refusal of one says nothing about the others."""
        if self._loop is not asyncio.get_running_loop():
            self._idle, self._loop = [], asyncio.get_running_loop()
        return await each(batch, lambda message: self._send(message, now), at_once=self.server.connections)

    async def close(self) -> None:
        """Take leave of the server; the next send connects again."""
        idle, self._idle = self._idle, []
        if self._loop is asyncio.get_running_loop():
            await asyncio.gather(*(_leave(client) for client in idle))

    async def _send(self, message: Outgoing, now: datetime) -> SendResult:
        content = message.content
        if not isinstance(content, Email):
            return SendResult(message.key, "permanent", code="malformed", reason="no e-mail")
        if not _ADDRESS.fullmatch(message.address.value):
            return SendResult(message.key, "permanent", code="bad_address", reason="not an e-mail address")
        try:
            data = to_mime(content, self._headers(message, content, now), key=message.key, in_ascii=True)
        except ValueError:
            return SendResult(message.key, "permanent", code="malformed", reason="a header has a line break")
        transaction = _Transaction(message.key, self.server.sender, message.address.value, data)
        try:
            with carrying((message.key,)):
                async with asyncio.timeout(self.server.total_s):
                    return await self._deliver(transaction)
        except TimeoutError:
            return transaction.broken("timeout")

    async def _deliver(self, transaction: _Transaction) -> SendResult:
        """Hand the message over on a kept connection, or on a new one where that has gone stale."""
        client = self._idle.pop() if self._idle else None
        if client is not None:
            result = await self._attempt(transaction, client)
            if result is not None:
                return result
        connected = await self._connect(transaction.key)
        if isinstance(connected, SendResult):
            return connected
        return await self._attempt(transaction, connected) or transaction.broken("disconnected")

    async def _attempt(self, transaction: _Transaction, client: SMTP) -> SendResult | None:
        """The outcome of the transaction; None where the connection was gone before DATA."""
        try:
            result = await transaction.run(client)
        except BaseException:
            client.close()
            raise
        if client.is_connected:
            self._idle.append(client)
        return result

    async def _connect(self, key: str) -> SMTP | SendResult:
        from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException, SMTPResponseException

        server = self.server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password or None,
            timeout=server.total_s,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=server.trust,
            local_hostname="localhost",
        )
        try:
            await client.connect()
        except SMTPAuthenticationError as error:
            return _not_sent(key, str(error.code), "the server refuses the password", action="halt")
        except SMTPResponseException as error:
            return _not_sent(key, str(error.code), "the server does not want to talk now")
        except (SMTPException, OSError) as error:
            unsafe = isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError)
            if unsafe or "TLS" in str(error):
                return _not_sent(key, "tls", "no safe connection to the server", action="halt")
            return _not_sent(key, "connect", "the server cannot be reached")
        return client

    def _headers(self, message: Outgoing, content: Email, now: datetime) -> dict[str, str]:
        server = self.server
        own = {
            "From": formataddr((server.sender_name, server.sender)) if server.sender_name else server.sender,
            "To": message.address.value,
            "Subject": content.subject,
            "Date": format_datetime(now),
            "Message-ID": message_id(message.key, server.sender),
        }
        if server.reply_to is not None:
            own["Reply-To"] = server.reply_to
        taken = {name.lower() for name in own}
        return {**own, **{name: text for name, text in message.headers.items() if name.lower() not in taken}}


def message_id(key: str, sender: str) -> str:
    """The Message-ID of a message key: the same whenever it is made, so that bounces and servers can name it."""
    return f"<{key_name(key)}@{sender.rpartition('@')[2]}>"


@dataclass
class _Transaction:
    """One message on its way through MAIL, RCPT and DATA."""

    key: str
    sender: str
    recipient: str
    data: bytes
    is_begun: bool = False
    """Whether DATA was said: from then on the server may have taken it."""

    async def run(self, client: SMTP) -> SendResult | None:
        """The outcome; None where the connection broke before DATA."""
        from aiosmtplib import SMTPException, SMTPResponseException

        step = "mail"
        try:
            await client.mail(self.sender)
            step = "rcpt"
            await client.rcpt(self.recipient)
            if (why := kept_back()) is not None:
                await _start_over(client)
                return _not_sent(self.key, why, "it was too late to send it")
            step, self.is_begun = "data", True
            await client.data(self.data)
        except SMTPResponseException as error:
            await _start_over(client)
            return classify(self.key, step, error.code, str(error.message))
        except (SMTPException, OSError) as error:
            client.close()
            return (
                self.broken("timeout" if isinstance(error, TimeoutError) else "disconnected") if self.is_begun else None
            )
        return SendResult(self.key, "accepted", provider_id=message_id(self.key, self.sender))

    def broken(self, code: str) -> SendResult:
        """What is known when no answer came."""
        if self.is_begun:
            return SendResult(self.key, "unknown", code=code, reason="the message left, no answer came")
        return _not_sent(self.key, code, "the message did not leave")


def classify(key: str, step: str, code: int, text: str) -> SendResult:
    """What a refusal in a step (mail, rcpt, data) says: 4xx is for now, 5xx for good (RFC 5321, 4.2.1)."""
    found = _STATUS.search(text)
    name = f"{code} {found[0]}" if found else str(code)
    if 400 <= code < 500:
        return _not_sent(key, name, "the server asks to try later")
    if not 500 <= code < 600:
        return SendResult(key, "unknown", code=name, reason="an answer that is not SMTP's")
    if step == "mail" or code in (530, 535, 538):
        return _not_sent(key, name, "the server refuses the sender", action="halt")
    gone: Action | None = "suppress" if step == "rcpt" and found and found[0] in _NOBODY else None
    return SendResult(key, "permanent", code=name, reason="refused by the server", action=gone)


def _not_sent(key: str, code: str, reason: str, *, action: Action | None = None) -> SendResult:
    return SendResult(key, "transient", code=code, reason=reason, action=action)


async def _start_over(client: SMTP) -> None:
    """Forget the transaction, so that the connection can carry the next one."""
    from aiosmtplib import SMTPException

    try:
        await client.rset(timeout=5)
    except (SMTPException, OSError):
        client.close()


async def _leave(client: SMTP) -> None:
    from aiosmtplib import SMTPException

    try:
        await client.quit(timeout=2)
    except (SMTPException, OSError):
        client.close()
