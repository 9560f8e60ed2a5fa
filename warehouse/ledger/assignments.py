"""Who has which arm: read for planning (who may not take part) and for measuring (who was assigned)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from warehouse.ledger import schema
from warehouse.ledger.errors import LedgerError

if TYPE_CHECKING:
    import pandas as pd

_A = schema.assignments


def assignments_frame(tx: sa.Connection, wave_id: str) -> pd.DataFrame:
    """Give the wave's customers as columns customer_id, arm, sorted by customer_id.

    Raises LedgerError when there is no such wave.
    """
    import pandas as pd

    w = schema.waves
    experiment_id = tx.execute(sa.select(w.c.experiment_id).where(w.c.wave_id == wave_id)).scalar()
    if experiment_id is None:
        raise LedgerError(f"no wave {wave_id} in the ledger; expected EXPERIMENT@INSTANT as waves() lists them")
    query = (
        sa.select(_A.c.customer_id, _A.c.arm)
        .where(_A.c.experiment_id == experiment_id, _A.c.wave_id == wave_id)
        .order_by(_A.c.customer_id)
    )
    rows = tx.execute(query).all()
    customers, arms = zip(*rows, strict=True) if rows else ((), ())
    return pd.DataFrame({"customer_id": pd.Series(customers, dtype=object), "arm": pd.Series(arms, dtype=object)})


def drawn_units(tx: sa.Connection, wave_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Count a wave's units by arm: all, and those that were drawn freely (no earlier epoch's draw counted for them)."""
    unit = sa.func.count(sa.func.coalesce(_A.c.unit, _A.c.customer_id).distinct())
    experiment_id = wave_id.rpartition("@")[0]
    query = sa.select(_A.c.arm, unit).where(_A.c.experiment_id == experiment_id, _A.c.wave_id == wave_id)
    found = [query, query.where(_A.c.stratum.is_(None))]
    every, freely = ({arm: int(n) for arm, n in tx.execute(q.group_by(_A.c.arm))} for q in found)
    return every, freely


def units_frame(tx: sa.Connection, wave_id: str) -> pd.DataFrame:
    """Give the wave's customers as columns customer_id, arm, unit (the household, or the customer), by customer_id."""
    import pandas as pd

    experiment_id = wave_id.rpartition("@")[0]
    unit = sa.func.coalesce(_A.c.unit, _A.c.customer_id)
    query = sa.select(_A.c.customer_id, _A.c.arm, unit).where(
        _A.c.experiment_id == experiment_id, _A.c.wave_id == wave_id
    )
    rows = tx.execute(query.order_by(_A.c.customer_id)).all()
    return pd.DataFrame([tuple(row) for row in rows], columns=["customer_id", "arm", "unit"], dtype=object)
