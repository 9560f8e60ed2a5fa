"""The canonical facts: three tables, their columns and what kind of value each column holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, cast, get_args

TableName = Literal["customers", "orders", "events"]
ColumnKind = Literal["key", "text", "number", "money", "instant", "date", "boolean"]
AttributeKind = Literal["number", "text", "boolean", "instant"]

TABLES: Final[tuple[TableName, ...]] = get_args(TableName)


@dataclass(frozen=True, slots=True)
class Column:
    """One canonical column. Required ones must stand in every file and mapping; the others may be absent."""

    name: str
    kind: ColumnKind
    required: bool = False


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A canonical table: its key, the instant its rows are ordered by and its columns, the key first."""

    name: TableName
    key: str
    instant: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns in order."""
        return tuple(column.name for column in self.columns)


_CUSTOMERS: Final = TableSchema(
    "customers",
    "customer_id",
    "created_at",
    (
        Column("customer_id", "key", required=True),
        Column("created_at", "instant"),
        Column("email", "text"),
        Column("phone", "text"),
        Column("push_token", "text"),
        Column("time_zone", "text"),
        Column("locale", "text"),
        Column("country", "text"),
        Column("region", "text"),
        Column("birthday", "date"),
        Column("preferred_channel", "text"),
        Column("consent_sms", "boolean"),
        Column("consent_email", "boolean"),
        Column("consent_push", "boolean"),
        Column("tier", "text"),
        Column("household_id", "text"),
    ),
)

_ORDERS: Final = TableSchema(
    "orders",
    "order_id",
    "ordered_at",
    (
        Column("order_id", "key", required=True),
        Column("customer_id", "key", required=True),
        Column("ordered_at", "instant", required=True),
        Column("amount", "money", required=True),
        Column("currency", "text"),
        Column("margin", "money"),
        Column("units", "number"),
        Column("category", "text"),
        Column("discount_code", "text"),
        Column("status", "text"),
    ),
)

_EVENTS: Final = TableSchema(
    "events",
    "event_id",
    "occurred_at",
    (
        Column("event_id", "key", required=True),
        Column("customer_id", "key", required=True),
        Column("occurred_at", "instant", required=True),
        Column("event", "key", required=True),
        Column("value", "number"),
        Column("properties", "text"),
    ),
)

SCHEMAS: Final[Mapping[TableName, TableSchema]] = MappingProxyType(
    {schema.name: schema for schema in (_CUSTOMERS, _ORDERS, _EVENTS)}
)

ADDRESS_COLUMNS: Final = frozenset({"email", "phone", "push_token"})
"""Columns that reach a person; they are read only at dispatch."""


def table_schema(name: str) -> TableSchema | None:
    """The schema of that canonical table, or None."""
    return SCHEMAS.get(cast("TableName", name))
