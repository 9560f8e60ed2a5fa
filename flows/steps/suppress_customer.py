"""Ends messages to customers and addresses: one by one, or by a list; on a channel, about a topic, or altogether."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from campaigns.nearest import did_you_mean
from campaigns.words import EVERY_TOPIC
from channels.message import Address, Channel
from flows.steps.kept_addresses import Why, keep_out, release_addresses_of, suppress_addresses_of
from flows.steps.listed_import import CHUNK, ListImport, read_scope, write_refused
from flows.steps.unsubscribe import known_topics
from warehouse.facts.contacts import look_up_contacts
from warehouse.facts.listed_rows import read_listed
from warehouse.ledger.address_suppressions import AddressSuppression, add_address_suppressions
from warehouse.ledger.audit import record_audit
from warehouse.ledger.dialect import close_gate
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.schema import CHANNELS, SUPPRESSION_REASONS
from warehouse.ledger.suppressions import Suppression, add_suppressions, release_suppression, suppress_many

if TYPE_CHECKING:
    from flows.wiring import Workspace

REASONS: Final = tuple(reason for reason in SUPPRESSION_REASONS if reason not in ("withdrawn", "erased"))
"""What a person may give as a reason; the others come from a consent, or an erasure."""
COLUMNS: Final = ("customer_id", "email", "phone", "push_token", "country", "channel", "topic", "reason")
_ADDRESSES: Final[Mapping[str, Channel]] = {"email": "email", "phone": "sms", "push_token": "push"}


def suppress_customer(
    ws: Workspace, customer_id: str, *, channel: str, reason: str, by: str, at: datetime, topic: str = EVERY_TOPIC
) -> bool:
    """Suppress a customer, and the addresses he or she has now; after its commit nothing more leaves.

    False where that was so already. Raises LedgerError for a channel, topic or reason that does not exist.
    """
    wish = Suppression(customer_id, channel, reason, by, at, topic)
    _check(wish)
    new = suppress_many(ws.ledger, [wish]) == 1
    _note(ws, wish, "suppress", {"changed": new})  # before the addresses, which take a key that may be missing
    suppress_addresses_of(ws, [wish])
    return new


def release_customer(
    ws: Workspace, customer_id: str, *, channel: str, by: str, at: datetime, topic: str = EVERY_TOPIC
) -> int:
    """Take back a customer's suppressions of exactly this scope, whatever their reason; gives how many there were.

    The addresses the customer has now are released with them; what an erasure keeps out stays out.
    Raises LedgerError for a channel or topic that does not exist.
    """
    wish = Suppression(customer_id, channel, "manual", by, at, topic)
    _check(wish)
    released = release_suppression(ws.ledger, customer_id, channel, source=by, at=at, topic=topic)
    addresses = release_addresses_of(ws, customer_id, channel, Why("manual", by, at, topic), every_reason=True)
    _note(ws, wish, "release", {"released": released, "addresses": addresses})
    return released + addresses


def import_suppressions(
    ws: Workspace, files: Sequence[Path], *, renames: Mapping[str, str], reason: str, by: str, now: datetime
) -> ListImport:
    """Suppress everybody on lists (CSV or Parquet) of customers, addresses or both; addresses are kept as HMACs only.

    A row without channel or topic means all of them; one with an address suppresses it on the address's own channel.
    Importing the same file again changes nothing. Raises FactsError where a file is missing or broken, LedgerError
    for a reason that does not exist.
    """
    _check(Suppression("", "all", reason, by, now))
    outcome = ListImport()
    for path in files:
        batch = _Batch()
        for number, row in read_listed(path, COLUMNS, renames=renames):
            outcome.read += 1
            refused = _read(ws, row, batch, Why(reason, path.name, now))
            if refused is not None:
                outcome.refuse(refused, path, number)
            elif len(batch.rows) >= CHUNK:
                outcome.added += batch.write(ws)
        outcome.added += batch.write(ws)
    write_refused(ws, "suppressions", outcome, now=now)
    with ws.ledger.begin() as tx:
        names = ", ".join(path.name for path in files)
        record_audit(tx, at=now, actor=by, action="import suppressions", subject=names, detail=outcome.counts())
    return outcome


def is_loaded(ws: Workspace, customer_id: str) -> bool:
    """Whether the facts know the customer."""
    return bool(look_up_contacts(ws.facts, [customer_id]))


def doubt_of_topic(ws: Workspace, topic: str) -> str | None:
    """What to say of a topic that no campaign is about: under a slip of the pen nobody is kept out of anything."""
    known = known_topics(ws)
    if topic == EVERY_TOPIC or topic in known:
        return None
    others = f"; they are about {', '.join(sorted(known))}" if known else ""
    return f"no campaign is about the topic {topic}{did_you_mean(topic, known)}{others}; it is recorded all the same"


@dataclass
class _Batch:
    """Rows of a list as what they suppress, row by row."""

    rows: list[tuple[list[Suppression], list[AddressSuppression]]] = field(default_factory=list)

    def write(self, ws: Workspace) -> int:
        """Suppress, and give how many rows said something new."""
        if not self.rows:
            return 0
        with ws.ledger.begin() as tx:
            close_gate(tx)
            new = sum(
                bool(add_suppressions(tx, wishes) + add_address_suppressions(tx, addresses))
                for wishes, addresses in self.rows
            )
        suppress_addresses_of(ws, [wish for wishes, _ in self.rows for wish in wishes])
        self.rows = []
        return new


def _read(ws: Workspace, row: Mapping[str, str | None], batch: _Batch, why: Why) -> str | None:
    """Put what a row suppresses into the batch; the reason where it is refused."""
    scope = read_scope(row["channel"], row["topic"], channels=CHANNELS)
    reason = (row["reason"] or why.reason).lower()
    if isinstance(scope, str):
        return scope
    if reason not in REASONS:
        return "bad_reason"
    told = Why(reason, why.source, why.at, scope[1])
    customer = row["customer_id"]
    wishes = [Suppression(customer, scope[0], reason, why.source, why.at, scope[1])] if customer else []
    kept = [
        keep_out(ws, Address(channel, row[name] or ""), told, country=row["country"])
        for name, channel in _ADDRESSES.items()
        if scope[0] in (channel, "all")
    ]
    addresses = [each for each in kept if each is not None]
    if not wishes and not addresses:
        return "missing_key"
    batch.rows.append((wishes, addresses))
    return None


def _check(wish: Suppression) -> None:
    scope = read_scope(wish.channel, wish.topic, channels=CHANNELS)
    if scope == "bad_channel":
        raise LedgerError(f'channel "{wish.channel}": expected one of {", ".join((*CHANNELS, "all"))}')
    if scope == "bad_topic":
        raise LedgerError(f'topic "{wish.topic}": expected lower-case letters, digits and single dashes, or all')
    if wish.reason not in REASONS:
        raise LedgerError(f'reason "{wish.reason}": expected one of {", ".join(REASONS)}')


def _note(ws: Workspace, wish: Suppression, action: str, more: Mapping[str, object]) -> None:
    detail = {"channel": wish.channel, "topic": wish.topic, "reason": wish.reason, **more}
    with ws.ledger.begin() as tx:
        record_audit(tx, at=wish.at, actor=wish.source, action=action, subject=wish.customer_id, detail=detail)
