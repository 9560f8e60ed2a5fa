"""Suppressions: who must not be written to, on which channel, since when and why.

Every suppression stays as a row. A release does not remove it: it fills in `released_at`, once. So what holds now and
what held then can both be read from the one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from campaigns.words import EVERY_TOPIC
from warehouse.ledger import dialect, schema
from warehouse.ledger.engine import Ledger

_T = schema.suppressions


@dataclass(frozen=True, slots=True)
class Suppression:
    """One wish, or one fact, that stops messages: `channel` is sms, email, push or all; `topic` one topic or all."""

    customer_id: str
    channel: str
    reason: str
    source: str
    at: datetime
    topic: str = EVERY_TOPIC


def suppress(ledger: Ledger, customer_id: str, channel: str, reason: str, source: str, at: datetime) -> bool:
    """Suppress a customer on a channel, or on "all"; False when it was suppressed there for that reason already.

    Reasons: stop, unsubscribe, complaint, bounce, manual, withdrawn, erased. `source` says who told: a provider, a
    page, a person.
    After its commit no message of the customer on the channel is claimed; it waits for claims under way.
    """
    return suppress_many(ledger, [Suppression(customer_id, channel, reason, source, at)]) == 1


def suppress_many(ledger: Ledger, wishes: Iterable[Suppression]) -> int:
    """Suppress many at once, in one transaction; give how many were new."""
    with ledger.begin() as tx:
        dialect.close_gate(tx)
        return add_suppressions(tx, wishes)


def add_suppressions(tx: sa.Connection, wishes: Iterable[Suppression]) -> int:
    """Suppress within a transaction that has closed the gate; give how many were new."""
    new = 0
    for wish in wishes:
        active = _active(wish.customer_id, wish.channel, wish.reason, wish.topic)
        if tx.execute(sa.select(_T.c.suppression_id).where(*active)).first():
            continue
        tx.execute(
            sa.insert(_T).values(
                customer_id=wish.customer_id,
                channel=wish.channel,
                topic=wish.topic,
                reason=wish.reason,
                source=wish.source,
                at=wish.at,
            )
        )
        new += 1
    return new


def release_suppression(
    ledger: Ledger,
    customer_id: str,
    channel: str,
    *,
    source: str,
    at: datetime,
    reason: str | None = None,
    topic: str = EVERY_TOPIC,
) -> int:
    """Release a customer's suppressions of exactly this scope (a START, a person), of one reason or of every one.

    The scope is channel and topic, each of them possibly "all". Gives how many were released; messages skipped
    meanwhile stay skipped.
    """
    with ledger.begin() as tx:
        change = sa.update(_T).where(*_active(customer_id, channel, reason, topic))
        return tx.execute(change.values(released_at=at, release_source=source)).rowcount


def suppressed(tx: sa.Connection, channel: str, *, topic: str = EVERY_TOPIC) -> set[str]:
    """Give the customers suppressed on a channel now for messages about a topic; the wider scopes are included."""
    query = sa.select(_T.c.customer_id).where(
        _T.c.channel.in_([channel, "all"]), _T.c.topic.in_([topic, EVERY_TOPIC]), _T.c.released_at.is_(None)
    )
    return set(tx.execute(query.distinct()).scalars())


def is_suppressed(
    customer_id: sa.ColumnElement[str], channel: sa.ColumnElement[str], experiment_id: sa.ColumnElement[str]
) -> sa.ColumnElement[bool]:
    """Give the condition that a customer is suppressed on a channel for what an experiment is about."""
    e = schema.experiments
    topic = sa.select(e.c.topic).where(e.c.experiment_id == experiment_id).correlate_except(e).scalar_subquery()
    return sa.exists().where(
        _T.c.customer_id == customer_id,
        sa.or_(_T.c.channel == channel, _T.c.channel == "all"),
        sa.or_(_T.c.topic == EVERY_TOPIC, _T.c.topic == topic),
        _T.c.released_at.is_(None),
    )


def suppressions_of(tx: sa.Connection, customer_id: str) -> list[dict[str, object]]:
    """List everything ever recorded about a customer, oldest first."""
    query = sa.select(_T).where(_T.c.customer_id == customer_id).order_by(_T.c.at, _T.c.suppression_id)
    return [dict(row) for row in tx.execute(query).mappings()]


def _active(customer_id: str, channel: str, reason: str | None, topic: str) -> list[sa.ColumnElement[bool]]:
    conditions = [_T.c.customer_id == customer_id, _T.c.channel == channel, _T.c.topic == topic]
    conditions.append(_T.c.released_at.is_(None))
    return conditions if reason is None else [*conditions, _T.c.reason == reason]
