"""Tokens of unsubscribe links: short, signed, never expiring, and without any address in them.

A token is 24 bytes as 32 characters of URL-safe base64: one byte for form and channel, seven for the number under which
the ledger knows the customer, sixteen of HMAC-SHA256. The HMAC covers the customer's id too, so a number that would one
day mean somebody else opens nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from channels.errors import ChannelError
from channels.message import CHANNELS, Channel

TOKEN_CHARACTERS: Final = 32
LARGEST_LINK: Final = 2**56 - 1

_TOKEN: Final = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_CHARACTERS}}}")
_FORM: Final = 0x10
_LINK_BYTES: Final = 7
_MAC_BYTES: Final = 16
_PURPOSE: Final = b"retain/unsubscribe/1"


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """What a token says before its signature is checked: `link_id` names a customer in the ledger."""

    link_id: int
    channel: Channel
    mac: bytes


def make_token(key: str, *, link_id: int, customer_id: str, channel: Channel) -> str:
    """The token of a customer's link for a channel: 32 characters, the same every time.

    Raises ChannelError for a link_id outside 1 to 2**56 - 1.
    """
    if not 1 <= link_id <= LARGEST_LINK:
        raise ChannelError(f"an unsubscribe link has a number from 1 to {LARGEST_LINK}, got {link_id}")
    head = bytes([_FORM | CHANNELS.index(channel)]) + link_id.to_bytes(_LINK_BYTES, "big")
    return base64.urlsafe_b64encode(head + _mac(key, head, customer_id)).decode("ascii")


def parse_token(token: str) -> ParsedToken | None:
    """A token in its parts, None where it cannot be one; nothing is believed before `is_signed` has agreed."""
    if not _TOKEN.fullmatch(token):  # b64decode is no check: it takes + and / for - and _ too
        return None
    data = base64.urlsafe_b64decode(token)
    number = data[0] ^ _FORM
    if number >= len(CHANNELS):
        return None
    return ParsedToken(int.from_bytes(data[1 : 1 + _LINK_BYTES], "big"), CHANNELS[number], data[1 + _LINK_BYTES :])


def is_signed(parsed: ParsedToken, keys: Sequence[str], *, customer_id: str) -> bool:
    """Whether one of the keys (the present one, and those of old) signed this token for this customer."""
    head = bytes([_FORM | CHANNELS.index(parsed.channel)]) + parsed.link_id.to_bytes(_LINK_BYTES, "big")
    agreed = [hmac.compare_digest(_mac(key, head, customer_id), parsed.mac) for key in keys if key]
    return any(agreed)


def _mac(key: str, head: bytes, customer_id: str) -> bytes:
    text = b"\0".join([_PURPOSE, head, customer_id.encode()])
    return hmac.new(key.encode(), text, hashlib.sha256).digest()[:_MAC_BYTES]
