"""How a campaign's messages fare on a channel: taken, bounced, complained about, by the slot in which they left.

What is heard of a message later counts in the slot of the message, so that a share is always of the messages that it is
a share of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warehouse.ledger import account_tables, dialect, schema
from warehouse.ledger.claim_rules import campaign_of
from warehouse.ledger.engine import Ledger

SLOT: Final = timedelta(minutes=10)
"""Messages that left within the same ten minutes are counted together."""

Kind = Literal["bounce", "complaint"]

_T = account_tables.delivery_tallies
_H = account_tables.delivery_troubles
_O = schema.outbox
_COLUMN: Final[Mapping[str, str]] = {"bounce": "bounced", "complaint": "complained"}


@dataclass(frozen=True, slots=True)
class Tally:
    """How many messages of a campaign on a channel left in a slot, and of how many of them harm was heard."""

    campaign: str
    channel: str
    slot_at: datetime
    sent: int
    bounced: int
    complained: int


def count_sent(ledger: Ledger, messages: Iterable[tuple[str, str]], *, at: datetime) -> None:
    """Count messages, as (campaign, channel), that a provider took or refused for their address at an instant."""
    counts = Counter(messages)
    if not counts:
        return
    with ledger.begin(durable=False) as tx:
        for (campaign, channel), n in sorted(counts.items()):
            _add(tx, (campaign, channel, _slot(at)), {"sent": n})


def count_troubles(ledger: Ledger, troubles: Iterable[tuple[str, Kind]], *, at: datetime) -> int:
    """Count troubles, as (message_key, kind), each once however often it is heard; give how many were new."""
    wanted = sorted(set(troubles))
    if not wanted:
        return 0
    with ledger.begin() as tx:
        columns = (_O.c.message_key, _O.c.experiment_id, _O.c.channel, _O.c.intent_at)
        rows = tx.execute(
            sa.select(*columns).where(dialect.among(tx, _O.c.message_key, [k for k, _ in wanted])).order_by(columns[0])
        )
        places = {key: (campaign_of(of), channel, _slot(left or at)) for key, of, channel, left in rows}
        values = [{"message_key": key, "kind": kind, "at": at} for key, kind in wanted if key in places]
        if not values:
            return 0
        insert = _insert(tx, _H).values(values).on_conflict_do_nothing()
        new = list(tx.execute(insert.returning(_H.c.message_key, _H.c.kind)).all())
        counts = Counter((places[key], _COLUMN[kind]) for key, kind in new)
        for (place, column), n in sorted(counts.items()):
            _add(tx, place, {column: n})
        return len(new)


def tallies(tx: sa.Connection, *, since: datetime) -> list[Tally]:
    """List the tallies of slots that began at an instant or later, in order."""
    query = sa.select(_T).where(_T.c.slot_at >= since).order_by(_T.c.campaign, _T.c.channel, _T.c.slot_at)
    return [Tally(**row) for row in tx.execute(query).mappings()]


def _add(tx: sa.Connection, place: tuple[str, str, datetime], counts: Mapping[str, int]) -> None:
    campaign, channel, slot_at = place
    insert = _insert(tx, _T).values(campaign=campaign, channel=channel, slot_at=slot_at, **counts)
    more = {name: _T.c[name] + n for name, n in counts.items()}
    tx.execute(insert.on_conflict_do_update(index_elements=[_T.c.campaign, _T.c.channel, _T.c.slot_at], set_=more))


def _insert(tx: sa.Connection, table: sa.Table) -> Any:
    return postgresql.insert(table) if dialect.is_postgres(tx) else sqlite.insert(table)


def _slot(at: datetime) -> datetime:
    seconds = SLOT.total_seconds()
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)
