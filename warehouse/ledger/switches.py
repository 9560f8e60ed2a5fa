"""Switches: pausing one campaign or everything; after the commit of a pause nothing of it is claimed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.engine import Ledger

EVERYTHING: Final = "*"
"""The scope that holds for every campaign."""

_T = schema.switches


def pause(ledger: Ledger, scope: str, *, by: str, reason: str, at: datetime) -> bool:
    """Pause a campaign, or EVERYTHING; False when it was paused already. Waits for claims under way to commit."""
    return _set(ledger, scope, True, {"changed_by": by, "reason": reason, "changed_at": at})


def resume(ledger: Ledger, scope: str, *, by: str, reason: str, at: datetime) -> bool:
    """Let a paused campaign, or EVERYTHING, go on; False when it was not paused."""
    return _set(ledger, scope, False, {"changed_by": by, "reason": reason, "changed_at": at})


def paused(tx: sa.Connection) -> set[str]:
    """Give the scopes that are paused."""
    return set(tx.execute(sa.select(_T.c.scope).where(_T.c.paused)).scalars())


def _set(ledger: Ledger, scope: str, value: bool, note: dict[str, object]) -> bool:
    with ledger.begin() as tx:
        dialect.close_gate(tx)
        before = tx.execute(sa.select(_T.c.paused).where(_T.c.scope == scope)).scalar()
        if bool(before) == value:
            return False
        if before is None:
            tx.execute(sa.insert(_T).values(scope=scope, paused=value, **note))
        else:
            tx.execute(sa.update(_T).where(_T.c.scope == scope).values(paused=value, **note))
        return True
