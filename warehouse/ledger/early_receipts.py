"""Receipts that name an SMS by the provider's id before the ledger knows that id: kept until it does, for a while."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warehouse.ledger import dialect, early_tables
from warehouse.ledger.engine import Ledger

KEPT: Final = timedelta(hours=2)
"""How long: well beyond a lease, after which the provider is asked about what is in doubt."""

_E = early_tables.early_receipts


class EarlyReceipt(NamedTuple):
    """What a provider said of a message that only it could name then. `suppress`: why not to write there again."""

    event_key: str
    provider: str
    provider_id: str
    event: str
    state: str
    reason: str | None
    code: str | None
    suppress: str | None
    at: datetime


def awaits_answers(tx: sa.Connection) -> bool:
    """Whether some SMS is under way of which the provider's id is not known yet: nothing can come early else."""
    # leased messages in the words of their index, else SQLite would read every message there ever was
    query = sa.text(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM outbox WHERE (outbox.state = 'claimed') <> (outbox.state = 'sending')"
        " AND outbox.state = 'sending' AND outbox.channel = 'sms')"
        " OR EXISTS (SELECT 1 FROM outbox WHERE outbox.state = 'in_doubt' AND outbox.channel = 'sms')"
    )
    return tx.execute(query).first() is not None


def keep_early(ledger: Ledger, receipts: Iterable[EarlyReceipt]) -> None:
    """Keep receipts, each once however often it comes."""
    values = [dict(zip(EarlyReceipt._fields, receipt, strict=True)) for receipt in receipts]
    if not values:
        return
    with ledger.begin() as tx:
        insert: Any = (postgresql.insert if dialect.is_postgres(tx) else sqlite.insert)(_E)
        tx.execute(insert.on_conflict_do_nothing(), values)


def early_receipts(tx: sa.Connection) -> list[EarlyReceipt]:
    """List what is kept, in the order of arrival."""
    query = sa.select(*(_E.c[name] for name in EarlyReceipt._fields)).order_by(_E.c.at, _E.c.event_key)
    return [EarlyReceipt(*row) for row in tx.execute(query)]


def forget_early(ledger: Ledger, event_keys: Iterable[str], *, before: datetime) -> None:
    """Drop the receipts that found their message, and those that came before an instant."""
    with ledger.begin() as tx:
        is_done = dialect.among(tx, _E.c.event_key, sorted(set(event_keys)))
        tx.execute(sa.delete(_E).where(is_done | (_E.c.at < before)))
