"""Query results as DataFrames with the same column types whichever engine answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from warehouse.facts.dialects import UtcInstant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def fetch_frame(connection: sa.Connection, statement: sa.Select[Any]) -> pd.DataFrame:
    """All rows of a statement; through Arrow where the driver has it."""
    result = connection.execute(statement)
    types = {str(column.key): column.type for column in statement.selected_columns}
    if connection.dialect.name == "duckdb":
        raw = result.cursor.to_arrow_table().to_pandas(timestamp_as_object=False)
    else:
        raw = pd.DataFrame(_columns([tuple(row) for row in result], list(types)), columns=list(types))
    return pd.DataFrame({name: _typed(raw[name], kind) for name, kind in types.items()})


def fetch_frames(connection: sa.Connection, statement: sa.Select[Any], rows: int) -> Iterator[pd.DataFrame]:
    """The rows of a statement in frames of at most `rows`, holding one at a time."""
    types = {str(column.key): column.type for column in statement.selected_columns}
    result = connection.execution_options(stream_results=True, yield_per=rows).execute(statement)
    for part in result.partitions(rows):
        raw = pd.DataFrame(_columns([tuple(row) for row in part], list(types)), columns=list(types))
        yield pd.DataFrame({name: _typed(raw[name], kind) for name, kind in types.items()})


def fetch_rows(connection: sa.Connection, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
    """All rows of a statement as plain values: text, float, int, bool, date and aware UTC datetime, None where missing.

    For few rows of many columns, of which a frame costs many times as much.
    """
    readers = [_reader(column.type) for column in statement.selected_columns]
    rows = connection.execute(statement)
    return [tuple(read(value) for read, value in zip(readers, row, strict=True)) for row in rows]


def _reader(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any]:
    if isinstance(kind, sa.Boolean):
        return {True: True, False: False}.get
    if isinstance(kind, UtcInstant | sa.Date):
        return _as_it_is
    if isinstance(kind, sa.Integer):
        return _whole
    return _number if isinstance(kind, sa.Numeric) else _text


def _as_it_is(value: Any) -> Any:
    return value


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)  # nan differs from itself


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _columns(rows: list[tuple[Any, ...]], names: list[str]) -> dict[str, pd.Series[Any]]:
    values = zip(*rows, strict=True) if rows else ((),) * len(names)
    return {name: pd.Series(list(column), dtype=object) for name, column in zip(names, values, strict=True)}


def _typed(values: pd.Series[Any], kind: sa.types.TypeEngine[Any]) -> pd.Series[Any]:
    if isinstance(kind, sa.Boolean):
        return _booleans(values)
    if isinstance(kind, UtcInstant):
        return pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]")
    if isinstance(kind, sa.Date):
        return values.astype("object").where(values.notna(), None)
    if isinstance(kind, sa.Integer):
        return values.astype("int64") if not values.isna().any() else _numbers(values)
    if isinstance(kind, sa.Numeric):
        return _numbers(values)
    return values.astype("str")


def _numbers(values: pd.Series[Any]) -> pd.Series[Any]:
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values.astype("float64")
    return pd.to_numeric(values.astype(object).where(values.notna(), np.nan)).astype("float64")


def _booleans(values: pd.Series[Any]) -> pd.Series[Any]:
    if not values.isna().any():
        return values.astype("bool")
    return values.astype("object").map({True: True, False: False}).astype("boolean")
