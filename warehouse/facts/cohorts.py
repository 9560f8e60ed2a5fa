"""Customers given by the caller, joined to the facts: registered where the engine can, else in bounded lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from warehouse.facts.frames import fetch_frame, fetch_frames

if TYPE_CHECKING:
    import pandas as pd

    from warehouse.facts.store import Facts

COHORT: Final = sa.table("retain_cohort", sa.column("customer_id", sa.String()), sa.column("unit", sa.Integer()))
LISTED: Final = 5_000
"""Customers asked for by one IN list."""
FETCHED: Final = 50_000
"""Rows that come at a time when everybody's are read."""


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
    that of the engine. An engine that cannot take the cohort is asked for LISTED customers at a time, or, for sums over
    a larger cohort, once for everybody's, of which those of strangers are dropped as they come.
    """
    if facts.engine.dialect.name == "duckdb":
        yield _registered(facts, customer_ids, table, columns, condition, grouped=grouped)
        return
    places = {customer_id: place for place, customer_id in enumerate(customer_ids)}
    statement = sa.select(table.c.customer_id, *columns).where(condition)
    if grouped:
        statement = statement.group_by(table.c.customer_id)
    with facts.connection() as connection:
        if grouped and len(customer_ids) > LISTED:
            frames = fetch_frames(connection, statement, FETCHED)
        else:
            lists = (list(customer_ids[at : at + LISTED]) for at in range(0, len(customer_ids), LISTED))
            frames = (fetch_frame(connection, statement.where(table.c.customer_id.in_(ids))) for ids in lists)
        for frame in frames:
            known = frame[frame["customer_id"].isin(places)]
            units = known["customer_id"].map(places).astype("int64")
            yield known.drop(columns="customer_id").assign(unit=units)


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
