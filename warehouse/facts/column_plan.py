"""Which column of a company's files is which of ours: by rename, by name, or as an attribute of customers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from warehouse.facts.errors import FactsError
from warehouse.facts.schema import SCHEMAS, Column, TableName, TableSchema
from warehouse.facts.sources import SourceFile
from warehouse.facts.staging import OWN, QUARANTINE


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
    columns, attributes = _renamed(schema, source, renames)
    renamed = {*columns.values(), *attributes.values()}
    by_name = {name.lower(): name for name in source.types if name not in renamed}
    looked_for = [column for column in schema.columns if only is None or column.name in only]
    for column in looked_for:
        if column.name not in columns and column.name in by_name:
            columns[column.name] = by_name[column.name]
        if column.required and column.name not in columns:
            raise _missing(schema, column, source)
    unused = []
    for name in _own_names(source):
        ours = attribute_name(name)
        if name in {*columns.values(), *attributes.values()}:
            continue
        if table != "customers" or ours in {*reserved, *OWN, *attributes, *schema.names}:
            unused.append(name)
        else:
            attributes[ours] = name
    return ColumnPlan(
        table, {c.name: columns[c.name] for c in looked_for if c.name in columns}, attributes, tuple(unused)
    )


def _renamed(
    schema: TableSchema, source: SourceFile, renames: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Columns and attributes that were named in so many words."""
    by_name = {name.lower(): name for name in source.types}
    columns: dict[str, str] = {}
    attributes: dict[str, str] = {}
    for ours, theirs in renames.items():
        _check_rename(schema, source, ours, theirs)
        (columns if schema.column(ours) else attributes)[ours] = by_name[theirs.lower()]
    return columns, attributes


def _own_names(source: SourceFile) -> list[str]:
    """The columns of a file without those that a quarantine file has in front."""
    names = list(source.types)
    return names[len(QUARANTINE) :] if tuple(names[: len(QUARANTINE)]) == QUARANTINE else names


def attribute_name(column: str) -> str:
    """The name an extra column gets in segments and templates: lower case, `_` for all but letters and digits."""
    name = re.sub(r"\W+", "_", column.strip().lower()).strip("_") or "column"
    return f"_{name}" if name[0].isdigit() else name


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
