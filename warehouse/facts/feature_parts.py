"""What features are made of: a customer's orders and events before an instant, summed up by the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.facts.dialects import DAY_US, byte_order, epoch_us, money_total, whole_division
from warehouse.facts.purchases import is_purchase, order_rows, purchase_rows

if TYPE_CHECKING:
    from warehouse.facts.store import Tables

Column = sa.ColumnElement[Any]

QUINTILES: Final = 5
COMPLAINT_OPENED: Final = "complaint_opened"
COMPLAINT_RESOLVED: Final = "complaint_resolved"
VISIT: Final = "visit"

_HOUR_US: Final = 3_600_000_000
_DAY: Final[Column] = sa.literal_column(str(DAY_US), sa.BigInteger())


def existed(customers: sa.FromClause, as_of: datetime) -> Column:
    """Whether a customer existed at an instant; one without created_at always did."""
    return sa.or_(customers.c.created_at.is_(None), customers.c.created_at < as_of)


def day_of(at: Column) -> Column:
    """Days of an instant since 1970 (UTC)."""
    return whole_division(epoch_us(at), _DAY)


def _hour_of(at: Column) -> Column:
    """Hour of the day of an instant (UTC)."""
    within: Column = (epoch_us(at) % _DAY + _DAY) % _DAY
    return whole_division(within, sa.literal_column(str(_HOUR_US), sa.BigInteger()))


def _recent(days: int, value: str) -> Callable[[sa.FromClause, datetime], Column]:
    def make(rows: sa.FromClause, as_of: datetime) -> Column:
        return sa.case((rows.c.ordered_at >= as_of - timedelta(days=days), rows.c[value]))

    return make


_AGGREGATES: Final[Mapping[str, Callable[[sa.FromClause, datetime], Column]]] = {
    "n": lambda rows, _: sa.func.count(rows.c.one),
    "n_180": lambda rows, as_of: sa.func.count(_recent(180, "one")(rows, as_of)),
    "n_365": lambda rows, as_of: sa.func.count(_recent(365, "one")(rows, as_of)),
    "spend": lambda rows, _: money_total(rows.c.revenue),
    "spend_365": lambda rows, as_of: money_total(_recent(365, "revenue")(rows, as_of)),
    "last_at": lambda rows, _: sa.func.max(rows.c.bought_at),
    "first_at": lambda rows, _: sa.func.min(rows.c.bought_at),
    "n_days": lambda rows, _: sa.func.count(sa.distinct(day_of(rows.c.bought_at))),
}
"""Sums over a customer's orders, by label; `rows` is what `order_rows` gives."""


@dataclass(frozen=True, slots=True)
class FeatureParts:
    """The parts of one query, all as of one instant; every part has at most one row a customer."""

    tables: Tables
    as_of: datetime

    def bought(self, labels: Collection[str]) -> sa.CTE:
        """The aggregates of that label over the orders of each customer who has any."""
        orders = self.tables.orders
        make_rows = purchase_rows if {"spend", "spend_365"}.isdisjoint(labels) else order_rows
        rows = make_rows(orders, orders.c.ordered_at < self.as_of)
        sums = [_AGGREGATES[label](rows, self.as_of).label(label) for label in sorted(labels)]
        return sa.select(rows.c.customer_id, *sums).group_by(rows.c.customer_id).cte("bought")

    def rfm(self, bought: sa.CTE, labels: Collection[str]) -> sa.CTE:
        """Quintiles 1 to 5 among the customers with a purchase, ties broken by customer_id."""
        by = {"rfm_r": "last_at", "rfm_f": "n", "rfm_m": "spend"}
        ntile = sa.func.ntile(sa.literal_column(str(QUINTILES)), type_=sa.Integer())
        tie = byte_order(bought.c.customer_id)
        scores = [ntile.over(order_by=[bought.c[by[label]], tie]).label(label) for label in sorted(labels)]
        return self._of_buyers(bought, "n", scores).cte("rfm")

    def tier(self, bought: sa.CTE) -> sa.CTE:
        """The customer's place by 365-day spend, highest first, and how many places there are."""
        order = [bought.c.spend_365.desc(), byte_order(bought.c.customer_id)]
        columns = [sa.func.row_number().over(order_by=order).label("place"), sa.func.count().over().label("places")]
        return self._of_buyers(bought, "n_365", columns).cte("tier")

    def _of_buyers(self, bought: sa.CTE, count: str, columns: Collection[Column]) -> sa.Select[Any]:
        """Columns over the customers of the instant with a purchase in the count."""
        customers = self.tables.customers
        return (
            sa.select(bought.c.customer_id, *columns)
            .select_from(bought.join(customers, customers.c.customer_id == bought.c.customer_id))
            .where(existed(customers, self.as_of), bought.c[count] > 0)
        )

    def complaints(self) -> sa.CTE:
        """How many complaints were opened and resolved, and when last."""
        events = self.tables.events
        opened = sa.case((events.c.event == COMPLAINT_OPENED, events.c.occurred_at))
        resolved = sa.case((events.c.event == COMPLAINT_RESOLVED, events.c.occurred_at))
        return (
            sa.select(
                events.c.customer_id,
                sa.func.count(opened).label("n_opened"),
                sa.func.count(resolved).label("n_resolved"),
                sa.func.max(opened).label("opened_at"),
                sa.func.max(resolved).label("resolved_at"),
            )
            .where(events.c.event.in_([COMPLAINT_OPENED, COMPLAINT_RESOLVED]), events.c.occurred_at < self.as_of)
            .group_by(events.c.customer_id)
            .cte("complaints")
        )

    def last_score(self, event: str) -> sa.CTE:
        """The value of the last event of that name that has one; of equal instants the greatest event_id."""
        events = self.tables.events
        order = [events.c.occurred_at.desc(), byte_order(events.c.event_id).desc()]
        turn = sa.func.row_number().over(partition_by=events.c.customer_id, order_by=order)
        scored = (
            sa.select(events.c.customer_id, events.c.value, turn.label("turn"))
            .where(events.c.event == event, events.c.occurred_at < self.as_of, events.c.value.is_not(None))
            .subquery(f"{event}_turns")
        )
        return _first_turn(scored, "value", f"last_{event}")

    def hours(self) -> sa.CTE:
        """The hour with most purchases and visits, the earliest of equals."""
        orders, events = self.tables.orders, self.tables.events
        bought = sa.and_(orders.c.ordered_at < self.as_of, is_purchase(orders))
        visited = sa.and_(events.c.occurred_at < self.as_of, events.c.event == VISIT)
        active = sa.union_all(
            sa.select(orders.c.customer_id, _hour_of(orders.c.ordered_at).label("hour")).where(bought),
            sa.select(events.c.customer_id, _hour_of(events.c.occurred_at).label("hour")).where(visited),
        ).subquery("active_hours")
        counted = (
            sa.select(active.c.customer_id, active.c.hour, sa.func.count().label("n"))
            .group_by(active.c.customer_id, active.c.hour)
            .subquery("hour_counts")
        )
        order = [counted.c.n.desc(), counted.c.hour]
        turn = sa.func.row_number().over(partition_by=counted.c.customer_id, order_by=order)
        turns = sa.select(counted.c.customer_id, counted.c.hour, turn.label("turn")).subquery("hour_turns")
        return _first_turn(turns, "hour", "best_hours")


def _first_turn(turns: sa.Subquery, column: str, name: str) -> sa.CTE:
    """The first row of each customer; its `n` is 1."""
    kept = sa.select(turns.c.customer_id, turns.c[column], turns.c.turn.label("n"))
    return kept.where(turns.c.turn == 1).cte(name)
