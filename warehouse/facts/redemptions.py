"""Orders that bear a discount code, and all orders of given customers: what offers were used for, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.facts.cohorts import Cohort, joined_rows
from warehouse.facts.dialects import epoch_us
from warehouse.facts.purchases import is_counted, is_purchase

if TYPE_CHECKING:
    import pandas as pd

    from warehouse.facts.store import Facts

_ZERO: Final[sa.ColumnElement[Any]] = sa.literal_column("0", sa.Integer())
_ONE: Final[sa.ColumnElement[Any]] = sa.literal_column("1", sa.Integer())


def orders_with_codes(facts: Facts, codes: Sequence[str], *, start: datetime, until: datetime) -> pd.DataFrame:
    """Purchases in [start, until) that bear one of the codes, whoever made them, in the order of code and order.

    Codes compare without case and without blanks around them. Columns: code (in lower case), order_id, customer_id,
    ordered_us (microseconds since 1970), amount (major units).

    Raises:
        FactsError: the engine refuses.
    """
    orders = facts.tables.orders
    # joined_rows joins by customer_id: here a code stands in its place
    coded = (
        sa.select(
            sa.func.lower(sa.func.trim(orders.c.discount_code)).label("customer_id"),
            orders.c.order_id.label("order_id"),
            orders.c.customer_id.label("buyer"),
            epoch_us(orders.c.ordered_at).label("ordered_us"),
            sa.cast(orders.c.amount, sa.Double()).label("amount"),
        )
        .where(
            orders.c.discount_code.is_not(None),
            is_purchase(orders),
            orders.c.ordered_at >= start,
            orders.c.ordered_at < until,
        )
        .subquery("coded_orders")
    )
    cohort = Cohort.of([code.strip().lower() for code in codes])
    columns = [coded.c[name] for name in ("order_id", "buyer", "ordered_us", "amount")]
    found = _together(joined_rows(facts, cohort, coded, columns, sa.true(), grouped=False), columns)
    keys = cohort.ids.to_pylist()
    named = found.assign(code=[keys[unit] for unit in found["unit"]]).rename(columns={"buyer": "customer_id"})
    wanted = named[["code", "order_id", "customer_id", "ordered_us", "amount"]]
    return wanted.sort_values(["code", "ordered_us", "order_id"], kind="stable", ignore_index=True)


def orders_of_customers(facts: Facts, customers: Sequence[str], *, start: datetime, until: datetime) -> pd.DataFrame:
    """Every order of the customers in [start, until), refunds and cancelled ones too, by customer and time.

    Columns: customer_id, order_id, ordered_us, amount (major units; what does not count is 0), bought (whether it is a
    purchase that stands), code (in lower case, empty without one).

    Raises:
        FactsError: the engine refuses.
    """
    orders = facts.tables.orders
    rows = (
        sa.select(
            orders.c.customer_id,
            orders.c.order_id.label("order_id"),
            epoch_us(orders.c.ordered_at).label("ordered_us"),
            sa.cast(sa.case((is_counted(orders), orders.c.amount), else_=_ZERO), sa.Double()).label("amount"),
            sa.case((is_purchase(orders), _ONE), else_=_ZERO).label("bought"),
            sa.func.coalesce(sa.func.lower(sa.func.trim(orders.c.discount_code)), "").label("code"),
        )
        .where(orders.c.ordered_at >= start, orders.c.ordered_at < until)
        .subquery("customer_orders")
    )
    cohort = Cohort.of(customers)
    columns = [rows.c[name] for name in ("order_id", "ordered_us", "amount", "bought", "code")]
    found = _together(joined_rows(facts, cohort, rows, columns, sa.true(), grouped=False), columns)
    ids = cohort.ids.to_pylist()
    named = found.assign(customer_id=[ids[unit] for unit in found["unit"]], bought=found["bought"] == 1)
    wanted = named[["customer_id", "order_id", "ordered_us", "amount", "bought", "code"]]
    return wanted.sort_values(["customer_id", "ordered_us", "order_id"], kind="stable", ignore_index=True)


def knows_codes(facts: Facts, *, start: datetime, until: datetime) -> bool:
    """Whether any order of the time bears a discount code: without one, no redemption can be told."""
    orders = facts.tables.orders
    query = (
        sa.select(_ONE.label("one"))
        .select_from(orders)
        .where(
            orders.c.ordered_at >= start,
            orders.c.ordered_at < until,
            sa.func.coalesce(orders.c.discount_code, "") != "",
        )
        .limit(1)
    )
    return len(facts.frame(query)) > 0


def _together(frames: Any, columns: Sequence[Any]) -> pd.DataFrame:
    import pandas as pd

    parts: list[pd.DataFrame] = [frame for frame in frames if len(frame)]
    if not parts:
        return pd.DataFrame({name: [] for name in (*(str(c.key) for c in columns), "unit")}).astype({"unit": "int64"})
    return pd.concat(parts, ignore_index=True)
