"""Addresses that must not be written to, known only by their HMACs: they outlive customers, erasures and re-imports."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from campaigns.words import EVERY_TOPIC
from warehouse.ledger import dialect
from warehouse.ledger.consent_tables import address_suppressions as _T  # noqa: N812 - as every module here names its
from warehouse.ledger.consent_tables import erasures
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError

_CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True)
class AddressSuppression:
    """One address that must not be written to on its channel: `macs` are its HMACs, the present key's first.

    `key_ids` names the key of each of `macs`.
    """

    macs: tuple[str, ...]
    key_ids: tuple[str, ...]
    channel: str
    reason: str
    source: str
    at: datetime
    topic: str = EVERY_TOPIC


def suppress_addresses(ledger: Ledger, wishes: Iterable[AddressSuppression]) -> int:
    """Suppress addresses, one transaction for each 5,000; give how many were new, under whatever key.

    After its commit no message to them is intended.
    """
    everything = list(wishes)
    new = 0
    for start in range(0, len(everything), _CHUNK):
        with ledger.begin() as tx:
            dialect.close_gate(tx)
            new += add_address_suppressions(tx, everything[start : start + _CHUNK])
    return new


def add_address_suppressions(tx: sa.Connection, wishes: Iterable[AddressSuppression]) -> int:
    """Suppress addresses within a transaction that has closed the gate; give how many were new."""
    wanted = list(wishes)
    known = _active(tx, {mac for wish in wanted for mac in wish.macs})
    rows = []
    for wish in wanted:
        scope = (wish.channel, wish.topic, wish.reason)
        if any((mac, *scope) in known for mac in wish.macs):
            continue
        known.add((wish.macs[0], *scope))
        rows.append(
            {
                "address_mac": wish.macs[0],
                "key_id": wish.key_ids[0],
                "channel": wish.channel,
                "topic": wish.topic,
                "reason": wish.reason,
                "source": wish.source,
                "at": wish.at,
            }
        )
    if rows:
        tx.execute(sa.insert(_T), rows)
    return len(rows)


def release_addresses(
    ledger: Ledger,
    macs: Collection[str],
    *,
    channel: str,
    source: str,
    at: datetime,
    reason: str | None = None,
    topic: str = EVERY_TOPIC,
) -> int:
    """Release the suppressions of addresses of exactly this channel and topic, of one reason or of all but erasure."""
    conditions = [_T.c.channel == channel, _T.c.topic == topic, _T.c.released_at.is_(None)]
    conditions.append(_T.c.reason != "erased" if reason is None else _T.c.reason == reason)
    with ledger.begin() as tx:
        change = sa.update(_T).where(dialect.among(tx, _T.c.address_mac, sorted(macs)), *conditions)
        return tx.execute(change.values(released_at=at, release_source=source)).rowcount


def suppressed_macs(
    tx: sa.Connection, channel: str, *, topic: str = EVERY_TOPIC, among: Iterable[str] | None = None
) -> set[str]:
    """Give the HMACs (of those asked for) that are suppressed now on a channel for messages about a topic."""
    query = sa.select(_T.c.address_mac).where(
        _T.c.channel == channel, _T.c.topic.in_([topic, EVERY_TOPIC]), _T.c.released_at.is_(None)
    )
    if among is not None:
        query = query.where(dialect.among(tx, _T.c.address_mac, sorted(set(among))))
    return set(tx.execute(query).scalars())


def stopped_keys(tx: sa.Connection, addressed: Mapping[str, tuple[str, str, tuple[str, ...]]]) -> set[str]:
    """Give the keys whose address is suppressed; `addressed`: any key -> (channel, topic, the address's HMACs)."""
    lanes: dict[tuple[str, str], set[str]] = {}
    for channel, topic, macs in addressed.values():
        lanes.setdefault((channel, topic), set()).update(macs)
    stopped = {lane: suppressed_macs(tx, lane[0], topic=lane[1], among=macs) for lane, macs in lanes.items()}
    return {key for key, (channel, topic, macs) in addressed.items() if not stopped[channel, topic].isdisjoint(macs)}


def address_suppressions_of(tx: sa.Connection, macs: Iterable[str]) -> list[dict[str, object]]:
    """List everything ever recorded about addresses, oldest first, without their HMACs."""
    shown = [column for column in _T.c if column.name not in ("address_mac", "key_id")]
    query = sa.select(*shown).where(dialect.among(tx, _T.c.address_mac, sorted(macs)))
    return [dict(row) for row in tx.execute(query.order_by(_T.c.at, _T.c.address_suppression_id)).mappings()]


def erased_macs(tx: sa.Connection) -> set[str]:
    """Give the HMACs of the ids of all who were erased."""
    return set(tx.execute(sa.select(erasures.c.customer_mac)).scalars())


def anybody_was_erased(tx: sa.Connection) -> bool:
    """Tell whether any customer was ever erased."""
    return tx.execute(sa.select(erasures.c.pseudonym).limit(1)).first() is not None


def require_keys(tx: sa.Connection, key_ids: Collection[str]) -> None:
    """Make sure that every key is at hand under which addresses or ids are kept.

    Raises LedgerError where one is missing: the addresses kept under it would be written to again.
    """
    used = set(tx.execute(sa.select(_T.c.key_id).where(_T.c.released_at.is_(None)).distinct()).scalars())
    used |= set(tx.execute(sa.select(erasures.c.key_id).distinct()).scalars())
    missing = sorted(used - set(key_ids))
    if missing:
        raise LedgerError(
            f"addresses are kept out under a key that is not set ({', '.join(missing)}); nothing is planned or sent "
            "without it. Add the former RETAIN_SECRET to RETAIN_OLD_SECRETS"
        )


def _active(tx: sa.Connection, macs: Collection[str]) -> set[tuple[str, str, str, str]]:
    query = sa.select(_T.c.address_mac, _T.c.channel, _T.c.topic, _T.c.reason).where(
        dialect.among(tx, _T.c.address_mac, sorted(macs)), _T.c.released_at.is_(None)
    )
    return {(row[0], row[1], row[2], row[3]) for row in tx.execute(query)}
