"""Short links of texts: finding the links that are worth it, and the signed tokens that stand for them.

A token is 15 bytes as 20 characters of URL-safe base64: one byte of form, six of the number under which the ledger
knows the link, eight of HMAC-SHA256. The HMAC covers message and place too, so a number that would one day mean another
link opens nothing. Guessing one opens a page of the company's own, and counts a click at most.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from channels.errors import ChannelError

TOKEN_CHARACTERS: Final = 20
LARGEST_LINK: Final = 2**48 - 1
LONGEST_URL: Final = 1_000

_TOKEN: Final = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_CHARACTERS}}}")
_FORM: Final = 0x20
_PURPOSE: Final = b"retain/short-link/1"
_LINK: Final = re.compile(r"https://[\w.~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)
_BEHIND: Final = ".,;:!?)]'"
"""Signs at the end of a link that belong to the sentence around it."""


@dataclass(frozen=True, slots=True)
class FoundLink:
    """One link of a text: the how-manieth it is (from 0), and where it stands."""

    position: int
    start: int
    end: int
    url: str


def find_links(text: str) -> list[FoundLink]:
    """Every https link of a text, in order."""
    found = []
    for position, match in enumerate(_LINK.finditer(text)):
        url = match.group().rstrip(_BEHIND)
        found.append(FoundLink(position, match.start(), match.start() + len(url), url))
    return found


def leads_home(url: str, hosts: Collection[str]) -> bool:
    """Whether a link leads to one of the hosts, or to what lies below them, over TLS, by its plain name and port."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme == "https" and parts.port in (None, 443) and not parts.username and not parts.password
    except ValueError:
        return False
    if not plain or any(sign in url for sign in "\\\r\n\t ") or not url.isascii() or len(url) > LONGEST_URL:
        return False
    host = (parts.hostname or "").lower()
    return any(host == allowed or host.endswith(f".{allowed}") for allowed in hosts if allowed)


def names_somebody(url: str, addresses: Collection[str]) -> bool:
    """Whether one of the addresses stands in a link, plain or encoded: such a link is not for the ledger."""
    plain = unquote(unquote(url)).lower()
    spellings = {address.lower() for address in addresses if address}
    spellings |= {spelling.lstrip("+") for spelling in spellings}
    return any(spelling in plain for spelling in spellings if spelling)


def replace_links(text: str, short: Mapping[int, str]) -> str:
    """The text with the links at these positions replaced."""
    for link in reversed(find_links(text)):
        if link.position in short:
            text = text[: link.start] + short[link.position] + text[link.end :]
    return text


def make_link_token(key: str, *, link_id: int, message_key: str, position: int) -> str:
    """The token of a link of a message: 20 characters, the same every time. Raises ChannelError for a wrong number."""
    if not 1 <= link_id <= LARGEST_LINK:
        raise ChannelError(f"a short link has a number from 1 to {LARGEST_LINK}, got {link_id}")
    head = bytes([_FORM]) + link_id.to_bytes(6, "big")
    return base64.urlsafe_b64encode(head + _mac(key, head, message_key, position)).decode("ascii")


def link_of_token(token: str) -> int | None:
    """The number a token names; nothing is believed before `is_link_signed` has agreed. None: it cannot be one."""
    if not _TOKEN.fullmatch(token):
        return None
    data = base64.urlsafe_b64decode(token)
    return int.from_bytes(data[1:7], "big") if data[0] == _FORM else None


def is_link_signed(token: str, keys: Sequence[str], *, message_key: str, position: int) -> bool:
    """Whether one of the keys signed this token for this link of this message."""
    data = base64.urlsafe_b64decode(token)
    agreed = [hmac.compare_digest(_mac(key, data[:7], message_key, position), data[7:]) for key in keys if key]
    return any(agreed)


def _mac(key: str, head: bytes, message_key: str, position: int) -> bytes:
    text = b"\0".join([_PURPOSE, head, message_key.encode(), str(position).encode()])
    return hmac.new(key.encode(), text, hashlib.sha256).digest()[:8]
