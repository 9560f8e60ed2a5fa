"""Who has which arm: read for planning (who may not take part) and for measuring (who was assigned)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from warehouse.ledger import schema
from warehouse.ledger.errors import LedgerError

if TYPE_CHECKING:
    import pandas as pd

_A = schema.assignments
_E = schema.experiments


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


def layer_busy(tx: sa.Connection, campaigns: Iterable[str], *, as_of: datetime) -> set[str]:
    """Give everyone whom one of these campaigns holds at `as_of`: assigned, and the horizon not over (any epoch)."""
    busy: set[str] = set()
    query = sa.select(_E.c.experiment_id, _E.c.design).where(_E.c.campaign.in_(sorted(campaigns)))
    for experiment_id, design in tx.execute(query).all():
        horizon = timedelta(days=float(design["horizon_days"]))
        held = sa.select(_A.c.customer_id).where(
            _A.c.experiment_id == experiment_id, _A.c.assigned_at <= as_of, _A.c.assigned_at > as_of - horizon
        )
        busy.update(tx.execute(held).scalars())
    return busy
