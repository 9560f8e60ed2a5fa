"""Columns on their way into the ledger: from pandas or plain sequences to driver-ready values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from warehouse.ledger.errors import LedgerError
from warehouse.ledger.types import instant_text

if TYPE_CHECKING:
    import pandas as pd


def as_frame(
    table: pd.DataFrame | Mapping[str, Sequence[Any]], *, needed: Sequence[str], optional: Mapping[str, Any], name: str
) -> pd.DataFrame:
    """Give `table` with exactly the needed and optional columns; missing optional ones take their default.

    Raises LedgerError for a missing needed column, an unknown one, or a missing value in a needed one.
    """
    import pandas as pd

    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame({k: pd.Series(v) for k, v in table.items()})
    missing = [column for column in needed if column not in frame.columns]
    unknown = sorted(set(map(str, frame.columns)) - set(needed) - set(optional))
    if missing or unknown:
        raise LedgerError(
            f"{name}: missing columns {missing}, unknown columns {unknown}; "
            f"expected {', '.join(needed)} and optionally {', '.join(optional)}"
        )
    for column in needed:
        if frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax())
            raise LedgerError(f"{name}: column {column} is missing in row {row}; every row needs one")
    return frame.assign(**{c: v for c, v in optional.items() if c not in frame.columns})


def texts(column: pd.Series[Any]) -> list[str | None]:
    """Give a column of strings with None where a value is missing."""
    values: list[str | None] = column.astype(object).where(column.notna(), None).tolist()
    return values


def integers(column: pd.Series[Any]) -> list[int]:
    """Give a column of whole numbers."""
    values: list[int] = column.astype("int64").tolist()
    return values


def instants(column: pd.Series[Any]) -> list[str]:
    """Give a column of aware instants as fixed-width UTC text; each distinct instant is converted once.

    Raises LedgerError for naive instants.
    """
    import pandas as pd

    if isinstance(column.dtype, pd.DatetimeTZDtype):
        codes, distinct = pd.factorize(column)
        written = [instant_text(value.to_pydatetime()) for value in pd.DatetimeIndex(distinct)]
        return [written[code] for code in codes.tolist()]
    known: dict[datetime, str] = {}
    out: list[str] = []
    for value in column.tolist():
        if not isinstance(value, datetime):
            raise LedgerError(f"column {column.name}: expected aware datetimes, got {type(value).__name__}")
        if value not in known or value.tzinfo is None:
            known[value] = instant_text(value)
        out.append(known[value])
    return out
