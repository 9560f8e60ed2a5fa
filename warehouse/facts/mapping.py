"""The company's own tables and column names, read as the canonical ones, on any SQLAlchemy engine."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from warehouse.facts.dialects import SQL_TYPES, UtcInstant
from warehouse.facts.errors import FactsError
from warehouse.facts.schema import (
    SCHEMAS,
    TABLES,
    AttributeKind,
    Column,
    ColumnKind,
    TableName,
    TableSchema,
    table_schema,
)

YES_TEXTS: Final = ("yes", "y", "true", "t", "1")
_SAMPLED: Final = 1000
NO_TEXTS: Final = ("no", "n", "false", "f", "0")


@dataclass(frozen=True, slots=True)
class TableMapping:
    """One of our tables in the company's database: its name there (None: ours), columns ours -> theirs."""

    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FactsMapping:
    """Names in the company's database, by our table names; a table that is not named here bears our names."""

    tables: Mapping[str, TableMapping] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MappedTables:
    """The canonical selectables over the company's tables, and the attributes found in customers."""

    tables: Mapping[TableName, sa.FromClause]
    attributes: Mapping[str, AttributeKind]


def mapped_tables(engine: sa.Engine, mapping: FactsMapping) -> MappedTables:
    """Look at the company's tables once and give them canonical names and types.

    Raises:
        FactsError: a table or a required column does not exist, or the mapping names something unknown.
    """
    _check_names(mapping)
    inspector = sa.inspect(engine)
    tables: dict[TableName, sa.FromClause] = {}
    attributes: dict[str, AttributeKind] = {}
    for name in TABLES:
        named = mapping.tables.get(name, TableMapping())
        theirs = named.table or name
        schema, _, table = theirs.rpartition(".")
        try:
            found = {c["name"]: c["type"] for c in inspector.get_columns(table, schema=schema or None)}
        except sa.exc.NoSuchTableError:
            found = {}
        if not found:
            raise FactsError(
                f"table {theirs}: not found in the facts database; expected a table of {name}. "
                f"Name the right one under [facts.{name}] in retain.toml"
            )
        source = _Source(SCHEMAS[name], theirs, found, dict(named.columns))
        tables[name] = source.selectable(engine.dialect.name)
        if name == "customers":
            attributes = source.attributes()
    if engine.dialect.name == "sqlite":
        _check_times(engine, tables)
    return MappedTables(tables, attributes)


def _check_times(engine: sa.Engine, tables: Mapping[TableName, sa.FromClause]) -> None:
    """SQLite compares instants as texts, so all must be written alike; a sample of each table is looked at."""
    with engine.connect() as connection:
        for name, table in tables.items():
            column = table.c[SCHEMAS[name].instant]
            text = sa.cast(column, sa.String()).label("text")
            sample = sa.select(text).where(column.is_not(None)).limit(_SAMPLED).subquery()
            is_odd = sa.or_(sa.func.length(sample.c.text) != 26, sa.func.substr(sample.c.text, 11, 1) != " ")
            odd = connection.execute(sa.select(sample.c.text).where(is_odd).limit(1)).scalar()
            if odd is not None:
                raise FactsError(
                    f"{name}.{column.name} holds {odd!r}; SQLite keeps times as texts, and expected are those that "
                    "SQLAlchemy writes, such as 2026-01-31 10:00:00.000000. Convert the column"
                )


