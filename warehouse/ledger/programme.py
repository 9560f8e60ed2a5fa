"""The global holdout's periods, and what the whole programme was measured to do; both are kept for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any

import sqlalchemy as sa

from warehouse.ledger.errors import LedgerError
from warehouse.ledger.programme_tables import holdout_periods, programme_results

_P = holdout_periods
_R = programme_results


@dataclass(frozen=True, slots=True)
class HoldoutPeriod:
    """Who the holdout was in [began_at, ended_at): those whose hash under `salt` falls below `share` (0..1)."""

    salt: str
    share: float
    began_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProgrammeRow:
    """One measurement of the whole programme, as it was recorded."""

    measured_at: datetime
    measurement: Mapping[str, Any]


def record_holdout(tx: sa.Connection, salt: str, share: float, *, at: datetime) -> bool:
    """Note that the holdout is this one from `at` on; False where it was so already, or is from a later instant on.

    Raises LedgerError where a later period is recorded with another holdout: the past is not written anew.
    """
    found = holdout_history(tx)
    current = [period for period in found if period.began_at <= at]
    if current and (current[-1].salt, current[-1].share) == (salt, share):
        return False
    later = [period for period in found if period.began_at > at]
    if later and (later[0].salt, later[0].share) == (salt, share):
        return False  # a run of the same morning, as of an earlier hour, that came after
    if later or (current and current[-1].began_at == at):
        known = (later or current)[0].began_at.isoformat()
        raise LedgerError(
            f"the global holdout from {at.isoformat()} on is not the one the ledger knows since {known}; "
            "set holdout.share, salt and rotate in retain.toml as they were, and change them from today on"
        )
    tx.execute(sa.insert(_P).values(salt=salt, share=share, began_at=at))
    return True


def holdout_history(tx: sa.Connection) -> list[HoldoutPeriod]:
    """List the periods, each ending where the next began."""
    rows = tx.execute(sa.select(_P.c.salt, _P.c.share, _P.c.began_at).order_by(_P.c.began_at)).all()
    ends = [row.began_at for row in rows[1:]]
    return [
        HoldoutPeriod(row.salt, row.share, row.began_at, end) for row, end in zip_longest(rows, ends) if row is not None
    ]


def record_programme(tx: sa.Connection, measurement: Mapping[str, Any], *, measured_at: datetime) -> None:
    """Append a measurement of the programme, unless the last one says the very same."""
    last = latest_programme(tx)
    if last is None or dict(last.measurement) != dict(measurement):
        tx.execute(sa.insert(_R).values(measured_at=measured_at, measurement=dict(measurement)))


def latest_programme(tx: sa.Connection) -> ProgrammeRow | None:
    """Give the last measurement of the programme."""
    query = sa.select(_R.c.measured_at, _R.c.measurement).order_by(_R.c.result_id.desc()).limit(1)
    row = tx.execute(query).first()
    return None if row is None else ProgrammeRow(row.measured_at, row.measurement)
