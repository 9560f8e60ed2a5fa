"""What runs promised by their offers: customers and expected cost, recorded with the run and hard against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from warehouse.ledger.errors import LedgerError
from warehouse.ledger.offer_tables import promises
from warehouse.ledger.schema import budgets

_T = promises


class OverBudgetError(LedgerError):
    """A run would promise more than the budget of its campaign has left."""


@dataclass(frozen=True, slots=True)
class Promised:
    """What one arm of a run promises by one offer (NAME, or NAME/TIER), and what that is expected to cost."""

    arm: str
    offer: str
    customers: int
    cost_micros: int


def record_promises(
    tx: sa.Connection, campaign: str, wave_id: str, promised: Sequence[Promised], *, limit_micros: int | None
) -> None:
    """Record what a run promises, in the transaction that opens it; recording the same again changes nothing.

    Raises OverBudgetError where all runs of the campaign together would promise more than `limit_micros`.
    """
    lock = sa.select(budgets.c.campaign).where(budgets.c.campaign == campaign)
    tx.execute(lock.with_for_update()).all()  # two runs at once: the second one sees what the first has promised
    if promises_of_wave(tx, wave_id):
        return
    cost = sum(row.cost_micros for row in promised)
    spent = promised_cost(tx, campaign)
    if limit_micros is not None and cost and spent + cost > limit_micros:
        raise OverBudgetError(
            f"campaign {campaign}: this run promises {cost / 1e6:.2f} of discounts, the budget has "
            f"{max(0, limit_micros - spent) / 1e6:.2f} left, because another run was applied since it was planned; "
            "nothing was recorded; plan again"
        )
    rows: list[dict[str, Any]] = [
        {
            "wave_id": wave_id,
            "campaign": campaign,
            "arm": row.arm,
            "offer": row.offer,
            "customers": row.customers,
            "cost_micros": row.cost_micros,
        }
        for row in promised
    ]
    if rows:
        tx.execute(sa.insert(_T), rows)


def promised_cost(tx: sa.Connection, campaign: str, *, but: str | None = None) -> int:
    """What all runs of the campaign are expected to cost in offers, in millionths; without the wave `but`."""
    query = sa.select(sa.func.coalesce(sa.func.sum(_T.c.cost_micros), 0)).where(_T.c.campaign == campaign)
    if but is not None:
        query = query.where(_T.c.wave_id != but)
    return int(tx.execute(query).scalar() or 0)


def promises_of_wave(tx: sa.Connection, wave_id: str) -> list[Promised]:
    """What one run promised, by arm and offer."""
    query = sa.select(_T.c.arm, _T.c.offer, _T.c.customers, _T.c.cost_micros).where(_T.c.wave_id == wave_id)
    return [Promised(*row) for row in tx.execute(query.order_by(_T.c.arm, _T.c.offer))]
