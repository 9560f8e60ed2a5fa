"""The last look at whom a claimed message is for: erased, without consent, without an address, or with one that is out.

Consent is asked of the facts and of the ledger; addresses are made HMACs here, and only these go on to the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from channels.addresses import address_macs
from flows.steps.consent_standing import erased_among
from warehouse.ledger.address_suppressions import erased_macs, require_keys, stopped_keys
from warehouse.ledger.consents import granted_among

if TYPE_CHECKING:
    from channels.message import Channel
    from flows.wiring import Workspace
    from warehouse.facts.contacts import Contact
    from warehouse.ledger.outbox import ClaimedMessage

Addressed = tuple[str, str, tuple[str, ...]]
"""Where a message goes: channel, topic, the HMACs of the address."""


@dataclass(frozen=True, slots=True)
class AddressCheck:
    """Message key -> why it must not leave; and for the others where they go."""

    refused: Mapping[str, str] = field(default_factory=dict)
    addressed: Mapping[str, Addressed] = field(default_factory=dict)


def check_addresses(
    ws: Workspace, claimed: Sequence[ClaimedMessage], contacts: Mapping[str, Contact], topics: Mapping[str, str]
) -> AddressCheck:
    """Look at claimed messages once more; `topics`: experiment -> what its messages are about.

    Raises LedgerError where a key is missing under which addresses are kept out.
    """
    keys = ws.mac_keys
    with ws.ledger.read() as tx:
        require_keys(tx, [key.key_id for key in keys])
        erased = erased_among(keys, {message.customer_id for message in claimed}, erased_macs(tx))
        granted = _granted(tx, claimed, contacts, topics)
        refused: dict[str, str] = {}
        addressed: dict[str, Addressed] = {}
        for message in claimed:
            contact = contacts.get(message.customer_id)
            if message.customer_id in erased:
                refused[message.message_key] = "erased"
            elif contact is None:
                refused[message.message_key] = "customer_gone"
            elif not contact.consents.get(message.channel) and message.message_key not in granted:
                refused[message.message_key] = "no_consent"
            else:
                channel = cast("Channel", message.channel)  # the ledger's own check allows no other
                macs = address_macs(keys, channel, contact.address(channel) or "", country=contact.country)
                if macs:
                    addressed[message.message_key] = (channel, topics[message.experiment_id], tuple(macs))
                else:
                    refused[message.message_key] = "no_address"
        refused |= dict.fromkeys(stopped_keys(tx, addressed), "suppressed_address")
    return AddressCheck(refused, {key: where for key, where in addressed.items() if key not in refused})


def _granted(
    tx: Any,
    claimed: Sequence[ClaimedMessage],
    contacts: Mapping[str, Contact],
    topics: Mapping[str, str],
) -> set[str]:
    """The keys of messages whose consent stands in the ledger, where the facts say nothing."""
    asked: dict[tuple[str, str], list[ClaimedMessage]] = {}
    for message in claimed:
        contact = contacts.get(message.customer_id)
        if contact and not contact.consents.get(message.channel) and message.channel not in contact.refused:
            asked.setdefault((message.channel, topics[message.experiment_id]), []).append(message)
    found: set[str] = set()
    for (channel, topic), messages in asked.items():
        yes = granted_among(tx, {message.customer_id for message in messages}, channel, topic=topic)
        found |= {message.message_key for message in messages if message.customer_id in yes}
    return found
