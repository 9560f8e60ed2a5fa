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
_O = schema.outbox


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


def assigned_customers(tx: sa.Connection, experiment_id: str) -> set[str]:
    """Give everyone who has an arm in the experiment."""
    return set(tx.execute(sa.select(_A.c.customer_id).where(_A.c.experiment_id == experiment_id)).scalars())


def assigned_before(tx: sa.Connection, campaign: str, *, since: datetime | None = None) -> set[str]:
    """Give everyone who had an arm in any epoch of the campaign (assigned at `since` or later, when given)."""
    query = sa.select(_A.c.customer_id).where(_A.c.experiment_id.in_(_epochs(campaign)))
    if since is not None:
        query = query.where(_A.c.assigned_at >= since)
    return set(tx.execute(query.distinct()).scalars())


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


def recent_message_counts(
    tx: sa.Connection, *, since: datetime, channel: str | None = None, include_planned: bool = False
) -> dict[str, int]:
    """Count each customer's messages that left or may have, claimed after `since`, over all campaigns.

    With `include_planned` also those that wait to leave. Customers without any are not in the answer.
    """
    left = sa.and_(_O.c.state.in_(schema.COUNTED), _O.c.claimed_at > since)
    wanted = sa.or_(left, _O.c.state == "pending") if include_planned else left
    query = sa.select(_O.c.customer_id, sa.func.count()).where(wanted).group_by(_O.c.customer_id)
    if channel is not None:
        query = query.where(_O.c.channel == channel)
    return {customer: int(n) for customer, n in tx.execute(query)}


def _epochs(campaign: str) -> sa.Select[tuple[str]]:
    return sa.select(_E.c.experiment_id).where(_E.c.campaign == campaign)
