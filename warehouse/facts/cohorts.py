"""Customers given by the caller, joined to the facts: registered where the engine can, else in bounded lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from warehouse.facts.frames import fetch_frame

if TYPE_CHECKING:
    import pandas as pd

    from warehouse.facts.store import Facts

COHORT: Final = sa.table("retain_cohort", sa.column("customer_id", sa.String()), sa.column("unit", sa.Integer()))
LISTED: Final = 5_000
"""Customers asked for by one IN list."""


def joined_rows(
    facts: Facts,
    customer_ids: Sequence[str],
    table: sa.FromClause,
    columns: Sequence[Any],
    condition: Any,
    *,
    grouped: bool,
) -> Iterator[pd.DataFrame]:
    """Rows of a table that belong to the customers, with `unit`, the customer's place in the sequence.

    With `grouped` the columns are aggregates, one row a customer. Customers without a row are left out; the order is
    that of the engine. At most LISTED customers come at a time from engines that cannot take the whole cohort.
    """
    if facts.engine.dialect.name == "duckdb":
        yield _registered(facts, customer_ids, table, columns, condition, grouped=grouped)
        return
    places = {customer_id: place for place, customer_id in enumerate(customer_ids)}
    with facts.connection() as connection:
        for start in range(0, len(customer_ids), LISTED):
            ids = list(customer_ids[start : start + LISTED])
            statement = sa.select(table.c.customer_id, *columns).where(table.c.customer_id.in_(ids), condition)
            if grouped:
                statement = statement.group_by(table.c.customer_id)
            frame = fetch_frame(connection, statement)
            frame.insert(0, "unit", frame["customer_id"].map(places))
            yield frame.drop(columns="customer_id")


def _registered(
    facts: Facts,
    customer_ids: Sequence[str],
    table: sa.FromClause,
    columns: Sequence[Any],
    condition: Any,
    *,
    grouped: bool,
) -> pd.DataFrame:
    import pyarrow as pa

    cohort = pa.table(
        {
            "customer_id": pa.array(customer_ids, pa.string()),
            "unit": pa.array(np.arange(len(customer_ids), dtype=np.int32)),
        }
    )
    with facts.connection() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.register(COHORT.name, cohort)
        try:
            statement = (
                sa.select(COHORT.c.unit, *columns)
                .select_from(COHORT.join(table, table.c.customer_id == COHORT.c.customer_id))
                .where(condition)
            )
            return fetch_frame(connection, statement.group_by(COHORT.c.unit) if grouped else statement)
        finally:
            driver.unregister(COHORT.name)
