"""Where the addressees of messages live, as recorded with each message: what the law of a place hangs on."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from warehouse.ledger import dialect, schema

_O = schema.outbox


def places_of(tx: sa.Connection, keys: Sequence[str]) -> dict[str, str]:
    """Give the place of each message ("US-TX", "FR", or "" where only its zones are known) by message key."""
    query = sa.select(_O.c.message_key, _O.c.place).where(dialect.among(tx, _O.c.message_key, keys))
    return {row.message_key: row.place for row in tx.execute(query)}
