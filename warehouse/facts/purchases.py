"""What counts as a purchase and what counts as revenue: the one rule every feature and every outcome uses."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

REFUNDED: Final = ("refunded", "returned")
CANCELLED: Final = ("cancelled", "canceled", "voided", "failed")
"""Statuses (whatever their case) of orders that came to nothing."""

_ZERO: Final[sa.ColumnElement[Any]] = sa.literal_column("0", sa.Integer())
_ONE: Final[sa.ColumnElement[Any]] = sa.literal_column("1", sa.Integer())


def is_purchase(orders: sa.FromClause) -> sa.ColumnElement[bool]:
    """A row is a purchase when its amount is not negative and its status is none of REFUNDED or CANCELLED.

    A free order (amount 0) is a purchase; a missing status is a completed order.
    """
    return sa.and_(orders.c.amount >= _ZERO, _status(orders).not_in(REFUNDED + CANCELLED))


def is_counted(orders: sa.FromClause) -> sa.ColumnElement[bool]:
    """A row counts as revenue (and margin) when it is a purchase, or a negative row that was not cancelled.

    A negative row takes back an earlier order; a positive row with status refunded adds nothing.
    """
    is_refund = sa.and_(orders.c.amount < _ZERO, _status(orders).not_in(CANCELLED))
    return sa.or_(is_purchase(orders), is_refund)


def purchase_rows(orders: sa.FromClause, condition: Any) -> sa.Subquery:
    """Purchases where the condition holds: customer_id, ordered_at, `one` (1) and `bought_at`."""
    columns = [orders.c.customer_id, orders.c.ordered_at, _ONE.label("one"), orders.c.ordered_at.label("bought_at")]
    return sa.select(*columns).where(condition, is_purchase(orders)).subquery("order_rows")


def order_rows(orders: sa.FromClause, condition: Any) -> sa.Subquery:
    """Orders where the condition holds: as `purchase_rows`, and `revenue` and `margin` of the rows that count.

    `one` and `bought_at` are missing in rows that are no purchase. One row's rules are worked out here once, however
    many sums are made of it.
    """
    bought, counted = is_purchase(orders), is_counted(orders)
    columns = [
        orders.c.customer_id,
        orders.c.ordered_at,
        sa.case((bought, _ONE)).label("one"),
        sa.case((bought, orders.c.ordered_at)).label("bought_at"),
        sa.case((counted, orders.c.amount)).label("revenue"),
        sa.case((counted, orders.c.margin)).label("margin"),
    ]
    return sa.select(*columns).where(condition).subquery("order_rows")


def _status(orders: sa.FromClause) -> sa.ColumnElement[str]:
    return sa.func.coalesce(sa.func.lower(orders.c.status), "")
