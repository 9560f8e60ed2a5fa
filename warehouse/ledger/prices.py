"""What claimed messages really cost, written before anybody intends to send them: a budget is held to that."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.bills import Bill, Cost, keep_costs
from warehouse.ledger.engine import Ledger

_O = schema.outbox


def price(ledger: Ledger, costs: Mapping[str, Cost], worker: str, fence: int) -> dict[str, int]:
    """Write the costs of messages this worker has claimed; give what their campaigns have used up then, by campaign.

    What others have claimed counts too: of two workers the later one sees both. Where it is more than the budget,
    `release` the messages: the next claim judges them at their price.
    """
    with ledger.begin(durable=False) as tx:
        dialect.seek(tx)
        query = sa.select(_O.c.message_key, _O.c.experiment_id, _O.c.segments, _O.c.cost_micros).where(
            dialect.among(tx, _O.c.message_key, sorted(costs)),
            _O.c.state == "claimed",
            _O.c.lease_owner == worker,
            _O.c.fence == fence,
        )
        rows = tx.execute(query.order_by(_O.c.message_key).with_for_update()).all()
        keep_costs(tx, Bill("", costs), rows)
        campaigns = {row.experiment_id.rpartition(":")[0] for row in rows}
        b = schema.budgets
        used = sa.select(b.c.campaign, b.c.cost_micros).where(dialect.among(tx, b.c.campaign, sorted(campaigns)))
        return {row.campaign: row.cost_micros for row in tx.execute(used)}
