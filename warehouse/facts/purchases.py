"""What counts as a purchase and what counts as revenue: the one rule every feature and every outcome uses."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

REFUNDED: Final = ("refunded", "returned")
CANCELLED: Final = ("cancelled", "canceled", "voided", "failed")
"""Statuses (whatever their case) of orders that came to nothing."""


def is_purchase(orders: sa.FromClause) -> sa.ColumnElement[bool]:
    """A row is a purchase when its amount is not negative and its status is none of REFUNDED or CANCELLED.

    A free order (amount 0) is a purchase; a missing status is a completed order.
    """
    return sa.and_(orders.c.amount >= sa.literal_column("0"), _status(orders).not_in(REFUNDED + CANCELLED))


def counted_amount(orders: sa.FromClause, column: str = "amount") -> sa.ColumnElement[Any]:
    """What a row adds to revenue (or margin): the value of a purchase or of a negative row that was not cancelled.

    A negative row takes back an earlier order; a positive row with status refunded adds nothing.
    """
    is_refund = sa.and_(orders.c.amount < sa.literal_column("0"), _status(orders).not_in(CANCELLED))
    return sa.case((sa.or_(is_purchase(orders), is_refund), orders.c[column]))


def _status(orders: sa.FromClause) -> sa.ColumnElement[str]:
    return sa.func.coalesce(sa.func.lower(orders.c.status), "")
