"""Erasing a customer from the ledger: a pseudonym takes the place of the id in every row; counts stay as they are.

The guards of the append-only tables let exactly this through, and only to a pseudonym that is recorded as an erasure.
What is kept of the customer is the HMAC of the id, by which a re-import is known, and those of the addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.address_suppressions import AddressSuppression, add_address_suppressions
from warehouse.ledger.audit import record_audit
from warehouse.ledger.changes import Changes
from warehouse.ledger.consent_tables import erasures as _T  # noqa: N812 - as every module here names its table
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.messages import lock_messages
from warehouse.ledger.schema_parts import metadata
from warehouse.ledger.suppressions import Suppression, add_suppressions

ERASED: Final = "erased"
_O = schema.outbox
_ELSEWHERE: Final = frozenset({"outbox", "erasures", "address_suppressions", "audit"})
"""Tables that are not renamed with all the others: they come first, hold no id, or are renamed by their subject."""


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """Whom to erase, by whom and when; `customer_mac` and `key_id` are how the id is known again."""

    customer_id: str
    pseudonym: str
    customer_mac: str
    key_id: str
    actor: str
    at: datetime
    addresses: Sequence[AddressSuppression] = ()


@dataclass(frozen=True, slots=True)
class LedgerErasure:
    """What an erasure did: messages skipped, rows that bear the pseudonym now, addresses newly kept out."""

    skipped: int
    renamed: int
    addresses: int
    was_erased: bool


def erase_from_ledger(ledger: Ledger, request: ErasureRequest) -> LedgerErasure:
    """Skip the customer's messages, keep the addresses out, and put the pseudonym in place of the id.

    The suppression is committed first. Doing it again does what is left to do, usually nothing.

    Raises LedgerError while a message to the customer is just leaving; from then on the customer is suppressed.
    """
    skipped, addresses = _keep_out(ledger, request)
    with ledger.begin() as tx:
        dialect.close_gate(tx)
        _refuse_while_sending(tx, request)
        pseudonym = _record(tx, request)
        _release_all(tx, request)
        renamed = _rename(tx, request.customer_id, pseudonym)
        detail = {"messages_skipped": skipped, "rows_renamed": renamed, "addresses": addresses}
        record_audit(tx, at=request.at, actor=request.actor, action="erase", subject=pseudonym, detail=detail)
    _forget_freed_pages(ledger)
    return LedgerErasure(skipped, renamed, addresses, was_erased=pseudonym != request.pseudonym)


def personal_tables() -> list[sa.Table]:
    """Every table with rows of single customers, by customer_id or by message_key."""
    return [table for table in metadata.sorted_tables if not {"customer_id", "message_key"}.isdisjoint(table.c.keys())]


def _keep_out(ledger: Ledger, request: ErasureRequest) -> tuple[int, int]:
    with ledger.begin() as tx:
        dialect.close_gate(tx)
        addresses = add_address_suppressions(tx, request.addresses)
        add_suppressions(tx, [Suppression(request.customer_id, "all", ERASED, request.actor, request.at)])
        waiting = sa.select(_O.c.message_key).where(
            _O.c.customer_id == request.customer_id, _O.c.state.in_(["pending", "claimed"])
        )
        changes = Changes(lock_messages(tx, sorted(tx.execute(waiting).scalars())), request.at)
        for key, row in changes.rows.items():
            if row.state in ("pending", "claimed"):
                changes.leave(key, "skipped", "skipped", ERASED)
        changes.write(tx)
    return changes.applied, addresses


def _refuse_while_sending(tx: sa.Connection, request: ErasureRequest) -> None:
    query = sa.select(sa.func.max(_O.c.lease_until)).where(
        _O.c.customer_id == request.customer_id, _O.c.state == "sending"
    )
    until = tx.execute(query).scalar()
    if until is not None:
        raise LedgerError(
            f"a message to {request.customer_id} is leaving at this moment; the customer is suppressed from now on, "
            f"but nothing is erased yet. Run `retain deliver`, then erase again (at {until:%H:%M:%S} UTC at the latest)"
        )


def _record(tx: sa.Connection, request: ErasureRequest) -> str:
    """Record the erasure and give its pseudonym; whoever comes back and is erased again gets another one."""
    earlier = sa.select(sa.func.count()).where(_T.c.customer_mac == request.customer_mac)
    n = tx.execute(earlier).scalar_one()
    pseudonym = request.pseudonym if n == 0 else f"{request.pseudonym}-{n + 1}"
    tx.execute(
        sa.insert(_T).values(
            pseudonym=pseudonym,
            customer_mac=request.customer_mac,
            key_id=request.key_id,
            at=request.at,
            actor=request.actor,
        )
    )
    return pseudonym


def _release_all(tx: sa.Connection, request: ErasureRequest) -> None:
    """A pseudonym is written to by nobody; what kept the customer out is kept by the HMACs."""
    s = schema.suppressions
    active = (s.c.customer_id == request.customer_id, s.c.released_at.is_(None))
    tx.execute(sa.update(s).where(*active).values(released_at=request.at, release_source="erasure"))


def _rename(tx: sa.Connection, customer_id: str, pseudonym: str) -> int:
    if dialect.is_postgres(tx):
        tx.exec_driver_sql("SET CONSTRAINTS ALL DEFERRED")
    else:
        tx.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        tx.exec_driver_sql("PRAGMA secure_delete = ON")  # the old bytes are overwritten, not only freed
    keys = _new_keys(tx, customer_id, pseudonym)
    renamed = _rename_messages(tx, keys, pseudonym)
    for table in personal_tables():
        if table.name in _ELSEWHERE:
            continue
        if "message_key" in table.c:
            renamed += _replace(tx, table, "message_key", keys)
        if "customer_id" in table.c:
            renamed += _replace(tx, table, "customer_id", {customer_id: pseudonym})
    subjects = {customer_id: pseudonym, **keys}
    return renamed + _replace(tx, schema.audit, "subject", subjects)


def _new_keys(tx: sa.Connection, customer_id: str, pseudonym: str) -> dict[str, str]:
    """Old message key -> the same one with the pseudonym; keys are EXPERIMENT/CUSTOMER/..."""
    query = sa.select(_O.c.message_key, _O.c.experiment_id).where(_O.c.customer_id == customer_id)
    found = {}
    for key, experiment_id in tx.execute(query):
        rest = key.removeprefix(f"{experiment_id}/{customer_id}")
        found[key] = f"{experiment_id}/{pseudonym}{rest}"
    return found


def _rename_messages(tx: sa.Connection, keys: Mapping[str, str], pseudonym: str) -> int:
    for old, new in keys.items():
        tx.execute(sa.update(_O).where(_O.c.message_key == old).values(message_key=new, customer_id=pseudonym))
    return len(keys)


def _replace(tx: sa.Connection, table: sa.Table, column: str, values: Mapping[str, str]) -> int:
    return sum(
        tx.execute(sa.update(table).where(table.c[column] == old).values({column: new})).rowcount
        for old, new in values.items()
    )


def _forget_freed_pages(ledger: Ledger) -> None:
    """SQLite: write the log back and empty it, so that the old bytes do not stay there."""
    if ledger.dialect != "sqlite":
        return
    connection = ledger.engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
