"""What customers did with their messages, and at which hour: opens and clicks that receipts told of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

import sqlalchemy as sa

from warehouse.ledger import dialect, schema

_E = schema.message_events
_O = schema.outbox

ENGAGED: Final = ("open", "click")
"""The events that tell when a customer looked; opens by a machine are none."""


class HourCount(NamedTuple):
    """How often a customer did one thing in one hour of the day (UTC, 0 to 23)."""

    customer_id: str
    kind: str
    hour: int
    n: int


def engaged(tx: sa.Connection, experiment_id: str, customers: Iterable[str], event: str) -> set[str]:
    """Give those of the customers who opened, or clicked in, a message of the experiment. Who clicked has opened."""
    events = ENGAGED if event == "open" else (event,)
    query = (
        sa.select(_O.c.customer_id.distinct())
        .select_from(_O.join(_E, _O.c.message_key == _E.c.message_key))
        .where(
            dialect.among(tx, _O.c.customer_id, sorted(set(customers))),
            _O.c.experiment_id == experiment_id,
            _E.c.event.in_(events),
        )
    )
    if event == "open":
        query = query.where(_O.c.channel == "email")
    return set(tx.execute(query).scalars())


def engagement_hours(tx: sa.Connection, channel: str, *, since: datetime, until: datetime) -> list[HourCount]:
    """Count each customer's opens and clicks of a channel's messages by hour of UTC, over all campaigns."""
    hour = (
        sa.extract("hour", sa.func.timezone("UTC", _E.c.at))
        if dialect.is_postgres(tx)
        else sa.func.substr(_E.c.at, 12, 2)
    )
    number = sa.cast(hour, sa.Integer).label("hour")
    query = (
        sa.select(_O.c.customer_id, _E.c.event, number, sa.func.count())
        .select_from(_E.join(_O, _O.c.message_key == _E.c.message_key))
        .where(
            sa.text("(event = 'open' OR event = 'click')"), _E.c.at >= since, _E.c.at < until, _O.c.channel == channel
        )
        .group_by(_O.c.customer_id, _E.c.event, number)
        .order_by(_O.c.customer_id, _E.c.event, number)
    )
    return [HourCount(*row) for row in tx.execute(query).all()]
