"""What the ledger holds against a plan: who took part already, what waits or has left, what is promised.

A plan may be made again to resume a run that was killed; what that very run (its experiment and as-of instant) recorded
is therefore left out everywhere here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from warehouse.ledger import schema
from warehouse.ledger.claim_rules import Cap

_A = schema.assignments
_E = schema.experiments
_O = schema.outbox

_OPEN_OR_GONE = ("pending", *schema.COUNTED)


def assigned_elsewhen(tx: sa.Connection, experiment_id: str, as_of: datetime) -> set[str]:
    """Everyone whom another run of the experiment, as of another instant, assigned."""
    query = sa.select(_A.c.customer_id).where(_A.c.experiment_id == experiment_id, _A.c.assigned_at != as_of)
    return set(tx.execute(query).scalars())


def assigned_in_earlier_epochs(
    tx: sa.Connection, campaign: str, experiment_id: str, *, since: datetime | None
) -> set[str]:
    """Everyone whom another epoch of the campaign assigned: after `since`, or ever."""
    epochs = sa.select(_E.c.experiment_id).where(_E.c.campaign == campaign, _E.c.experiment_id != experiment_id)
    query = sa.select(_A.c.customer_id).where(_A.c.experiment_id.in_(epochs))
    if since is not None:
        query = query.where(_A.c.assigned_at > since)
    return set(tx.execute(query).scalars())


def customers_at_cap(tx: sa.Connection, caps: Sequence[Cap], *, at: datetime, experiment_id: str) -> set[str]:
    """Everyone with as many messages as a cap allows, over all other experiments: left in its window, or waiting."""
    full: set[str] = set()
    for cap in caps:
        left = sa.and_(_O.c.state.in_(schema.COUNTED), _O.c.claimed_at > at - cap.window)
        waiting = sa.and_(_O.c.state == "pending", _O.c.expires_at > at)
        query = (
            sa.select(_O.c.customer_id)
            .where(_O.c.experiment_id != experiment_id, sa.or_(left, waiting))
            .group_by(_O.c.customer_id)
            .having(sa.func.count() >= cap.messages)
        )
        if cap.channel is not None:
            query = query.where(_O.c.channel == cap.channel)
        full.update(tx.execute(query).scalars())
    return full


def promised(tx: sa.Connection, campaign: str, *, experiment_id: str, as_of: datetime) -> tuple[int, int]:
    """What the campaign's other runs have used up or promised: messages, and their cost in millionths."""
    epochs = sa.select(_E.c.experiment_id).where(_E.c.campaign == campaign)
    own = sa.exists().where(
        _A.c.experiment_id == _O.c.experiment_id,
        _A.c.customer_id == _O.c.customer_id,
        _A.c.assigned_at == as_of,
        _A.c.experiment_id == experiment_id,
    )
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_O.c.cost_micros), 0)).where(
        _O.c.experiment_id.in_(epochs), _O.c.state.in_(_OPEN_OR_GONE), ~own
    )
    messages, cost_micros = tx.execute(query).one()
    return int(messages), int(cost_micros)
