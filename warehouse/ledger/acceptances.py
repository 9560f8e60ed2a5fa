"""The news that nearly every message has: sent, told by the worker that holds it; taken in without reading each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from warehouse.ledger import dialect
from warehouse.ledger.changes import Settlement
from warehouse.ledger.messages import adjust_budgets
from warehouse.ledger.types import instant_text

_TOLD: Final = ("message_key", "provider", "provider_id", "provider_code", "segments", "cost_micros")


class Overtaken(Exception):  # noqa: N818 (no error: the caller reads the rows and decides on each)
    """Other news of some message came first, or its lease was lost: roll back."""


def part(news: Sequence[Settlement]) -> tuple[list[Settlement], list[Settlement]]:
    """Part plain acceptances under one fence, of messages named once, from all other news."""
    fence = next((item.fence for item in news if item.state == "sent"), None)
    named = Counter(item.message_key for item in news) if fence is not None else Counter()
    plain: list[Settlement] = []
    others: list[Settlement] = []
    for item in news:
        is_plain = (
            fence is not None
            and item.state == "sent"
            and item.fence == fence
            and named[item.message_key] == 1
            and item.reason is None
            and item.event_key is None
            and item.at is None
        )
        (plain if is_plain else others).append(item)
    return plain, others


def accept(tx: sa.Connection, plain: Sequence[Settlement], now: datetime) -> int:
    """Settle plain acceptances as `Changes` would, all or none; give how many.

    Raises Overtaken where a message is no longer being sent under the fence.
    """
    if not plain:
        return 0
    told = sorted(plain, key=lambda item: item.message_key)  # in key order, as others lock: no deadlock
    values = {name: [getattr(item, name) for item in told] for name in _TOLD}
    write = _accept_postgres if dialect.is_postgres(tx) else _accept_sqlite
    taken = write(tx, values, plain[0].fence, instant_text(now))
    if sum(n for _, n, _ in taken) != len(plain):
        raise Overtaken
    adjust_budgets(tx, ((experiment_id, 0, spent) for experiment_id, _, spent in taken))
    return len(plain)


# one statement: the update, its lines of history, and what the campaigns spent. The second look at a row, which the
# update needs to know what the row was, is by its place. A row that changes in between is not updated: Overtaken.
_POSTGRES: Final = """
WITH news AS (
  SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::bigint[])
    AS news(message_key, provider, provider_id, provider_code, segments, cost_micros)
), held AS (
  SELECT o.ctid AS place, o.lease_owner, o.cost_micros AS expected_micros, news.*
  FROM news JOIN outbox AS o ON o.message_key = news.message_key
  WHERE o.state = 'sending' AND o.fence = %s
), taken AS (
  UPDATE outbox AS o SET
    state = 'sent', reason = NULL, lease_owner = NULL, lease_until = NULL, settled_at = %s, updated_at = %s,
    provider = coalesce(held.provider, o.provider), provider_id = coalesce(held.provider_id, o.provider_id),
    provider_code = held.provider_code, segments = coalesce(held.segments, o.segments),
    cost_micros = coalesce(held.cost_micros, o.cost_micros)
  FROM held WHERE o.ctid = held.place AND o.state = 'sending' AND o.fence = %s
  RETURNING o.message_key, o.experiment_id, o.attempts, o.intent_at, o.cost_micros - held.expected_micros AS spent,
    held.lease_owner, held.provider, held.provider_id, held.provider_code
), told AS (
  INSERT INTO message_events
    (message_key, at, event, state, applied, attempt, began_at, worker, provider, provider_id, provider_code)
  SELECT message_key, %s, 'sent', 'sent', true, attempts, intent_at, lease_owner, provider, provider_id, provider_code
  FROM taken
)
SELECT experiment_id, count(*), sum(spent)::bigint FROM taken GROUP BY experiment_id
"""


def _accept_postgres(
    tx: sa.Connection, values: dict[str, list[Any]], fence: int | None, now: str
) -> list[tuple[str, int, int]]:
    arrays = [dialect.array_text(values[name]) for name in _TOLD]
    found = tx.exec_driver_sql(_POSTGRES, (*arrays, fence, now, now, fence, now))
    return [(row[0], int(row[1]), int(row[2])) for row in found]


_SQLITE_HELD: Final = """
SELECT message_key, experiment_id, attempts, intent_at, lease_owner, cost_micros, rowid FROM outbox
WHERE message_key IN (SELECT value FROM json_each(?)) AND state = 'sending' AND fence = ?
"""
_SQLITE_TAKE: Final = """
UPDATE outbox SET state = 'sent', reason = NULL, lease_owner = NULL, lease_until = NULL, settled_at = ?1,
  updated_at = ?1, provider = coalesce(?2, provider), provider_id = coalesce(?3, provider_id), provider_code = ?4,
  segments = coalesce(?5, segments), cost_micros = coalesce(?6, cost_micros)
WHERE rowid = ?7
"""
_SQLITE_TELL: Final = """
INSERT INTO message_events
  (message_key, at, event, state, applied, attempt, began_at, worker, provider, provider_id, provider_code)
VALUES (?, ?, 'sent', 'sent', 1, ?, ?, ?, ?, ?, ?)
"""


def _accept_sqlite(
    tx: sa.Connection, values: dict[str, list[Any]], fence: int | None, now: str
) -> list[tuple[str, int, int]]:
    keys = dialect.json_keys(values["message_key"])
    held = {row[0]: row for row in tx.exec_driver_sql(_SQLITE_HELD, (keys, fence)).all()}
    if len(held) != len(values["message_key"]):
        return []
    updates, events = [], []
    taken: dict[str, tuple[int, int]] = {}
    for key, provider, provider_id, code, segments, cost in zip(*(values[name] for name in _TOLD), strict=True):
        _, experiment_id, attempts, intent_at, owner, expected, rowid = held[key]
        updates.append((now, provider, provider_id, code, segments, cost, rowid))
        events.append((key, now, attempts, intent_at, owner, provider, provider_id, code))
        n, spent = taken.get(experiment_id, (0, 0))
        taken[experiment_id] = (n + 1, spent + (0 if cost is None else cost - expected))
    tx.exec_driver_sql(_SQLITE_TAKE, updates)
    tx.exec_driver_sql(_SQLITE_TELL, events)
    return [(experiment_id, n, spent) for experiment_id, (n, spent) in taken.items()]