def _check_names(mapping: FactsMapping) -> None:
    for table, named in mapping.tables.items():
        schema = table_schema(table)
        if schema is None:
            raise FactsError(f"mapping of facts: {table} is not a table of the facts; expected {', '.join(TABLES)}")
        for ours in named.columns:
            names = schema.names
            if table != "customers" and ours not in names:
                near = difflib.get_close_matches(ours, names, 1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise FactsError(f"mapping of facts: {table} has no column {ours}{hint}; columns: {', '.join(names)}")


@dataclass(frozen=True, slots=True)
class _Source:
    """One of the company's tables: its columns with their types, and our names for them."""

    schema: TableSchema
    table: str
    found: Mapping[str, Any]
    renames: Mapping[str, str]

    def selectable(self, dialect: str) -> sa.FromClause:
        schema, _, name = self.table.rpartition(".")
        for ours, theirs in self.renames.items():
            if theirs not in self.found and self.schema.column(ours) is None:
                raise FactsError(f"table {self.table}: has no column {theirs}, expected as the attribute {ours}")
        base = sa.table(name, *(sa.column(n, t) for n, t in self.found.items()), schema=schema or None)
        columns = [self._canonical(base, column, dialect) for column in self.schema.columns]
        columns += [self._attribute(base, name, kind, dialect) for name, kind in self.attributes().items()]
        return sa.select(*columns).select_from(base).subquery(self.schema.name)

    def attributes(self) -> dict[str, AttributeKind]:
        """Extra columns of customers by our name; none for the other tables."""
        if self.schema.name != "customers":
            return {}
        taken = {self._theirs(column) for column in self.schema.columns}
        ours = {theirs: name for name, theirs in self.renames.items()}
        extra = {ours.get(name, name): kind for name, kind in self.found.items() if name not in taken}
        return {name: attribute_kind(kind) for name, kind in sorted(extra.items())}

    def _theirs(self, column: Column) -> str:
        return self.renames.get(column.name, column.name)

    def _canonical(self, base: sa.TableClause, column: Column, dialect: str) -> sa.ColumnElement[Any]:
        theirs = self._theirs(column)
        if theirs in self.found:
            return _typed(base.c[theirs], self.found[theirs], column.kind, dialect).label(column.name)
        if column.required or column.name in self.renames:
            raise FactsError(
                f"table {self.table}: has no column {theirs}, expected as {self.schema.name}.{column.name}; it has "
                f"{', '.join(self.found)}. Name the right one under [facts.{self.schema.name}.columns] in retain.toml"
            )
        return sa.cast(sa.null(), SQL_TYPES[column.kind]).label(column.name)

    def _attribute(self, base: sa.TableClause, ours: str, kind: AttributeKind, dialect: str) -> sa.ColumnElement[Any]:
        theirs = self.renames.get(ours, ours)
        return _typed(base.c[theirs], self.found[theirs], kind, dialect).label(ours)


def attribute_kind(kind: sa.types.TypeEngine[Any]) -> AttributeKind:
    """What kind of values a column of that SQL type holds."""
    if isinstance(kind, sa.Boolean):
        return "boolean"
    if isinstance(kind, (sa.Integer, sa.Numeric)):
        return "number"
    if isinstance(kind, (sa.DateTime, sa.Date)):
        return "instant"
    return "text"


def _typed(column: sa.ColumnClause[Any], found: Any, kind: ColumnKind, dialect: str) -> sa.ColumnElement[Any]:
    """A column of theirs as our kind of value; casts only where the types differ, so that indexes stay usable."""
    if kind == "boolean":
        return column if isinstance(found, sa.Boolean) else _truth(column, found)
    if kind == "instant":
        return _instant(column, found, dialect)
    if kind in ("key", "text"):
        # padded texts and enumerations are texts to SQLAlchemy, but not to every function of the engine
        is_text = isinstance(found, (sa.VARCHAR, sa.TEXT))
        return sa.type_coerce(column, sa.String()) if is_text else sa.cast(column, sa.String())
    if kind == "number":
        return sa.cast(column, sa.Double())
    return sa.type_coerce(column, SQL_TYPES[kind])


def _truth(column: sa.ColumnClause[Any], found: Any) -> sa.ColumnElement[Any]:
    if isinstance(found, (sa.Integer, sa.Numeric)):
        return sa.case((column != 0, sa.true()), (column == 0, sa.false()))
    text = sa.func.lower(sa.cast(column, sa.String()))
    return sa.case((text.in_(YES_TEXTS), sa.true()), (text.in_(NO_TEXTS), sa.false()))


def _instant(column: sa.ColumnClause[Any], found: Any, dialect: str) -> sa.ColumnElement[Any]:
    if not isinstance(found, sa.Date):
        return sa.type_coerce(column, UtcInstant())
    if dialect == "sqlite":
        # SQLite compares instants as texts, so a date needs its midnight
        return sa.type_coerce(sa.cast(column, sa.String()).concat(" 00:00:00.000000"), UtcInstant())
    return sa.type_coerce(sa.cast(column, sa.DateTime()), UtcInstant())


def mapped_fingerprint(connection: sa.Connection, tables: Any) -> str:
    """SHA-256 over count, extremes and sums of every column: one scan a table.

    A change that keeps all of these (two customers swapping their cities) goes unseen; engines share no row hash.
    """
    state: list[Any] = []
    for name in TABLES:
        row = connection.execute(sa.select(*_signature(getattr(tables, name)))).one()
        state.append([name, [str(value) for value in row]])
    return hashlib.sha256(json.dumps(state, ensure_ascii=False).encode()).hexdigest()


def _signature(table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    parts: list[sa.ColumnElement[Any]] = [sa.func.count()]
    for column in table.c:
        parts.append(sa.func.count(column))
        if isinstance(column.type, sa.Boolean):
            parts.append(sa.func.sum(sa.case((column, 1), else_=0)))
            continue
        parts += [sa.func.min(column), sa.func.max(column)]
        if isinstance(column.type, sa.String):
            parts.append(sa.func.sum(sa.func.length(column)))
        elif isinstance(column.type, sa.Numeric) and not isinstance(column.type, sa.Float):
            parts.append(sa.func.sum(column))
    return parts
