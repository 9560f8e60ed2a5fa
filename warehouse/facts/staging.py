"""From a file's columns to typed rows: what each value means, and why a row is refused. Written as SQL for DuckDB."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from warehouse.facts.errors import FactsError
from warehouse.facts.mapping import NO_TEXTS, YES_TEXTS
from warehouse.facts.parquet import DUCKDB_TYPES, literal, quoted
from warehouse.facts.schema import SCHEMAS, AttributeKind, Column, ColumnKind, TableName, TableSchema
from warehouse.facts.sources import ROW, SourceFile

REASON: Final = "retain_reason"
LOST: Final = "retain_lost"
FILE: Final = "retain_file"
OWN: Final = frozenset({FILE, ROW, REASON, LOST})
"""Columns that staging adds to the rows."""


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """Which column of the files is which of ours: `columns` and `attributes` ours -> theirs, `unused` theirs."""

    table: TableName
    columns: Mapping[str, str]
    attributes: Mapping[str, str]
    unused: tuple[str, ...]

    @property
    def present(self) -> tuple[str, ...]:
        """Our names of everything the files hold."""
        return (*self.columns, *self.attributes)


def plan_columns(
    table: TableName,
    source: SourceFile,
    renames: Mapping[str, str],
    reserved: frozenset[str] = frozenset(),
    only: tuple[str, ...] | None = None,
) -> ColumnPlan:
    """Match a file's columns to ours: first by `renames` (ours -> theirs), then by name, whatever the case.

    Columns of customers that remain become attributes, unless their name is `reserved`; of other tables they are not
    used. `only` restricts what is looked for to some of our columns.

    Raises:
        FactsError: a required column is missing, or a rename names a column that is not there.
    """
    schema = SCHEMAS[table]
    by_name = {name.lower(): name for name in source.types}
    columns: dict[str, str] = {}
    attributes: dict[str, str] = {}
    for ours, theirs in renames.items():
        _check_rename(schema, source, ours, theirs)
        (columns if schema.column(ours) else attributes)[ours] = by_name[theirs.lower()]
    for column in schema.columns:
        if only is not None and column.name not in only:
            columns.pop(column.name, None)
            continue
        if column.name not in columns and column.name in by_name and by_name[column.name] not in renames.values():
            columns[column.name] = by_name[column.name]
        if column.required and column.name not in columns:
            raise _missing(schema, column, source)
    taken = {*columns.values(), *attributes.values()}
    unused = []
    for name in source.types:
        ours = attribute_name(name)
        if name in taken:
            continue
        if table != "customers" or ours in reserved or ours in OWN or ours in (*attributes, *schema.names):
            unused.append(name)
        else:
            attributes[ours] = name
    return ColumnPlan(table, columns, attributes, tuple(unused))


def attribute_name(column: str) -> str:
    """The name an extra column gets in segments and templates: lower case, `_` for all but letters and digits."""
    name = re.sub(r"\W+", "_", column.strip().lower()).strip("_") or "column"
    return f"_{name}" if name[0].isdigit() else name


def typed_sql(
    plan: ColumnPlan, source: SourceFile, kinds: Mapping[str, AttributeKind], number: int, time_zone: str
) -> str:
    """A SELECT of the file's rows with typed columns of ours.

    In front stand the file's and the row's number, the reason the row is refused (or NULL) and the names of optional
    columns whose value was not understood (or NULL).
    """
    schema = SCHEMAS[plan.table]
    parts, reasons, lost = [], [], []
    for name, theirs in plan.columns.items():
        column = schema.column(name)
        assert column is not None  # plan_columns took it from the schema
        value = value_sql(quoted(theirs), source.types[theirs], column.kind, time_zone)
        parts.append(f"{value} AS {quoted(name)}")
        reasons += _refusals(column, quoted(theirs), value)
        if column.kind in ("number", "boolean", "date"):
            lost.append(_loss(name, quoted(theirs), value))
    for name, theirs in plan.attributes.items():
        value = value_sql(quoted(theirs), source.types[theirs], kinds[name], time_zone)
        parts.append(f"{value} AS {quoted(name)}")
        if kinds[name] != "text":
            lost.append(_loss(name, quoted(theirs), value))
    reason = f"CASE {' '.join(reasons)} END"
    losses = f"nullif(concat_ws(',', {', '.join(lost)}), '')" if lost else "CAST(NULL AS VARCHAR)"
    head = f"{number} AS {FILE}, {ROW}, {reason} AS {REASON}, {losses} AS {LOST}"
    return f"SELECT {head}, {', '.join(parts)} FROM ({source.scan_sql()})"


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
        value = (
            f"CASE WHEN substr({text}, 5, 1) IN ('-', '/') THEN timezone('UTC', TRY_CAST({text} AS TIMESTAMPTZ)) END"
        )
    elif found == "TIMESTAMP WITH TIME ZONE":
        value = f"timezone('UTC', {column})"
    elif found == "DATE" or found.startswith("TIMESTAMP"):
        value = f"timezone('UTC', timezone({literal(time_zone)}, CAST({column} AS TIMESTAMP)))"
    else:
        value = "CAST(NULL AS TIMESTAMP)"
    return f"CASE WHEN {value} BETWEEN TIMESTAMP '1900-01-01' AND TIMESTAMP '2199-12-31' THEN {value} END"


def _refusals(column: Column, theirs: str, value: str) -> list[str]:
    if column.kind == "key":
        return [f"WHEN {value} IS NULL THEN 'missing_key'"]
    reason = {"instant": "bad_time", "money": "bad_amount"}.get(column.kind)
    if reason is None:
        return []
    blank = "" if column.required else f" AND nullif(trim(CAST({theirs} AS VARCHAR)), '') IS NOT NULL"
    return [f"WHEN {value} IS NULL{blank} THEN '{reason}'"]


def _loss(name: str, theirs: str, value: str) -> str:
    filled = f"nullif(trim(CAST({theirs} AS VARCHAR)), '') IS NOT NULL"
    return f"CASE WHEN {value} IS NULL AND {filled} THEN {literal(name)} END"


def _check_rename(schema: TableSchema, source: SourceFile, ours: str, theirs: str) -> None:
    if theirs.lower() not in {name.lower() for name in source.types}:
        near = difflib.get_close_matches(theirs, list(source.types), 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise FactsError(
            f"{source.path}:1: no column {theirs}{hint}; the file has {', '.join(source.types)}. Correct the mapping"
        )
    if schema.column(ours) is None and (schema.name != "customers" or ours != attribute_name(ours)):
        near = difflib.get_close_matches(ours, schema.names, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise FactsError(
            f"mapping {theirs}={ours}: {schema.name} has no column {ours}{hint}; columns: {', '.join(schema.names)}"
        )


def _missing(schema: TableSchema, column: Column, source: SourceFile) -> FactsError:
    near = difflib.get_close_matches(column.name, [name.lower() for name in source.types], 1)
    guess = near[0] if near else "THEIRS"
    return FactsError(
        f"{source.path}:1: no column {column.name}, which {schema.name} needs; the file has {', '.join(source.types)}. "
        f"Name the right one with --map {guess}={column.name}"
    )
