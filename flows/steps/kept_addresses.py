"""Keeping addresses out: from an address, or a customer who has one now, to its HMAC in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from campaigns.words import EVERY_TOPIC
from channels.addresses import address_macs
from channels.message import CHANNELS, Address, Channel
from warehouse.facts.contacts import Contact, look_up_contacts
from warehouse.facts.errors import FactsError
from warehouse.ledger.address_suppressions import (
    AddressSuppression,
    release_addresses,
    suppress_addresses,
)

if TYPE_CHECKING:
    from flows.wiring import Workspace
    from warehouse.ledger.suppressions import Suppression

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Why:
    """Why an address is kept out: reason, who told, when, and for which topic."""

    reason: str
    source: str
    at: datetime
    topic: str = EVERY_TOPIC


def keep_out(ws: Workspace, address: Address, why: Why, *, country: str | None = None) -> AddressSuppression | None:
    """The suppression of an address as the ledger keeps it; None where there is no address."""
    macs = tuple(address_macs(ws.mac_keys, address.channel, address.value, country=country))
    key_ids = tuple(key.key_id for key in ws.mac_keys)
    return (
        AddressSuppression(macs, key_ids, address.channel, why.reason, why.source, why.at, why.topic) if macs else None
    )


def keep_out_contact(ws: Workspace, contact: Contact, channels: Iterable[str], why: Why) -> list[AddressSuppression]:
    """The suppressions of a customer's addresses on these channels."""
    found = []
    for channel in channels:
        address = Address(cast("Channel", channel), contact.address(channel) or "")
        if wish := keep_out(ws, address, why, country=contact.country):
            found.append(wish)
    return found


def suppress_addresses_of(ws: Workspace, wishes: Sequence[Suppression]) -> int:
    """Keep out the addresses that customers who were suppressed have now; give how many were new.

    The customers' own suppressions are committed already: where the facts cannot be asked, that is only logged.
    """
    if not wishes:
        return 0
    try:
        contacts = look_up_contacts(ws.facts, sorted({wish.customer_id for wish in wishes}))
    except FactsError:
        _log.warning("the facts cannot be asked for the addresses of %d suppressed customers", len(wishes))
        return 0
    return suppress_addresses(
        ws.ledger,
        [
            kept
            for wish in wishes
            if (contact := contacts.get(wish.customer_id)) is not None
            for kept in keep_out_contact(
                ws, contact, covered(wish.channel), Why(wish.reason, wish.source, wish.at, wish.topic)
            )
        ],
    )


def release_addresses_of(ws: Workspace, customer_id: str, channel: str, why: Why, *, every_reason: bool = False) -> int:
    """Release the addresses a customer has now from what `why` says; give how many were released."""
    try:
        contact = look_up_contacts(ws.facts, [customer_id]).get(customer_id)
    except FactsError:
        _log.warning("the facts cannot be asked for the addresses of a released customer")
        return 0
    if contact is None:
        return 0
    return sum(
        release_addresses(
            ws.ledger,
            address_macs(ws.mac_keys, each, contact.address(each) or "", country=contact.country),
            channel=each,
            source=why.source,
            at=why.at,
            reason=None if every_reason else why.reason,
            topic=why.topic,
        )
        for each in covered(channel)
    )


def covered(channel: str) -> tuple[Channel, ...]:
    """The channels that a scope covers."""
    return CHANNELS if channel == "all" else (cast("Channel", channel),)
