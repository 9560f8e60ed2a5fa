"""Short links: the number of each link of a message, and where it leads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warehouse.ledger import dialect, link_tables, schema
from warehouse.ledger.engine import Ledger

_T = link_tables.short_links
_O = schema.outbox


@dataclass(frozen=True, slots=True)
class Target:
    """Where a link leads, and which message it stands in."""

    message_key: str
    position: int
    url: str
    channel: str
    provider: str | None


def number_targets(ledger: Ledger, targets: Iterable[tuple[str, int, str]]) -> dict[tuple[str, int], int]:
    """Give each target, as (message_key, position, url), its number; a number once given stays, whatever its page."""
    values = [{"message_key": key, "position": at, "url": url} for key, at, url in sorted(set(targets))]
    if not values:
        return {}
    with ledger.begin(durable=False) as tx:  # a durable intent follows before any link leaves
        insert: Any = (postgresql.insert if dialect.is_postgres(tx) else sqlite.insert)(_T)
        insert = insert.values(values)
        insert = insert.on_conflict_do_update(
            index_elements=[_T.c.message_key, _T.c.position], set_={"url": insert.excluded.url}
        )
        rows = tx.execute(insert.returning(_T.c.message_key, _T.c.position, _T.c.link_id))
        return {(key, position): link_id for key, position, link_id in rows}


def target_of(tx: sa.Connection, link_id: int) -> Target | None:
    """Give where the link of this number leads, None where there is none."""
    query = (
        sa.select(_T.c.message_key, _T.c.position, _T.c.url, _O.c.channel, _O.c.provider)
        .select_from(_T.join(_O, _O.c.message_key == _T.c.message_key))
        .where(_T.c.link_id == link_id)
    )
    row = tx.execute(query).first()
    return None if row is None else Target(*row)
