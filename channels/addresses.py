"""Addresses in one spelling, and as keyed HMACs: what is kept of an address that must not be written to."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from channels.message import Channel

_PURPOSE: Final = b"retain/address/1"
_CUSTOMER: Final = b"retain/customer/1"
_PSEUDONYM: Final = b"retain/pseudonym/1"
_KEY_ID: Final = b"retain/key-id/1"
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_SPELLED: Final = re.compile(r"[+(]?[0-9][0-9 ().\u00a0-]*")
_NOT_DIALLED: Final = re.compile(r"[^0-9+]")


@dataclass(frozen=True, slots=True)
class MacKey:
    """A key of the company's: its secret never shows, `key_id` names it (8 hexadecimal digits)."""

    secret: str = field(repr=False)

    @property
    def key_id(self) -> str:
        """A name of the key that does not tell it."""
        return hmac.new(self.secret.encode(), _KEY_ID, hashlib.sha256).hexdigest()[:8]

    def of_address(self, channel: Channel, plain: str) -> str:
        """The HMAC of an address in its one spelling (`plain_address`): 40 hexadecimal digits."""
        text = b"\0".join((_PURPOSE, channel.encode(), plain.encode()))
        return hmac.digest(self.secret.encode(), text, "sha256").hex()[:40]

    def of_customer(self, customer_id: str) -> str:
        """The HMAC of a customer's id: 40 hexadecimal digits."""
        return hmac.digest(self.secret.encode(), b"\0".join((_CUSTOMER, customer_id.encode())), "sha256").hex()[:40]

    def pseudonym_of(self, customer_id: str) -> str:
        """The name that stands for an erased customer: "erased-" and 24 hexadecimal digits."""
        text = b"\0".join((_PSEUDONYM, customer_id.encode()))
        return f"erased-{hmac.digest(self.secret.encode(), text, 'sha256').hex()[:24]}"


def plain_address(channel: Channel, value: str, *, country: str | None = None) -> str:
    """The one spelling of an address, "" for none: two spellings of one address give the same.

    Phone: E.164; a national number is read as one of `country` (ISO 3166), one without a country stays its digits.
    E-mail: NFC, no blanks around, lower case (nobody gives two people Ana@ and ana@), the domain as the DNS has it.
    Push token: without blanks around.
    """
    text = value.strip()
    if channel == "sms":
        return _plain_phone(text, country)
    return _plain_email(text) if channel == "email" else text


def sendable_address(channel: Channel, value: str, *, country: str | None = None) -> str:
    """An address as a provider takes it: a phone number without its signs and blanks, a domain as the DNS has it.

    What cannot be read for certain (a number with letters, or without a country) stays as it is, for the provider to
    refuse.
    """
    text = value.strip()
    if channel == "sms":
        return text if _E164.fullmatch(text) or not _SPELLED.fullmatch(text) else _dialled(text, country)
    name, at, domain = text.rpartition("@")
    if channel == "push" or not at or domain.isascii():
        return text
    try:
        return f"{name}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return text


def address_macs(keys: Sequence[MacKey], channel: Channel, value: str, *, country: str | None = None) -> list[str]:
    """The HMACs of an address under every key, in their order; none where there is no address."""
    plain = plain_address(channel, value, country=country)
    return [key.of_address(channel, plain) for key in keys] if plain else []


def _plain_phone(text: str, country: str | None) -> str:
    if _E164.fullmatch(text):
        return text
    dialled = _NOT_DIALLED.sub("", unicodedata.normalize("NFKC", text).replace("(0)", ""))
    if dialled.startswith("00"):
        dialled = "+" + dialled[2:]
    if _E164.fullmatch(dialled) or not dialled:
        return dialled
    return _as_national(dialled, country) if country else dialled


def _dialled(text: str, country: str | None) -> str:
    """A number without its signs and blanks; the text itself where no number of that length exists."""
    import phonenumbers

    plain = _plain_phone(text, country)
    try:
        return plain if phonenumbers.is_possible_number(phonenumbers.parse(plain)) else text
    except phonenumbers.NumberParseException:
        return text


def _as_national(dialled: str, country: str) -> str:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(dialled, country.strip().upper())
    except phonenumbers.NumberParseException:
        return dialled
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def _plain_email(text: str) -> str:
    name, at, domain = unicodedata.normalize("NFC", text).lower().rpartition("@")
    if not at:
        return domain
    try:
        return f"{name}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return f"{name}@{domain}"
