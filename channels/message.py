"""Messages: what is said on each channel, and to whom, with addresses that do not print themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

Channel = Literal["sms", "email", "push"]
CHANNELS: Final[tuple[Channel, ...]] = ("sms", "email", "push")


@dataclass(frozen=True, slots=True)
class Sms:
    """The text of an SMS."""

    body: str


@dataclass(frozen=True, slots=True)
class SharedEmail:
    """What many e-mails have in common: subject, HTML and text with a tag wherever a value of one customer belongs.

    No tag is part of another one, and a tag stands nowhere but where a value belongs.
    """

    subject: str
    html: str
    text: str


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail: its subject on one line, its HTML and its plain text.

    `shared` is the same e-mail with tags in place of the customer's values, `values` what each tag stands for, escaped
    where HTML needs it: replacing every tag in `shared` by its value gives this e-mail to the character.
    """

    subject: str
    html: str
    text: str
    shared: SharedEmail | None = field(default=None, repr=False, compare=False)
    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Push:
    """A push notification; `data` travels to the app unseen."""

    title: str
    body: str
    data: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


Content = Sms | Email | Push


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A phone number (E.164), an e-mail address or a push token: `value` gives it, printing it does not."""

    channel: Channel
    value: str

    def __str__(self) -> str:
        """The kind of address, never the address."""
        return f"<{self.channel} address>"

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message ready to leave.

    `key` names the message for ever (experiment/customer/step); `headers` are the e-mail's own extra headers;
    `expires_at` (aware UTC) is when it must not be shown any more. Printing it shows neither address nor content.
    """

    key: str
    channel: Channel
    customer_id: str
    address: Address
    content: Content = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    expires_at: datetime | None = None
