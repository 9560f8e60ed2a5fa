"""What consent and addresses say when a plan is made: who was erased, who said yes elsewhere, whose address is out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from campaigns.eligibility import Standing
from campaigns.shared_addresses import Sharing
from channels.addresses import MacKey, address_macs
from warehouse.facts.contacts import customers_refusing, each_address, shared_addresses
from warehouse.ledger.address_suppressions import erased_macs, require_keys, suppressed_macs
from warehouse.ledger.consents import granted

if TYPE_CHECKING:
    import pandas as pd

    from campaigns.model import Campaign
    from channels.message import Channel
    from flows.wiring import Workspace


def add_consent(ws: Workspace, campaign: Campaign, standing: Standing, candidates: pd.DataFrame) -> Standing:
    """The standing with what consents, erasures and addresses add to it; addresses are read in bulk and forgotten.

    `candidates` has the columns of `select_segment`. Raises LedgerError where a key is missing under which addresses
    are kept out, FactsError where the facts cannot be asked.
    """
    channels = channels_of(campaign)
    with ws.ledger.read() as tx:
        require_keys(tx, [key.key_id for key in ws.mac_keys])
        erased = erased_macs(tx)
        yes = {channel: granted(tx, channel, topic=campaign.topic) for channel in channels}
        stopped = {channel: suppressed_macs(tx, channel, topic=campaign.topic) for channel in channels}
    ids = candidates["customer_id"]
    return replace(
        standing,
        erased=erased_among(ws.mac_keys, ids.tolist(), erased),
        granted={
            channel: _granted(ws, channel, ids[~candidates[f"consent_{channel}"]].tolist(), yes[channel])
            for channel in channels
        },
        suppressed_addresses={
            channel: _stopped(ws, channel, ids[candidates[f"has_{channel}"]].tolist(), stopped[channel])
            for channel in channels
        },
        sharing=_sharing(ws, channels, standing),
    )


def channels_of(campaign: Campaign) -> list[Channel]:
    """The channels that some step of the campaign may use, sorted."""
    return sorted({channel for arm in campaign.arms.values() for step in arm.steps for channel in step.channels})


def erased_among(keys: Sequence[MacKey], customer_ids: Iterable[str], erased: set[str]) -> set[str]:
    """Those of the customers who were erased; `erased` are the HMACs of the ids of all who were."""
    if not erased:
        return set()
    return {customer for customer in customer_ids if any(key.of_customer(customer) in erased for key in keys)}


def _granted(ws: Workspace, channel: str, silent: Sequence[str], granted_ids: set[str]) -> set[str]:
    """Who said yes to us while the facts say nothing: a no in the facts has no time, so it stands."""
    asked = [customer for customer in silent if customer in granted_ids]
    return set(asked) - customers_refusing(ws.facts, asked, channel) if asked else set()


def _stopped(ws: Workspace, channel: Channel, customer_ids: Sequence[str], stopped: set[str]) -> set[str]:
    if not stopped:
        return set()
    return {
        customer
        for customer, address, country in each_address(ws.facts, customer_ids, channel)
        if not stopped.isdisjoint(address_macs(ws.mac_keys, channel, address, country=country))
    }


def _sharing(ws: Workspace, channels: Sequence[str], standing: Standing) -> Sharing:
    names: dict[str, list[str]] = {}
    for channel in channels:
        for customer, name in shared_addresses(ws.facts, channel).items():
            names.setdefault(customer, []).append(name)
    assigned = set(standing.already_assigned).intersection(names)
    return Sharing(names, frozenset(name for customer in assigned for name in names[customer]))
