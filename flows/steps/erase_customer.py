"""Erases a customer: no address, no row, no id is left; counts, and the HMACs by which addresses stay out, are kept."""

from __future__ import annotations

import csv
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from channels.message import CHANNELS
from channels.providers.local import LocalProvider
from flows.steps.kept_addresses import Why, keep_out_contact
from warehouse.facts.contacts import Contact, look_up_contacts
from warehouse.facts.erase import ErasedRows, erase_from_facts
from warehouse.facts.schema import TABLES
from warehouse.facts.store import ParquetFacts
from warehouse.ledger.addressees import keys_of_customer
from warehouse.ledger.erasures import ERASED, ErasureRequest, LedgerErasure, erase_from_ledger

if TYPE_CHECKING:
    from flows.wiring import Workspace


_KEPT: Final = ("data/quarantine", ".retain/plans")
"""Folders with tables that may name the customer: rows that loads refused, and stored plans."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did. `by_hand`: what the company must delete in a warehouse that retain only reads."""

    pseudonym: str
    known: bool
    ledger: LedgerErasure
    facts: ErasedRows | None
    files: int
    by_hand: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "by_hand": list(self.by_hand)}


def erase_customer(ws: Workspace, customer_id: str, *, by: str, at: datetime) -> Erased:
    """Erase a customer from facts, ledger and files; doing it again does what is left to do.

    The ledger comes first: whatever happens then, nothing is sent any more, and the addresses are known as HMACs
    before they are forgotten. A warehouse of the company is only read: what must be deleted there is told, and the
    customer is kept out of every plan from now on.

    Raises LedgerError while a message is just leaving, FactsError where the facts cannot be read or written.
    """
    key = ws.mac_keys[0]
    pseudonym = key.pseudonym_of(customer_id)
    ws.facts.refresh()
    contact = look_up_contacts(ws.facts, [customer_id]).get(customer_id)
    with ws.ledger.read() as tx:
        messages = keys_of_customer(tx, customer_id)
    addresses = keep_out_contact(ws, contact, CHANNELS, Why(ERASED, by, at)) if contact else []
    request = ErasureRequest(customer_id, pseudonym, key.of_customer(customer_id), key.key_id, by, at, addresses)
    in_ledger = erase_from_ledger(ws.ledger, request)
    in_facts = erase_from_facts(ws.facts, customer_id, pseudonym) if isinstance(ws.facts, ParquetFacts) else None
    files = _forget_messages(ws, messages) + _clean_files(ws.root, customer_id, contact)
    known = contact is not None or bool(messages)
    return Erased(pseudonym, known, in_ledger, in_facts, files, () if in_facts else _by_hand(ws, customer_id))


def _forget_messages(ws: Workspace, keys: list[str]) -> int:
    """Remove what the local provider wrote; other providers keep what they keep, by their own contract."""
    return sum(LocalProvider(channel, ws.root / "outbox").forget(keys) for channel in CHANNELS)


def _clean_files(root: Path, customer_id: str, contact: Contact | None) -> int:
    """Take the customer's lines out of refused rows and stored plans; gives how many files were written anew."""
    told = {customer_id, *(contact.address(channel) or customer_id for channel in CHANNELS if contact)}
    cleaned = 0
    for path in sorted(path for name in _KEPT for path in (root / name).rglob("*.csv")):
        cleaned += _clean(path, told)
    return cleaned


def _clean(path: Path, told: set[str]) -> bool:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    kept = [row for row in rows if told.isdisjoint(cell.strip() for cell in row)]
    if len(kept) == len(rows):
        return False
    aside = path.with_suffix(".tmp")
    with aside.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(kept)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    return True


def _by_hand(ws: Workspace, customer_id: str) -> tuple[str, ...]:
    """The statements that delete the customer in the company's own warehouse, by its own names."""
    quoted = "'" + customer_id.replace("'", "''") + "'"
    named = {table: getattr(ws.settings.facts, table) for table in TABLES}
    return tuple(
        f"DELETE FROM {entry.table or table} WHERE {entry.columns.get('customer_id', 'customer_id')} = {quoted};"  # noqa: S608 - shown to a person, never run
        for table, entry in named.items()
    )
