"""What runs promised by their offers: customers and expected cost, held hard against the campaign's budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from warehouse.ledger import schema
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.offer_tables import promises
from warehouse.ledger.schema import budgets

if TYPE_CHECKING:
    import pandas as pd

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


def offered(tx: sa.Connection, wave_id: str) -> pd.DataFrame:
    """Everybody of a wave to whom an offer was made, by customer.

    Columns: customer_id, arm, offer (NAME, or NAME/TIER), code (None without one), reached (whether a provider took a
    message, or may have).
    """
    import pandas as pd

    a, o = schema.assignments, schema.outbox
    left = sa.case((o.c.state.in_(["sent", "delivered", "in_doubt"]), 1), else_=0)
    own = (o.c.experiment_id == a.c.experiment_id) & (o.c.customer_id == a.c.customer_id)
    query = (
        sa.select(a.c.customer_id, a.c.arm, o.c.offer, sa.func.max(o.c.code), sa.func.max(left))
        .select_from(a.join(o, own))
        .where(
            a.c.experiment_id == wave_id.partition("@")[0],
            a.c.wave_id == wave_id,
            o.c.offer.is_not(None),
        )
        .group_by(a.c.customer_id, a.c.arm, o.c.offer)
        .order_by(a.c.customer_id)
    )
    rows = [tuple(row) for row in tx.execute(query)]
    frame = pd.DataFrame(rows, columns=["customer_id", "arm", "offer", "code", "reached"], dtype=object)
    return frame.assign(reached=frame["reached"] == 1)
