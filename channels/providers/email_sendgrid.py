"""E-mail through SendGrid: messages that say the same travel in one request, each recipient alone in a personalization.

The request body is made with the official helpers, the wire is ours. SendGrid has no idempotency key: what is in doubt
is settled by its events, which carry our message key and request id; capability N.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from channels.message import Channel, Email, Outgoing
from channels.provider import Capability, SendResult
from channels.wire import InDoubt, NotSent, Reply, Wire, WireLimits, each, retry_after_s, to_json

MOST_PERSONALIZATIONS: Final = 1_000
_RESENDS: Final = 10
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_FIELD: Final = re.compile(r"personalizations[.\[](\d+)")
_OWN_HEADERS: Final = frozenset(
    [
        "x-sg-id",
        "x-sg-eid",
        "received",
        "dkim-signature",
        "content-type",
        "content-transfer-encoding",
        "to",
        "from",
        "subject",
        "reply-to",
        "cc",
        "bcc",
    ]
)


@dataclass(frozen=True, slots=True)
class SendGridAccount:
    """Who sends. Printing it shows no key."""

    api_key: str = field(repr=False)
    sender: str
    sender_name: str | None = None
    reply_to: str | None = None
    asm_group_id: int | None = None
    sandbox: bool = False
    """SendGrid checks the request and sends nothing."""
    base_url: str = "https://api.sendgrid.com"


@dataclass(frozen=True, slots=True)
class _Request:
    """Messages that go out together: all of one content."""

    messages: tuple[Outgoing, ...]


class SendGridProvider:
    """Sends e-mail through one SendGrid account."""

    name: Final = "sendgrid"
    channel: Final[Channel] = "email"
    capability: Final[Capability] = "N"

    def __init__(self, account: SendGridAccount, *, wire: Wire | None = None) -> None:
        """`wire` bounds connections and time; one is made if none is given."""
        self.account = account
        self.wire = wire or Wire(WireLimits(connections=16, total_s=60.0))

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        """One request for up to 1,000 messages of the same content and one outcome for them together.

        When SendGrid refuses a request because of named recipients, they fail and the others are sent without them.
        """
        results = {message.key: problem for message in batch if (problem := _malformed(message)) is not None}
        sound = [message for message in batch if message.key not in results]
        requests = list(_grouped(sound))
        for answered in await each(
            requests, lambda request: self._send(request, now), at_once=self.wire.limits.connections
        ):
            results.update({result.key: result for result in answered})
        return [results[message.key] for message in batch]

    async def close(self) -> None:
        """Close the connections; the next send opens them again."""
        await self.wire.close()

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
        headers = {"Authorization": f"Bearer {self.account.api_key}", "Content-Type": "application/json"}
        body = to_json(mail_body(self.account, request.messages))
        try:
            return await self.wire.request("POST", f"{self.account.base_url}/v3/mail/send", headers=headers, body=body)
        except NotSent as error:
            return SendResult("", "transient", code=error.code, reason="the request did not leave")
        except InDoubt as error:
            return SendResult("", "unknown", code=error.code, reason="the request left, no answer came")


def request_id(keys: Iterable[str]) -> str:
    """The name of a request, made of the keys in it: events carry it back."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]


def mail_body(account: SendGridAccount, messages: Sequence[Outgoing]) -> dict[str, Any]:
    """The body of mail/send for messages of one content: every recipient alone, with key and request id for events."""
    from sendgrid.helpers import mail as helpers

    content = messages[0].content
    assert isinstance(content, Email)  # checked before
    mail = helpers.Mail(from_email=helpers.Email(account.sender, account.sender_name), subject=content.subject)
    mail.add_content(helpers.Content("text/plain", content.text))
    mail.add_content(helpers.Content("text/html", content.html))
    if account.reply_to is not None:
        mail.reply_to = helpers.ReplyTo(account.reply_to)
    if account.asm_group_id is not None:
        mail.asm = helpers.Asm(helpers.GroupId(account.asm_group_id))
    tracking = helpers.TrackingSettings()
    tracking.subscription_tracking = helpers.SubscriptionTracking(enable=False)  # our own links are the one truth
    mail.tracking_settings = tracking
    if account.sandbox:
        settings = helpers.MailSettings()
        settings.sandbox_mode = helpers.SandBoxMode(enable=True)
        mail.mail_settings = settings
    name = request_id(message.key for message in messages)
    # Mail.add_personalization keeps them in reverse order (measured, 6.12.5), and a refusal names them by their place
    people = [_personalization(helpers, message, name).get() for message in messages]
    return {**mail.get(), "personalizations": people}


def classify(reply: Reply, *, now: datetime) -> SendResult:
    """What an answer says about all messages of its request."""
    status = reply.status
    if status == 202 or (status == 200 and not reply.body.strip()):
        return SendResult("", "accepted", provider_id=reply.headers.get("x-message-id"))
    if status >= 500 or status < 400:
        code = f"http_{status}" if status >= 300 else "malformed_answer"
        return SendResult("", "unknown", code=code, reason="the answer does not say whether it was taken")
    if status == 429:
        wait = retry_after_s(reply.headers, now=now)
        return SendResult("", "transient", code="429", reason="too many for now", retry_after_s=wait)
    fields = [str(error.get("field") or "") for error in _errors(reply)]
    if status in (401, 403) or any(name.split(".")[0] == "from" for name in fields):
        return SendResult("", "transient", code=str(status), reason="the account", action="halt")
    if not _errors(reply):
        return SendResult("", "unknown", code=f"http_{status}", reason="an answer that is not SendGrid's")
    return SendResult(
        "", "permanent", code=str(status), reason=f"refused by SendGrid ({fields[0] or 'no field named'})"
    )


def _personalization(helpers: Any, message: Outgoing, name: str) -> Any:
    one = helpers.Personalization()
    one.add_to(helpers.To(message.address.value))
    for header, value in message.headers.items():
        if header.lower() not in _OWN_HEADERS:
            one.add_header(helpers.Header(header, value))
    one.add_custom_arg(helpers.CustomArg("message_key", message.key))
    one.add_custom_arg(helpers.CustomArg("request_id", name))
    return one


def _grouped(messages: Sequence[Outgoing]) -> Iterable[_Request]:
    groups: dict[Any, list[Outgoing]] = {}
    for message in messages:
        groups.setdefault(message.content, []).append(message)
    for group in groups.values():
        seen: dict[str, list[Outgoing]] = {}
        for message in group:  # SendGrid refuses a request that names a recipient twice
            seen.setdefault(message.address.value.lower(), []).append(message)
        for layer in _layers(list(seen.values())):
            for start in range(0, len(layer), MOST_PERSONALIZATIONS):
                yield _Request(tuple(layer[start : start + MOST_PERSONALIZATIONS]))


def _layers(per_address: Sequence[Sequence[Outgoing]]) -> Iterable[list[Outgoing]]:
    depth = 0
    while layer := [messages[depth] for messages in per_address if len(messages) > depth]:
        yield layer
        depth += 1


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
    except (ValueError, KeyError, TypeError):
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
