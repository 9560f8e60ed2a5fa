"""Messages of the outbox as the verbs see them: locked rows, what becomes of them, and the history they leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.types import instant_text

_O = schema.outbox


class MessageRow(NamedTuple):
    """What a verb needs to know of a message before it changes it."""

    message_key: str
    experiment_id: str
    state: str
    fence: int
    attempts: int
    lease_owner: str | None
    intent_at: datetime | None
    cost_micros: int
    provider: str | None
    provider_id: str | None
    segments: int | None


class Event(NamedTuple):
    """One line of a message's history, append-only. `applied`: it changed the message's state."""

    message_key: str
    at: datetime
    event: str
    state: str
    attempt: int
    applied: bool = True
    began_at: datetime | None = None
    worker: str | None = None
    reason: str | None = None
    provider: str | None = None
    provider_id: str | None = None
    provider_code: str | None = None
    event_key: str | None = None


_ROW_COLUMNS: Final = tuple(_O.c[name] for name in MessageRow._fields)


def message_key(experiment_id: str, customer_id: str, step: int, turn: int = 1, channel: str | None = None) -> str:
    """Name a message: EXPERIMENT/CUSTOMER/STEP, .TURN where its step has sent before, /CHANNEL in a fallback."""
    name = f"{experiment_id}/{customer_id}/{step}"
    if turn > 1:
        name = f"{name}.{turn}"
    return name if channel is None else f"{name}/{channel}"


def lock_messages(tx: sa.Connection, keys: Iterable[str]) -> dict[str, MessageRow]:
    """Read messages by key and keep others from changing them until the commit (in key order: no deadlock)."""
    query = sa.select(*_ROW_COLUMNS).where(dialect.among(tx, _O.c.message_key, keys)).order_by(_O.c.message_key)
    return {row[0]: MessageRow._make(row) for row in tx.execute(query.with_for_update()).all()}


def append_events(tx: sa.Connection, events: Sequence[Event]) -> None:
    """Append lines to the messages' histories."""
    if not events:
        return
    columns = dict(zip(Event._fields, zip(*events, strict=True), strict=True))
    for name in ("at", "began_at"):
        written = {value: instant_text(value) for value in set(columns[name]) if value is not None}
        columns[name] = tuple(map(written.get, columns[name]))
    dialect.insert_rows(tx, schema.message_events, columns)


def adjust_budgets(tx: sa.Connection, changes: Iterable[tuple[str, int, int]]) -> None:
    """Add (experiment_id, messages, cost_micros) changes to what the campaigns have used up, in campaign order."""
    sums: dict[str, tuple[int, int]] = {}
    for experiment_id, messages, cost in changes:
        n, spent = sums.get(experiment_id, (0, 0))
        sums[experiment_id] = (n + messages, spent + cost)
    totals: dict[str, tuple[int, int]] = {}
    for experiment_id, (messages, cost) in sums.items():
        campaign = experiment_id.rpartition(":")[0]
        n, spent = totals.get(campaign, (0, 0))
        totals[campaign] = (n + messages, spent + cost)
    b = schema.budgets
    for campaign, (messages, cost) in sorted(totals.items()):
        if messages or cost:
            used_up = {"messages": b.c.messages + messages, "cost_micros": b.c.cost_micros + cost}
            tx.execute(sa.update(b).where(b.c.campaign == campaign).values(**used_up))


def due_lanes(tx: sa.Connection, now: datetime, channels: Sequence[str] = schema.CHANNELS) -> list[tuple[str, str]]:
    """List (experiment, channel) pairs that have pending messages with not_before <= now: one index probe a pair."""
    return sorted(dialect.read(tx, _due_lanes, {"now": now, "keys": dialect.set_text(tx, channels)}))


def _due_lanes(postgres: bool) -> sa.Select[Any]:
    """Select the pairs whose channel is among :keys and that have something to send :now."""
    e = schema.experiments
    now = sa.bindparam("now", type_=_O.c.not_before.type)
    lane = sa.union_all(*(sa.select(sa.literal(channel).label("channel")) for channel in schema.CHANNELS))
    channel = lane.subquery("lane").c.channel
    # the earliest message, not "is there one": of that PostgreSQL makes a join with everything that is due
    earliest = (
        sa.select(_O.c.not_before)
        .where(
            sa.text("outbox.state = 'pending'"),  # literal: a bound value would not match the partial index
            _O.c.experiment_id == e.c.experiment_id,
            _O.c.channel == channel,
        )
        .order_by(_O.c.not_before, _O.c.closes_at)
        .limit(1)
        .scalar_subquery()
    )
    pairs = sa.select(e.c.experiment_id, channel).select_from(e).join(channel.table, sa.true())
    return pairs.where(dialect.in_set(postgres, channel), earliest <= now)
