"""Customers given by the caller, joined to the facts: registered where the engine can, else in bounded lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from warehouse.facts.errors import FactsError
from warehouse.facts.frames import fetch_frame, fetch_frames, fetch_rows

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from warehouse.facts.store import Facts

LISTED: Final = 5_000
"""Customers asked for by one IN list."""
FEW: Final = 200
"""Customers up to whom a list is cheaper than a table of the cohort, where an engine takes both."""
FETCHED: Final = 50_000
"""Rows that come at a time when everybody's are read."""

_REGISTERED: Final = sa.table("retain_cohort", sa.column("customer_id", sa.String()), sa.column("unit", sa.Integer()))


@dataclass(frozen=True, slots=True)
class Cohort:
    """Customers sorted by the bytes of their id, each once; `unit` of a customer is the place in this order.

    `arms` are the names of the arms, sorted, and `arm_codes[unit]` the place of the unit's arm among them.
    """

    ids: pa.Array
    arms: tuple[str, ...] = ()
    arm_codes: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, customer_ids: Sequence[str]) -> Cohort:
        """A cohort of these customers, without arms; repeated ones count once."""
        return cls(pa.array(sorted(set(customer_ids), key=str.encode), pa.string()))

    @classmethod
    def of_frame(cls, frame: pd.DataFrame) -> Cohort:
        """A cohort from a frame with the columns customer_id and arm.

        Raises:
            FactsError: a customer stands in the frame twice.
        """
        import pandas as pd

        ids = pa.array(frame["customer_id"].astype("str"), pa.string())
        codes, names = pd.factorize(frame["arm"].astype("str"), sort=True)
        if not _ascends(ids):
            order = pc.sort_indices(ids)
            ids, codes = ids.take(order), codes[order.to_numpy()]
            if not _ascends(ids):
                raise FactsError(
                    "the cohort holds a customer twice; expected one row a customer. Merge the customer's rows first"
                )
        return cls(ids, tuple(names.tolist()), codes)

    def units_of(self, arm: str) -> NDArray[np.bool_]:
        """For every unit whether it is in the arm."""
        assert self.arm_codes is not None  # asked only of a cohort with arms
        return np.asarray(self.arm_codes == self.arms.index(arm))


def _ascends(ids: pa.Array) -> bool:
    return bool(pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py())


def joined_rows(
    facts: Facts, cohort: Cohort, table: sa.FromClause, columns: Sequence[Any], condition: Any, *, grouped: bool
) -> Iterator[pd.DataFrame]:
    """Rows of a table that belong to the customers, with the column `unit`.

    With `grouped` the columns are aggregates, one row a customer. Customers without a row are left out; the order is
    that of the engine. An engine that cannot take the cohort is asked for LISTED customers at a time, or, for sums over
    a larger cohort, once for everybody's, of which those of strangers are dropped as they come.
    """
    statement = _joined(facts, cohort, table, columns, condition, grouped=grouped)
    if _is_registered(facts, cohort):
        with _registered(facts, cohort) as connection:
            yield fetch_frame(connection, statement)
        return
    ids: list[str] = cohort.ids.to_pylist()
    places = {customer_id: place for place, customer_id in enumerate(ids)}
    with facts.connection() as connection:
        if grouped and len(ids) > LISTED:
            frames = fetch_frames(connection, statement, FETCHED)
        else:
            frames = (fetch_frame(connection, part) for part in _of_lists(statement, table, ids))
        for frame in frames:
            known = frame[frame["customer_id"].isin(places)]
            units = known["customer_id"].map(places).astype("int64")
            yield known.drop(columns="customer_id").assign(unit=units)


def joined_values(
    facts: Facts, cohort: Cohort, table: sa.FromClause, columns: Sequence[Any], condition: Any
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """`joined_rows`, not grouped, as plain values: the unit and the values of the columns."""
    statement = _joined(facts, cohort, table, columns, condition, grouped=False)
    if _is_registered(facts, cohort):
        with _registered(facts, cohort) as connection:
            rows = fetch_rows(connection, statement)
        yield from ((row[0], row[1:]) for row in rows)
        return
    ids: list[str] = cohort.ids.to_pylist()
    places = {customer_id: place for place, customer_id in enumerate(ids)}
    with facts.connection() as connection:
        for part in _of_lists(statement, table, ids):
            yield from ((places[row[0]], row[1:]) for row in fetch_rows(connection, part))


def _is_registered(facts: Facts, cohort: Cohort) -> bool:
    """Whether the engine gets the cohort as a table; of few customers a list is cheaper."""
    return facts.engine.dialect.name == "duckdb" and len(cohort.ids) > FEW


def _joined(
    facts: Facts, cohort: Cohort, table: sa.FromClause, columns: Sequence[Any], condition: Any, *, grouped: bool
) -> sa.Select[Any]:
    """The rows with their unit where the cohort is registered, else everybody's with the customer's id."""
    key: Any = table.c.customer_id
    source: sa.FromClause = table
    if _is_registered(facts, cohort):
        key, source = _REGISTERED.c.unit, _REGISTERED.join(table, key == _REGISTERED.c.customer_id)
    statement = sa.select(key, *columns).select_from(source).where(condition)
    return statement.group_by(key) if grouped else statement


def _of_lists(statement: sa.Select[Any], table: sa.FromClause, ids: Sequence[str]) -> Iterator[sa.Select[Any]]:
    """The statement for LISTED customers at a time."""
    for start in range(0, len(ids), LISTED):
        yield statement.where(table.c.customer_id.in_(ids[start : start + LISTED]))


@contextmanager
def _registered(facts: Facts, cohort: Cohort) -> Iterator[sa.Connection]:
    """A connection that has the cohort as a table."""
    units = pa.array(np.arange(len(cohort.ids), dtype=np.int32))
    rows = pa.table({"customer_id": cohort.ids, "unit": units})
    with facts.connection() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.register(_REGISTERED.name, rows)
        try:
            yield connection
        finally:
            driver.unregister(_REGISTERED.name)
