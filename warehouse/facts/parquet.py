"""DuckDB in memory over the Parquet files of one manifest: connections, views and column types."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.facts.manifests import Manifest
from warehouse.facts.schema import SCHEMAS, TABLES, TableName

if TYPE_CHECKING:
    import duckdb

DUCKDB_TYPES: Final = {
    "key": "VARCHAR",
    "text": "VARCHAR",
    "number": "DOUBLE",
    "money": "DECIMAL(18,4)",
    "instant": "TIMESTAMP",
    "date": "DATE",
    "boolean": "BOOLEAN",
}
"""How each kind of column is stored. Instants are UTC without a zone."""


def column_types(table: TableName, manifest: Manifest) -> dict[str, str]:
    """Every column of a table in order, attributes of customers last, with its DuckDB type."""
    types = {column.name: DUCKDB_TYPES[column.kind] for column in SCHEMAS[table].columns}
    if table == "customers":
        types |= {name: DUCKDB_TYPES[kind] for name, kind in sorted(manifest.attributes.items())}
    return types


def open_memory(spill_dir: Path, memory_limit: str | None) -> duckdb.DuckDBPyConnection:
    """An empty database in memory that spills to `spill_dir` above the limit (default: 80 % of the machine's memory).

    Raises:
        duckdb.Error: the limit is not a size such as "4GB".
    """
    import duckdb

    config: dict[str, Any] = {"temp_directory": str(spill_dir), "autoinstall_known_extensions": "false"}
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    return duckdb.connect(":memory:", config=config)


def duckdb_engine(root: duckdb.DuckDBPyConnection) -> sa.Engine:
    """A SQLAlchemy engine whose connections are cursors of one DuckDB database, so that they share its views."""
    from duckdb_sqlalchemy import ConnectionWrapper
    from sqlalchemy.pool import QueuePool

    # every statement reads immutable files, so no statement needs another one's transaction
    return sa.create_engine(
        "duckdb://",
        creator=lambda: ConnectionWrapper(root.cursor()),
        poolclass=QueuePool,
        isolation_level="AUTOCOMMIT",
    )


def define_views(root: duckdb.DuckDBPyConnection, data_dir: Path, manifest: Manifest) -> None:
    """Point the three views of a database at the files of a manifest, all at once."""
    root.execute("BEGIN")
    for table in TABLES:
        root.execute(f"CREATE OR REPLACE VIEW {table} AS {scan_sql(table, data_dir, manifest)}")
    root.execute("COMMIT")


def scan_sql(table: TableName, data_dir: Path, manifest: Manifest, paths: list[str] | None = None) -> str:
    """A SELECT of all columns of a table over its files (or those given); where a file lacks a column it is NULL."""
    types = column_types(table, manifest)
    files = [file.path for file in manifest.of(table)] if paths is None else paths
    if not files:
        columns = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(name)}" for name, kind in types.items())
        return f"SELECT {columns} WHERE false"
    # an empty row in front gives every column its type even where no file has it
    shape = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(name)}" for name, kind in types.items())
    present = read_parquet_sql([data_dir / path for path in files], ", union_by_name=true")
    if table != "customers" or not manifest.attributes:
        columns = ", ".join(quoted(name) for name in types)
        return f"SELECT {columns} FROM {present}"
    return f"SELECT {shape} WHERE false UNION ALL BY NAME SELECT * FROM {present}"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def file_literal(path: Path) -> str:
    """A file to read as an SQL literal; characters of a pattern stand for themselves."""
    return literal("".join(f"[{mark}]" if mark in "*?[" else mark for mark in str(path)))


def read_parquet_sql(paths: Sequence[Path], options: str = "") -> str:
    """A table expression of the rows of Parquet files."""
    return f"read_parquet([{', '.join(map(file_literal, paths))}]{options})"
