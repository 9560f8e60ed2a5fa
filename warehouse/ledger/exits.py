"""Exits: customers who left a sequence early, so that the steps meant for those who did not are skipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.changes import Changes
from warehouse.ledger.engine import Ledger
from warehouse.ledger.messages import lock_messages

_X = schema.exits
_O = schema.outbox


_BETWEEN: Final = sa.literal_column("'\n'", sa.Text())
"""What stands between two reasons of `unless` (campaigns.exit_conditions writes them line by line)."""


@dataclass(frozen=True, slots=True)
class Conditional:
    """A pending message that may have to be left out: `unless` holds the reasons, line by line."""

    message_key: str
    experiment_id: str
    customer_id: str
    unless: str
    code: str | None
    assigned_at: datetime


def names(unless: sa.ColumnElement[Any], reason: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether the reasons of a message name this one. Taking it out changes the text, on either database."""
    text = _BETWEEN + unless + _BETWEEN
    return sa.func.replace(text, _BETWEEN + reason + _BETWEEN, "") != text


def due_conditionals(
    ledger: Ledger, *, after: datetime | None, until: datetime, experiments: Iterable[str], rows: int = 20_000
) -> Iterator[list[Conditional]]:
    """Give the pending messages with conditions that may leave from an instant in (after, until], `rows` at a time."""
    a = schema.assignments
    query = (
        sa.select(_O.c.message_key, _O.c.experiment_id, _O.c.customer_id, _O.c.unless, _O.c.code, a.c.assigned_at)
        .join(a, (a.c.experiment_id == _O.c.experiment_id) & (a.c.customer_id == _O.c.customer_id))
        .where(
            sa.text("outbox.state = 'pending'"),
            _O.c.experiment_id.in_(sorted(experiments)),
            _O.c.channel.in_(schema.CHANNELS),  # all there are: so the index of what is due leads to the instants
            _O.c.unless.is_not(None),
            _O.c.not_before <= until,
        )
        .execution_options(yield_per=rows)
    )
    if after is not None:
        query = query.where(_O.c.not_before > after)
    with ledger.read() as tx:
        for part in tx.execute(query).partitions():
            yield [Conditional(*row) for row in part]


def is_awaited(tx: sa.Connection, reason: str) -> bool:
    """Whether any pending message names the reason."""
    query = sa.select(_O.c.step).where(
        sa.text("outbox.state = 'pending'"), _O.c.unless.is_not(None), names(_O.c.unless, sa.literal(reason))
    )
    return tx.execute(query.limit(1)).first() is not None


def conditionals_of(
    tx: sa.Connection, customers: Iterable[str], reason: str, *, written_by: schema.Channel
) -> dict[str, set[str]]:
    """Give the experiments in which messages of these customers name the reason: experiment -> its customers.

    Only those whom the experiment has written to on the channel `written_by`: the others cannot have answered it.
    """
    first = _O.alias("first")
    written = sa.exists().where(
        first.c.experiment_id == _O.c.experiment_id,
        first.c.customer_id == _O.c.customer_id,
        first.c.channel == written_by,
        first.c.intent_at.is_not(None),
    )
    query = (
        sa.select(_O.c.experiment_id, _O.c.customer_id)
        .where(
            dialect.among(tx, _O.c.customer_id, sorted(set(customers))),
            names(_O.c.unless, sa.literal(reason)),
            written,
        )
        .distinct()
    )
    found: dict[str, set[str]] = {}
    for experiment_id, customer_id in tx.execute(query):
        found.setdefault(experiment_id, set()).add(customer_id)
    return found


def record_exits(ledger: Ledger, experiment_id: str, customers: Iterable[str], *, reason: str, at: datetime) -> int:
    """Record that customers left for `reason` (such as purchased), and skip their pending steps with that `unless`.

    Gives how many messages were skipped. Recording an exit twice changes nothing.
    """
    wanted = sorted(set(customers))
    with ledger.begin() as tx:
        known = sa.select(_X.c.customer_id).where(
            _X.c.experiment_id == experiment_id, _X.c.reason == reason, dialect.among(tx, _X.c.customer_id, wanted)
        )
        recorded = set(tx.execute(known).scalars())
        new = [customer for customer in wanted if customer not in recorded]
        if new:
            row = {"experiment_id": experiment_id, "reason": reason, "at": at}
            tx.execute(sa.insert(_X), [{**row, "customer_id": customer} for customer in new])
        waiting = sa.select(_O.c.message_key).where(
            _O.c.experiment_id == experiment_id,
            dialect.among(tx, _O.c.customer_id, wanted),
            names(_O.c.unless, sa.literal(reason)),
            _O.c.state == "pending",
        )
        changes = Changes(lock_messages(tx, sorted(tx.execute(waiting).scalars())), at)
        for key, row_now in changes.rows.items():
            if row_now.state == "pending":
                changes.leave(key, "skipped", "skipped", reason)
        changes.write(tx)
    return changes.applied
