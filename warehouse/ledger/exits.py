"""Exits: customers who left a sequence early, so that the steps meant for those who did not are skipped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.changes import Changes
from warehouse.ledger.engine import Ledger
from warehouse.ledger.messages import lock_messages

_X = schema.exits
_O = schema.outbox


def record_exits(ledger: Ledger, experiment_id: str, customers: Iterable[str], *, reason: str, at: datetime) -> int:
    """Record that customers left for `reason` (such as purchased), and skip their pending steps with that `unless`.

    Gives how many messages were skipped. Recording an exit twice changes nothing.
    """
    wanted = sorted(set(customers))
    with ledger.begin() as tx:
        known = sa.select(_X.c.customer_id).where(
            _X.c.experiment_id == experiment_id, _X.c.reason == reason, dialect.among(tx, _X.c.customer_id, wanted)
        )
        recorded = set(tx.execute(known).scalars())
        new = [customer for customer in wanted if customer not in recorded]
        if new:
            row = {"experiment_id": experiment_id, "reason": reason, "at": at}
            tx.execute(sa.insert(_X), [{**row, "customer_id": customer} for customer in new])
        waiting = sa.select(_O.c.message_key).where(
            _O.c.experiment_id == experiment_id,
            dialect.among(tx, _O.c.customer_id, wanted),
            _O.c.unless == reason,
            _O.c.state == "pending",
        )
        changes = Changes(lock_messages(tx, sorted(tx.execute(waiting).scalars())), at)
        for key, row_now in changes.rows.items():
            if row_now.state == "pending":
                changes.leave(key, "skipped", "skipped", reason)
        changes.write(tx)
    return changes.applied
