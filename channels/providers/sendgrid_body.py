"""The body of SendGrid's mail/send: one text for all, and for each recipient alone what belongs into it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from channels.message import Email, Outgoing, SharedEmail

MOST_PERSONALIZATIONS: Final = 1_000
MOST_SUBSTITUTION_BYTES: Final = 10_000
"""Bytes of the tags and values of one recipient."""

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
    email_logs: bool = False
    """The key may read the Email Logs (/v3/logs): what is in doubt can be asked for."""


def request_id(keys: Iterable[str]) -> str:
    """The name of a request, made of the keys in it: events carry it back."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]


def in_requests(messages: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, ...]]:
    """The messages in portions that can go out together: one text, at most 1,000, nobody twice."""
    groups: dict[Email | SharedEmail, list[Outgoing]] = {}
    for message in messages:
        groups.setdefault(text_of(message), []).append(message)
    for group in groups.values():
        seen: dict[str, list[Outgoing]] = {}
        for message in group:  # SendGrid refuses a request that names a recipient twice
            seen.setdefault(message.address.value.lower(), []).append(message)
        for layer in _layers(list(seen.values())):
            for start in range(0, len(layer), MOST_PERSONALIZATIONS):
                yield tuple(layer[start : start + MOST_PERSONALIZATIONS])


def text_of(message: Outgoing) -> Email | SharedEmail:
    """The text a message is sent with: the shared one where its values fit into substitutions, else its own."""
    content = message.content
    assert isinstance(content, Email)  # checked before
    if content.shared is None:
        return content
    size = sum(len(tag) + len(value.encode()) for tag, value in content.values.items())
    return content if size > MOST_SUBSTITUTION_BYTES else content.shared


def mail_body(account: SendGridAccount, messages: Sequence[Outgoing]) -> dict[str, Any]:
    """The body of mail/send for messages of one text: every recipient alone, with key and request id for events."""
    from sendgrid.helpers import mail as helpers

    text = text_of(messages[0])
    mail = helpers.Mail(from_email=helpers.Email(account.sender, account.sender_name), subject=text.subject)
    mail.add_content(helpers.Content("text/plain", text.text))
    mail.add_content(helpers.Content("text/html", text.html))
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
    is_shared = isinstance(text, SharedEmail)
    return {**mail.get(), "personalizations": [_person(message, name, is_shared) for message in messages]}


def _person(message: Outgoing, name: str, is_shared: bool) -> dict[str, Any]:
    """One recipient; as the official helper writes it, which takes three times as long (and keeps them in reverse)."""
    person: dict[str, Any] = {"to": [{"email": message.address.value}]}
    headers = {header: value for header, value in message.headers.items() if header.lower() not in _OWN_HEADERS}
    if headers:
        person["headers"] = headers
    if is_shared and (values := _values(message)):
        person["substitutions"] = dict(values)
    person["custom_args"] = {"message_key": message.key, "request_id": name}
    return person


def _values(message: Outgoing) -> Mapping[str, str]:
    assert isinstance(message.content, Email)  # checked before
    return message.content.values


def _layers(per_address: Sequence[Sequence[Outgoing]]) -> Iterable[list[Outgoing]]:
    depth = 0
    while layer := [messages[depth] for messages in per_address if len(messages) > depth]:
        yield layer
        depth += 1
