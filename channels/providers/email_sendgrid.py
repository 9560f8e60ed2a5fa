"""E-mail through SendGrid: messages that share a text travel in one request, each recipient alone in a personalization.

What differs travels as substitutions. The request body is made with the official helpers, the wire is ours. SendGrid
has no idempotency key: what is in doubt is settled by its events, which carry our message key and request id, or by
asking its Email Logs, which not every account may: capability Q where it may, else N.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from channels.departure import carrying
from channels.errors import ChannelError
from channels.message import Channel, Email, Outgoing
from channels.provider import Capability, SendResult
from channels.providers.sendgrid_body import SendGridAccount, in_requests, mail_body, request_id
from channels.wire import InDoubt, NotSent, Reply, Wire, WireLimits, asked_to_wait_s, each, retry_after_s, to_json

__all__ = ["SendGridAccount", "SendGridProvider", "classify", "mail_body", "request_id"]

_RESENDS: Final = 10
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_FIELD: Final = re.compile(r"personalizations[.\[](\d+)")
_LOG_LIMIT: Final = 100
_OF_MESSAGES: Final = frozenset({"personalizations", "subject", "content"})
"""The parts of a request that its messages brought; all else (from, asm, ...) is the account's, and would stop each."""
_REFUSALS: Final = frozenset({400, 413, 422})
"""The answers that speak of what was asked, and not of who asks where."""


@dataclass(frozen=True, slots=True)
class _Request:
    """Messages that go out together: all of one text."""

    messages: tuple[Outgoing, ...]


class SendGridProvider:
    """Sends e-mail through one SendGrid account."""

    name: Final = "sendgrid"
    channel: Final[Channel] = "email"

    def __init__(self, account: SendGridAccount, *, wire: Wire | None = None) -> None:
        """`wire` bounds connections and time; one is made if none is given."""
        self.account = account
        self.capability: Capability = "Q" if account.email_logs else "N"
        self.wire = wire or Wire(WireLimits(connections=16, total_s=60.0))

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        """One request for up to 1,000 messages that share their text, and one outcome for them together.

        When SendGrid refuses a request because of named recipients, they fail and the others are sent without them.
        """
        results = {message.key: problem for message in batch if (problem := _malformed(message)) is not None}
        sound = [message for message in batch if message.key not in results]
        requests = [_Request(messages) for messages in in_requests(sound)]
        for answered in await each(
            requests, lambda request: self._send(request, now), at_once=self.wire.limits.connections
        ):
            results.update({result.key: result for result in answered})
        return [results[message.key] for message in batch]

    async def close(self) -> None:
        """Close the connections; the next send opens them again."""
        await self.wire.close()

    async def find(
        self,
        message: Outgoing,
        *,
        since: datetime,
        others: Collection[str] = (),  # noqa: ARG002 (the seam's own)
    ) -> SendResult | None:
        """Ask the Email Logs whether a message in doubt was accepted after `since`: the one that bears its key.

        `others`, the ids of other messages, are not needed for that: the key tells.

        None: SendGrid does not know it. Unknown: it lists no more than so many, and all were others. Raises
        ChannelError where it cannot be asked now. Ask only after the longest delay with which one may still appear.
        """
        begin = (since - timedelta(seconds=5)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = f'to_email = "{message.address.value}" AND sg_message_id_created_at >= TIMESTAMP "{begin}"'
        listed = (await self._ask("POST", "", {"query": query, "limit": _LOG_LIMIT})).get("messages")
        if not isinstance(listed, list):
            raise ChannelError("sendgrid cannot be asked: its answer lists no messages")
        for entry in listed:
            name = entry.get("sg_message_id") if isinstance(entry, dict) else None
            if not isinstance(name, str) or not name:
                continue
            arguments = (await self._ask("GET", f"/{quote(name, safe='')}", None)).get("custom_args")
            if isinstance(arguments, dict) and arguments.get("message_key") == message.key:
                return SendResult(message.key, "accepted", provider_id=name)
        if len(listed) >= _LOG_LIMIT:
            return SendResult(message.key, "unknown", code="too_many", reason="too many e-mails to this recipient")
        return None

    async def _ask(self, method: str, path: str, question: Mapping[str, Any] | None) -> dict[str, Any]:
        body = None if question is None else to_json(question)
        try:
            reply = await self.wire.request(
                method, f"{self.account.base_url}/v3/logs{path}", headers=self._headers(), body=body
            )
            document = json.loads(reply.body)
        except (NotSent, InDoubt, ValueError, RecursionError) as error:
            raise ChannelError(f"sendgrid cannot be asked: {type(error).__name__}") from None
        if reply.status != 200 or not isinstance(document, dict):
            raise ChannelError(f"sendgrid cannot be asked: it answers {reply.status}")
        return document

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.account.api_key}", "Content-Type": "application/json"}

    async def _send(self, request: _Request, now: datetime) -> list[SendResult]:
        """Send a request; after a refusal that took nothing, again without those it was refused for."""
        results: list[SendResult] = []
        waiting = [request]
        for _ in range(_RESENDS):
            if not waiting:
                return results
            current = waiting.pop()
            reply = await self._post(current)
            if isinstance(reply, SendResult):
                results += _all(current, reply)
                continue
            failed, rest = _refused(current, reply)
            if not failed and not rest:
                results += _all(current, classify(reply, now=now))
            results += failed
            waiting += rest
        left = SendResult("", "transient", code="400", reason="refused again and again; the rest waits")
        return results + [result for request in waiting for result in _all(request, left)]

    async def _post(self, request: _Request) -> Reply | SendResult:
        body = to_json(mail_body(self.account, request.messages))
        url = f"{self.account.base_url}/v3/mail/send"
        try:
            with carrying([message.key for message in request.messages]):
                return await self.wire.request("POST", url, headers=self._headers(), body=body)
        except NotSent as error:
            return SendResult("", "transient", code=error.code, reason="the request did not leave")
        except InDoubt as error:
            return SendResult("", "unknown", code=error.code, reason="the request left, no answer came")


