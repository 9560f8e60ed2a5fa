"""What else happened to an experiment's customers: other experiments in the window, messages that left late."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.ledger import schema
from warehouse.ledger.waves import WaveRow

if TYPE_CHECKING:
    import pandas as pd

_A = schema.assignments
_E = schema.experiments
_M = schema.message_events
_O = schema.outbox
_W = schema.waves

NOT_IN_IT: Final = ""
"""Where the customers are counted who are not in the other experiment."""


def overlapping(
    tx: sa.Connection, wave: WaveRow, *, horizon: timedelta, sizes: Mapping[str, int]
) -> dict[str, dict[str, dict[str, int]]]:
    """Other experiments whose outcome windows overlap that of the wave: experiment -> our arm -> its arm -> customers.

    `sizes`: the wave's customers by arm. Those who are not in the other experiment are counted under "".
    """
    found: dict[str, dict[str, dict[str, int]]] = {}
    for other, its_horizon in _others(tx, wave, horizon):
        crossed = _crossed(tx, wave, other, (horizon, its_horizon))
        if crossed:
            found[other] = {
                arm: {**crossed.get(arm, {}), NOT_IN_IT: n - sum(crossed.get(arm, {}).values())}
                for arm, n in sizes.items()
            }
    return found


def shared_customers(tx: sa.Connection, wave: WaveRow, other: str, *, horizon: timedelta) -> pd.DataFrame:
    """The wave's customers whom another experiment drew while the windows overlap: customer_id, arm, in_control.

    `in_control` says whether the other experiment drew them into its control. Sorted by customer_id.
    """
    import pandas as pd

    design = tx.execute(sa.select(_E.c.design).where(_E.c.experiment_id == other)).scalar_one()
    theirs = _A.alias("theirs")
    within = _within(wave, theirs, other, (horizon, timedelta(days=float(design["horizon_days"]))))
    query = (
        sa.select(_A.c.customer_id, _A.c.arm, theirs.c.arm)
        .select_from(_A.join(theirs, theirs.c.customer_id == _A.c.customer_id))
        .where(within)
        .order_by(_A.c.customer_id)
    )
    rows = tx.execute(query).all()
    control = str(design.get("control", "control"))
    columns = ([row[0] for row in rows], [row[1] for row in rows], [row[2] == control for row in rows])
    names = ("customer_id", "arm", "in_control")
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in zip(names, columns, strict=True)})


def late_share(tx: sa.Connection, experiment_id: str) -> float | None:
    """Share of the messages that left, or expired, of which the planned slot was missed; None without any."""
    over = sa.or_(_O.c.state.in_(schema.COUNTED), sa.and_(_O.c.state == "skipped", _O.c.reason == "expired"))
    mine = sa.and_(_O.c.experiment_id == experiment_id, over)
    total = tx.execute(sa.select(sa.func.count()).select_from(_O).where(mine)).scalar_one()
    moved = sa.select(_M.c.message_key).where(_M.c.event == "moved", _M.c.applied.is_(sa.true()))
    missed = sa.or_(_O.c.reason == "expired", _O.c.intent_at >= _O.c.closes_at, _O.c.message_key.in_(moved))
    late = tx.execute(sa.select(sa.func.count()).select_from(_O).where(mine, missed)).scalar_one()
    return late / total if total else None


def _others(tx: sa.Connection, wave: WaveRow, horizon: timedelta) -> list[tuple[str, timedelta]]:
    """Other experiments with a wave whose outcome window overlaps ours, with their horizons."""
    found = []
    query = sa.select(_E.c.experiment_id, _E.c.design).where(_E.c.experiment_id != wave.experiment_id)
    for other, design in tx.execute(query.order_by(_E.c.experiment_id)).all():
        its_horizon = timedelta(days=float(design["horizon_days"]))
        within = sa.and_(
            _W.c.assigned_at < wave.assigned_at + horizon, _W.c.assigned_at > wave.assigned_at - its_horizon
        )
        if tx.execute(sa.select(_W.c.wave_id).where(_W.c.experiment_id == other, within).limit(1)).first():
            found.append((other, its_horizon))
    return found


def _crossed(
    tx: sa.Connection, wave: WaveRow, other: str, horizons: tuple[timedelta, timedelta]
) -> dict[str, dict[str, int]]:
    theirs = _A.alias("theirs")
    query = (
        sa.select(_A.c.arm, theirs.c.arm, sa.func.count())
        .select_from(_A.join(theirs, theirs.c.customer_id == _A.c.customer_id))
        .where(_within(wave, theirs, other, horizons))
        .group_by(_A.c.arm, theirs.c.arm)
        .order_by(_A.c.arm, theirs.c.arm)
    )
    crossed: dict[str, dict[str, int]] = {}
    for arm, its_arm, n in tx.execute(query):
        crossed.setdefault(arm, {})[its_arm] = int(n)
    return crossed


def _within(wave: WaveRow, theirs: Any, other: str, horizons: tuple[timedelta, timedelta]) -> sa.ColumnElement[bool]:
    """Rows of the wave, and of the other experiment while the outcome windows overlap."""
    return sa.and_(
        _A.c.experiment_id == wave.experiment_id,
        _A.c.wave_id == wave.wave_id,
        theirs.c.experiment_id == other,
        theirs.c.assigned_at < wave.assigned_at + horizons[0],
        theirs.c.assigned_at > wave.assigned_at - horizons[1],
    )
