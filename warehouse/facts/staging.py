"""Rows of a file as ours: what each value means, and why a row is refused. Written as SQL for DuckDB."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from warehouse.facts.mapping import NO_TEXTS, YES_TEXTS
from warehouse.facts.parquet import DUCKDB_TYPES, literal, quoted
from warehouse.facts.schema import SCHEMAS, AttributeKind, Column, ColumnKind
from warehouse.facts.sources import ROW, SourceFile

if TYPE_CHECKING:
    from warehouse.facts.column_plan import ColumnPlan

REASON: Final = "retain_reason"
LOST: Final = "retain_lost"
FILE: Final = "retain_file"
OWN: Final = frozenset({FILE, ROW, REASON, LOST})
"""Columns that staging adds to the rows."""
QUARANTINE: Final = ("reason", "file", "row")
"""Columns in front of a quarantine file."""

_EARLIEST: Final = "TIMESTAMP '1900-01-01'"
_LATEST: Final = "TIMESTAMP '2199-12-31'"
"""Instants beyond these are slips of the pen."""


def typed_sql(
    plan: ColumnPlan, source: SourceFile, kinds: Mapping[str, AttributeKind], number: int, time_zone: str
) -> str:
    """A SELECT of the file's rows with typed columns of ours.

    In front stand the file's and the row's number, the reason the row is refused (or NULL) and the names of optional
    columns whose value was not understood (or NULL).
    """
    schema = SCHEMAS[plan.table]
    columns = [_Typed(column, plan.columns[column.name]) for column in schema.columns if column.name in plan.columns]
    columns += [
        _Typed(Column(ours, kinds[ours]), theirs, is_attribute=True) for ours, theirs in plan.attributes.items()
    ]
    inner = [ROW]
    for each in columns:
        found = source.types[each.theirs]
        inner.append(f"{value_sql(quoted(each.theirs), found, each.column.kind, time_zone)} AS {each.name}")
        if each.may_be_blank:
            inner.append(f"nullif(trim(CAST({quoted(each.theirs)} AS VARCHAR)), '') IS NOT NULL AS {each.filled}")
    reason = " ".join(f"WHEN {each.refused} THEN '{each.reason}'" for each in columns if each.reason)
    lost = ", ".join(
        f"CASE WHEN {each.lost} THEN {literal(each.column.name)} END" for each in columns if each.may_be_lost
    )
    head = [
        f"{number} AS {FILE}",
        ROW,
        f"CASE {reason} END AS {REASON}",
        f"nullif(concat_ws(',', {lost}), '') AS {LOST}" if lost else f"CAST(NULL AS VARCHAR) AS {LOST}",
    ]
    names = [each.name for each in columns]
    return f"SELECT {', '.join([*head, *names])} FROM (SELECT {', '.join(inner)} FROM ({source.scan_sql()}))"


_REASONS: Final[Mapping[ColumnKind, str]] = {"key": "missing_key", "instant": "bad_time", "money": "bad_amount"}


@dataclass(frozen=True, slots=True)
class _Typed:
    """A column of ours, the file's column it comes from, and the conditions on it."""

    column: Column
    theirs: str
    is_attribute: bool = False

    @property
    def name(self) -> str:
        return quoted(self.column.name)

    @property
    def filled(self) -> str:
        """Name of the flag that the file holds something here."""
        return quoted(f"retain_filled_{self.column.name}")

    @property
    def reason(self) -> str | None:
        """Why a row is refused whose value is not understood; None where the value is then just missing."""
        return None if self.is_attribute else _REASONS.get(self.column.kind)

    @property
    def may_be_blank(self) -> bool:
        return not self.column.required and self.column.kind not in ("key", "text")

    @property
    def may_be_lost(self) -> bool:
        return self.may_be_blank and self.reason is None

    @property
    def refused(self) -> str:
        missing = f"{self.name} IS NULL"
        if self.column.kind == "instant":
            missing = f"({self.name} BETWEEN {_EARLIEST} AND {_LATEST}) IS NOT TRUE"
        return missing if self.column.required else f"{self.filled} AND {missing}"

    @property
    def lost(self) -> str:
        return f"{self.filled} AND {self.name} IS NULL"


def text_sql(column: str, found: str) -> str:
    """A value as text, trimmed, missing where nothing is left."""
    if found in ("DOUBLE", "FLOAT"):
        # whole numbers that pandas stored as floats because some were missing: 17.0 is 17
        column = (
            f"CASE WHEN {column} = floor({column}) AND abs({column}) < 1e15 "
            f"THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) ELSE CAST({column} AS VARCHAR) END"
        )
    elif found != "VARCHAR":
        column = f"CAST({column} AS VARCHAR)"
    return f"nullif(trim({column}), '')"


def value_sql(column: str, found: str, kind: ColumnKind, time_zone: str) -> str:
    """A value as our kind, missing where it cannot be understood."""
    if kind in ("key", "text"):
        return text_sql(column, found)
    if kind == "instant":
        return _instant_sql(column, found, time_zone)
    if kind == "boolean":
        return _boolean_sql(column, found)
    if kind == "date":
        return f"TRY_CAST({text_sql(column, found)} AS DATE)" if found == "VARCHAR" else f"TRY_CAST({column} AS DATE)"
    text = text_sql(column, found) if found == "VARCHAR" else column
    number = f"TRY_CAST({text} AS {DUCKDB_TYPES[kind]})"
    return f"CASE WHEN isfinite({number}) THEN {number} END" if kind == "number" else number


def _boolean_sql(column: str, found: str) -> str:
    if found == "BOOLEAN":
        return column
    text = f"lower({text_sql(column, found)})"
    yes, no = (", ".join(literal(word) for word in words) for words in (YES_TEXTS, NO_TEXTS))
    return f"CASE WHEN {text} IN ({yes}) THEN true WHEN {text} IN ({no}) THEN false END"


def _instant_sql(column: str, found: str, time_zone: str) -> str:
    """UTC without a zone. Texts with an offset keep it; others are read in the session's zone, which is the load's."""
    if found == "VARCHAR":
        text = text_sql(column, found)
        # a year of four digits in front keeps out words such as infinity and day-first dates
        slow = f"CASE WHEN substr({text}, 5, 1) IN ('-', '/') THEN timezone('UTC', TRY_CAST({text} AS TIMESTAMPTZ)) END"
        if time_zone != "UTC":
            return slow
        # 2025-01-31 10:00:00 has no room for an offset, and reading it without a zone takes half the time
        plain = f"strlen({text}) = 19 AND substr({text}, 5, 1) = '-' AND substr({text}, 17, 1) = ':'"
        return f"CASE WHEN {plain} THEN TRY_CAST({text} AS TIMESTAMP) ELSE {slow} END"
    if found == "TIMESTAMP WITH TIME ZONE":
        return f"timezone('UTC', {column})"
    if found == "DATE" or found.startswith("TIMESTAMP"):
        return f"timezone('UTC', timezone({literal(time_zone)}, CAST({column} AS TIMESTAMP)))"
    return "CAST(NULL AS TIMESTAMP)"
