"""Consent: what customers said yes and no to, when, where and in which words; only ever added to.

A statement has a scope: a channel and a topic, each of them possibly "all". Within a scope the newest statement counts
(of two at one instant the withdrawal). Where several scopes cover a message a withdrawal in any of them stops it. So a
withdrawal is in force as a suppression with the reason `withdrawn`, checked where every suppression is, and a newer
grant of the same scope releases it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from campaigns.words import EVERY_TOPIC
from warehouse.ledger import dialect, schema
from warehouse.ledger.consent_tables import consents as _T  # noqa: N812 - as every module here names its table
from warehouse.ledger.engine import Ledger
from warehouse.ledger.suppressions import Suppression, add_suppressions

WITHDRAWN: Final = "withdrawn"
_CHUNK: Final = 2_000


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing a customer said. `wording`: the version of the words that were agreed to, or refused."""

    customer_id: str
    channel: str
    given: bool
    at: datetime
    source: str
    wording: str = ""
    topic: str = EVERY_TOPIC


def record_consents(ledger: Ledger, statements: Iterable[Statement], *, takes_effect: bool = True) -> int:
    """Add statements, and let the newest of each scope take effect; give how many were new.

    One transaction for each 2,000: after its commit no message that it forbids is claimed. Saying it again changes
    nothing, so a killed import is simply run again.
    """
    everything = list(statements)
    new = 0
    for start in range(0, len(everything), _CHUNK):
        with ledger.begin() as tx:
            dialect.close_gate(tx)
            new += add_consents(tx, everything[start : start + _CHUNK], takes_effect=takes_effect)
    return new


def add_consents(tx: sa.Connection, statements: Sequence[Statement], *, takes_effect: bool = True) -> int:
    """Add statements within a transaction that has closed the gate; give how many were new.

    Without `takes_effect` they are only kept: whoever says them has suppressed or released already.
    """
    customers = sorted({each.customer_id for each in statements})
    known = {_content(row) for row in _rows(tx, customers)}
    fresh = [each for each in dict.fromkeys(statements) if _key(each) not in known]
    if not fresh:
        return 0
    columns = ("customer_id", "channel", "topic", "given", "at", "source", "wording")
    tx.execute(sa.insert(_T), [{name: getattr(each, name) for name in columns} for each in fresh])
    if takes_effect:
        _take_effect(tx, _newest(_rows(tx, customers)), {(s.customer_id, s.channel, s.topic) for s in fresh})
    return len(fresh)


def granted(tx: sa.Connection, channel: str, *, topic: str = EVERY_TOPIC) -> set[str]:
    """Give the customers whose newest statement of some scope that covers the channel and the topic is a grant."""
    query = sa.select(_T).where(_covers(channel, topic)).order_by(_T.c.at, _T.c.given.desc(), _T.c.consent_id)
    return _granted(_newest(tx.execute(query)))


def granted_among(tx: sa.Connection, customer_ids: Iterable[str], channel: str, *, topic: str) -> set[str]:
    """Give those of the customers whose newest statement of some covering scope is a grant."""
    return _granted(_newest(_rows(tx, sorted(set(customer_ids)), _covers(channel, topic))))


def consents_of(tx: sa.Connection, customer_id: str) -> list[dict[str, object]]:
    """List every statement of a customer, in the order of time."""
    return [dict(row._mapping) for row in _rows(tx, [customer_id])]


def _rows(tx: sa.Connection, customers: Sequence[str], *conditions: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
    query = sa.select(_T).where(dialect.among(tx, _T.c.customer_id, customers), *conditions)
    return list(tx.execute(query.order_by(_T.c.at, _T.c.given.desc(), _T.c.consent_id)))


def _covers(channel: str, topic: str) -> sa.ColumnElement[bool]:
    return sa.and_(_T.c.channel.in_([channel, "all"]), _T.c.topic.in_([topic, EVERY_TOPIC]))


def _newest(rows: Iterable[sa.Row[Any]]) -> dict[tuple[str, str, str], sa.Row[Any]]:
    """The last statement of each (customer, channel, topic); rows come in the order of time, grants first."""
    return {(row.customer_id, row.channel, row.topic): row for row in rows}


def _granted(newest: dict[tuple[str, str, str], sa.Row[Any]]) -> set[str]:
    return {customer for (customer, _, _), row in newest.items() if row.given}


def _take_effect(
    tx: sa.Connection, newest: dict[tuple[str, str, str], sa.Row[Any]], touched: set[tuple[str, str, str]]
) -> None:
    """Suppress the scopes whose newest statement is a withdrawal, release those where it is a grant."""
    said = [(scope, newest[scope]) for scope in sorted(touched)]
    add_suppressions(
        tx,
        [
            Suppression(scope[0], scope[1], WITHDRAWN, row.source, row.at, topic=scope[2])
            for scope, row in said
            if not row.given
        ],
    )
    s = schema.suppressions
    for (customer_id, channel, topic), row in said:
        if row.given:
            tx.execute(
                sa.update(s)
                .where(
                    s.c.customer_id == customer_id,
                    s.c.channel == channel,
                    s.c.topic == topic,
                    s.c.reason == WITHDRAWN,
                    s.c.released_at.is_(None),
                )
                .values(released_at=row.at, release_source=row.source)
            )


def _content(row: sa.Row[Any]) -> tuple[object, ...]:
    return (row.customer_id, row.channel, row.topic, row.given, row.at, row.source, row.wording)


def _key(each: Statement) -> tuple[object, ...]:
    return (each.customer_id, each.channel, each.topic, each.given, each.at, each.source, each.wording)
