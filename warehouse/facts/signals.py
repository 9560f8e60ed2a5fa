"""What customers did since an instant of their own: visits, and orders with the code they were given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from warehouse.facts.cohorts import Cohort, joined_rows
from warehouse.facts.dialects import epoch_us, to_us
from warehouse.facts.feature_parts import VISIT
from warehouse.facts.purchases import is_purchase

if TYPE_CHECKING:
    from warehouse.facts.store import Facts


def visited_since(facts: Facts, since: Mapping[str, datetime], *, until: datetime) -> set[str]:
    """The customers with a visit in [since, until), `since` being given for each customer."""
    if not since:
        return set()
    events = facts.tables.events
    within = sa.and_(events.c.event == VISIT, *_between(events.c.occurred_at, since, until))
    last: Any = sa.func.max(epoch_us(events.c.occurred_at)).label("last_us")
    cohort = Cohort.of(list(since))
    ids = cohort.ids.to_pylist()
    return {
        ids[unit]
        for frame in joined_rows(facts, cohort, events, [last], within, grouped=True)
        for unit, last_us in zip(frame["unit"].tolist(), frame["last_us"].tolist(), strict=True)
        if last_us >= to_us(since[ids[unit]])
    }


def redeemed_since(
    facts: Facts, codes: Mapping[str, str], since: Mapping[str, datetime], *, until: datetime
) -> set[str]:
    """The customers who bought with their own of `codes` in [since, until); capitals and outer spaces do not matter."""
    if not codes:
        return set()
    orders = facts.tables.orders
    within = sa.and_(
        is_purchase(orders), orders.c.discount_code.is_not(None), *_between(orders.c.ordered_at, since, until)
    )
    columns: list[Any] = [orders.c.discount_code, epoch_us(orders.c.ordered_at).label("at_us")]
    cohort = Cohort.of(list(codes))
    ids = cohort.ids.to_pylist()
    return {
        ids[unit]
        for frame in joined_rows(facts, cohort, orders, columns, within, grouped=False)
        for unit, code, at_us in zip(
            frame["unit"].tolist(), frame["discount_code"].tolist(), frame["at_us"].tolist(), strict=True
        )
        if _plain(code) == _plain(codes[ids[unit]]) and at_us >= to_us(since[ids[unit]])
    }


def _between(column: Any, since: Mapping[str, datetime], until: datetime) -> tuple[Any, Any]:
    return column >= min(since.values()).astimezone(UTC), column < until


def _plain(code: str) -> str:
    return code.strip().casefold()