def classify(reply: Reply, *, now: datetime) -> SendResult:
    """What an answer says about all messages of its request."""
    status = reply.status
    if status == 202 or (status == 200 and not reply.body.strip()):
        return SendResult("", "accepted", provider_id=reply.headers.get("x-message-id"))
    if status >= 500 or status < 400:
        code = f"http_{status}" if status >= 300 else "malformed_answer"
        wait, reason = asked_to_wait_s(reply, now=now), "the answer does not say whether it was taken"
        return SendResult("", "unknown", code=code, reason=reason, retry_after_s=wait)
    if status == 429:
        wait = retry_after_s(reply.headers, now=now)
        return SendResult("", "transient", code="429", reason="too many for now", retry_after_s=wait)
    fields = [str(error.get("field") or "") for error in _errors(reply)]
    of_account = any(name and re.split(r"[.\[]", name)[0] not in _OF_MESSAGES for name in fields)
    if status in (401, 403) or of_account or (fields and status not in _REFUSALS):
        return SendResult("", "transient", code=str(status), reason="the account", action="halt")
    if not fields:
        return SendResult("", "unknown", code=f"http_{status}", reason="an answer that is not SendGrid's")
    return SendResult(
        "", "permanent", code=str(status), reason=f"refused by SendGrid ({fields[0] or 'no field named'})"
    )


def _refused(request: _Request, reply: Reply) -> tuple[list[SendResult], list[_Request]]:
    """Those a refusal names, and the requests to make without them; nothing where it names nobody."""
    messages = request.messages
    if reply.status == 413 and len(messages) > 1:
        half = len(messages) // 2
        return [], [_Request(messages[:half]), _Request(messages[half:])]
    if reply.status != 400:
        return [], []
    named = {int(match[1]) for error in _errors(reply) if (match := _FIELD.search(str(error.get("field") or "")))}
    named = {number for number in named if number < len(messages)}
    failed = [
        SendResult(messages[number].key, "permanent", code="400", reason="refused by SendGrid (personalizations)")
        for number in sorted(named)
    ]
    rest = tuple(message for number, message in enumerate(messages) if number not in named)
    return failed, [_Request(rest)] if failed and rest else []


def _all(request: _Request, result: SendResult) -> list[SendResult]:
    return [
        SendResult(
            m.key, result.outcome, result.provider_id, result.code, result.reason, result.retry_after_s, result.action
        )
        for m in request.messages
    ]


def _errors(reply: Reply) -> list[Mapping[str, Any]]:
    try:
        errors = json.loads(reply.body)["errors"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def _malformed(message: Outgoing) -> SendResult | None:
    if not isinstance(message.content, Email):
        return SendResult(message.key, "permanent", code="malformed", reason="no e-mail")
    if not _ADDRESS.fullmatch(message.address.value):
        return SendResult(message.key, "permanent", code="bad_address", reason="not an e-mail address")
    texts = (*message.headers, *message.headers.values(), message.content.subject)
    if any("\r" in text or "\n" in text for text in texts):
        return SendResult(message.key, "permanent", code="malformed", reason="a header has a line break")
    return None
