"""The order of a journey: which messages that may leave now come too soon after one that went before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from warehouse.ledger import schema
from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import LateMessage

_O = schema.outbox
_BEFORE: Final = _O.alias("before")
Gaps = Mapping[tuple[str, str, int, bool], timedelta]
"""Experiment, arm, step, whether it is a turn after the first -> how long after the message before it leaves."""


def too_soon(
    ledger: Ledger, gaps: Gaps, *, after: datetime | None, until: datetime, rows: int = 20_000
) -> list[tuple[LateMessage, datetime]]:
    """List pending messages due in (after, until] that must wait for one before them, with the instant they wait for.

    One of an earlier step or turn that still waits leaves at `until` at the earliest; any other counts from its last
    moment. What was skipped, or failed, holds nothing up.
    """
    columns = [_O.c[name] for name in LateMessage.__slots__]
    query = (
        sa.select(*columns, _O.c.turn, _BEFORE.c.state, _BEFORE.c.not_before.label("began_at"))
        .join(_BEFORE, (_BEFORE.c.customer_id == _O.c.customer_id) & (_BEFORE.c.experiment_id == _O.c.experiment_id))
        .where(
            sa.text("outbox.state = 'pending'"),
            _O.c.experiment_id.in_(sorted({experiment_id for experiment_id, *_ in gaps})),
            _O.c.channel.in_(schema.CHANNELS),  # all there are: so the index of what is due leads to the instants
            _O.c.not_before <= until,
            _O.c.expires_at > until,
            (_O.c.step > 1) | (_O.c.turn > 1),
            (_BEFORE.c.step < _O.c.step) | ((_BEFORE.c.step == _O.c.step) & (_BEFORE.c.turn < _O.c.turn)),
            _BEFORE.c.state.not_in(("skipped", "failed")),
        )
        .execution_options(yield_per=rows)
    )
    if after is not None:
        query = query.where(_O.c.not_before > after)
    found: dict[str, tuple[LateMessage, datetime]] = {}
    with ledger.read() as tx:
        for *values, turn, state, began_at in tx.execute(query):
            message = _message(values)
            gap = gaps.get((message.experiment_id, message.arm, message.step, turn > 1), timedelta(0))
            free_at = (max(began_at, until) if state == "pending" else began_at) + gap
            if free_at > max(until, found.get(message.message_key, (message, until))[1]):
                found[message.message_key] = (message, free_at)
    return list(found.values())


def _message(values: Sequence[Any]) -> LateMessage:
    named = dict(zip(LateMessage.__slots__, values, strict=True))
    return LateMessage(**{**named, "zones": tuple(zone for zone in named["zones"].split(",") if zone)})
