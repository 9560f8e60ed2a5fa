"""What a message costs and who carries it, kept with the intent to send it, before anybody can tell its fate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.messages import adjust_budgets


class Cost(NamedTuple):
    """What one message costs: its segments (SMS only), and millionths of the currency unit."""

    segments: int | None
    micros: int


@dataclass(frozen=True, slots=True)
class Bill:
    """The provider that is about to get messages, and their costs by key."""

    provider: str
    costs: Mapping[str, Cost]


def keep_costs(tx: sa.Connection, bill: Bill, rows: Iterable[Sequence[Any]]) -> None:
    """Write what messages cost where that is not what they were planned to cost; the budgets follow.

    `rows`: message_key, experiment_id, segments and cost_micros as they are.
    """
    changed = [(row, bill.costs[row[0]]) for row in rows if tuple(row[2:4]) != bill.costs[row[0]]]
    dialect.update_rows(
        tx,
        schema.outbox,
        "message_key",
        {
            "message_key": [row[0] for row, _ in changed],
            "segments": [cost.segments for _, cost in changed],
            "cost_micros": [cost.micros for _, cost in changed],
        },
    )
    adjust_budgets(tx, ((row[1], 0, cost.micros - row[3]) for row, cost in changed))
