"""The facts as everybody reads them: three canonical tables behind one SQLAlchemy engine, wherever they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.facts.dialects import UtcInstant
from warehouse.facts.errors import FactsError
from warehouse.facts.manifests import Manifest, latest_manifest
from warehouse.facts.mapping import FactsMapping, MappedTables, TableMapping, mapped_fingerprint, mapped_tables
from warehouse.facts.schema import SCHEMAS, TABLES, AttributeKind, ColumnKind, TableName

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

__all__ = ["Facts", "FactsMapping", "TableMapping", "Tables", "open_facts"]

EMBEDDED: Final = "duckdb"

SQL_TYPES: Final[Mapping[ColumnKind, sa.types.TypeEngine[Any]]] = {
    "key": sa.String(),
    "text": sa.String(),
    "number": sa.Double(),
    "money": sa.Numeric(18, 4),
    "instant": UtcInstant(),
    "date": sa.Date(),
    "boolean": sa.Boolean(),
}


@dataclass(frozen=True, slots=True)
class Tables:
    """The canonical tables as SQLAlchemy selectables."""

    customers: sa.FromClause
    orders: sa.FromClause
    events: sa.FromClause


class Facts:
    """One state of the facts, open for reading.

    What it reads does not change under its feet: loads of other processes show after `refresh()`. With DuckDB over
    Parquet the state is one manifest; with another engine it is whatever that engine shows.
    """

    def __init__(self, engine: sa.Engine, data_dir: Path) -> None:
        self.engine = engine
        self.data_dir = data_dir
        self.manifest: Manifest | None = None
        self._root: duckdb.DuckDBPyConnection | None = None
        self._mapped: MappedTables | None = None
        self._tables: Tables | None = None

    @property
    def tables(self) -> Tables:
        """customers, orders and events with canonical column names; attributes are columns of customers."""
        assert self._tables is not None  # open_facts refreshes before it hands out
        return self._tables

    @property
    def is_embedded(self) -> bool:
        """Whether the facts are our own Parquet folder, which `load_table` can add to."""
        return self.manifest is not None

    def attributes(self) -> Mapping[str, AttributeKind]:
        """The company's own columns of customers, with the kind of their values."""
        if self.manifest is not None:
            return dict(self.manifest.attributes)
        assert self._mapped is not None
        return dict(self._mapped.attributes)

    def fingerprint(self) -> str:
        """A text that changes when the data change (for other engines: counts, extremes and sums of every column)."""
        if self.manifest is not None:
            return self.manifest.fingerprint()
        return mapped_fingerprint(self.engine, self.tables)

    def refresh(self) -> None:
        """Read the newest state from now on."""
        if self._root is not None:
            from warehouse.facts.parquet import define_views

            newest = latest_manifest(self.data_dir)
            if self.manifest is None or newest.version != self.manifest.version:
                define_views(self._root, self.data_dir, newest)
            self.manifest = newest
            self._tables = _parquet_tables(newest)

    def frame(self, statement: sa.Select[Any]) -> pd.DataFrame:
        """The rows of a statement as a DataFrame: texts as str, instants as aware UTC, columns in order."""
        from warehouse.facts.frames import fetch_frame

        with self.connection() as connection:
            return fetch_frame(connection, statement)

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """A connection for reading; what the engine says goes out as a FactsError."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise FactsError(
                f"the facts engine ({self.engine.dialect.name}) refused a query: {_first_line(error)}"
            ) from error

    def loader_cursor(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB session of a load's own (embedded facts only)."""
        assert self._root is not None  # load_table checks is_embedded first
        return self._root.cursor()

    def close(self) -> None:
        """Let go of the engine and its memory."""
        self.engine.dispose()
        if self._root is not None:
            self._root.close()

    def __enter__(self) -> Facts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_facts(
    url: str, *, data_dir: Path, mapping: FactsMapping | None = None, memory_limit: str | None = None
) -> Facts:
    """Open the facts at a URL: "duckdb" for the Parquet folder `data_dir`, else any supported SQLAlchemy URL.

    `mapping` gives the company's own table and column names (other engines only), `memory_limit` bounds DuckDB ("4GB");
    above it DuckDB spills into `data_dir`/spill.

    Raises:
        FactsError: the URL, the limit or the mapping cannot be used.
    """
    if url == EMBEDDED:
        return _open_parquet(data_dir, memory_limit)
    return _open_other(url, data_dir, mapping or FactsMapping())


def _open_parquet(data_dir: Path, memory_limit: str | None) -> Facts:
    import duckdb

    from warehouse.facts.parquet import duckdb_engine, open_memory

    try:
        root = open_memory(data_dir / "spill", memory_limit)
    except duckdb.Error as error:
        raise FactsError(
            f"facts memory limit {memory_limit!r}: not understood by DuckDB ({_first_line(error)}); "
            "expected a size such as 4GB"
        ) from error
    facts = Facts(duckdb_engine(root), data_dir)
    facts._root = root
    facts.refresh()
    return facts


def _open_other(url: str, data_dir: Path, mapping: FactsMapping) -> Facts:
    try:
        engine = sa.create_engine(url)
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise FactsError(
            f"facts_url: not a database URL that can be opened ({_first_line(error)}); expected duckdb, or a "
            "SQLAlchemy URL such as postgresql+psycopg://host/database"
        ) from error
    if engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _speak_utc)
    facts = Facts(engine, data_dir)
    try:
        with facts.connection():
            facts._mapped = mapped_tables(engine, mapping)
    except BaseException:
        engine.dispose()
        raise
    mapped = facts._mapped.tables
    facts._tables = Tables(mapped["customers"], mapped["orders"], mapped["events"])
    return facts


def _speak_utc(connection: Any, _: object) -> None:
    # timestamps with a zone are compared to ours without one in the session's zone
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def _parquet_tables(manifest: Manifest) -> Tables:
    return Tables(**{table: _parquet_table(table, manifest) for table in TABLES})


def _parquet_table(table: TableName, manifest: Manifest) -> sa.FromClause:
    kinds: dict[str, ColumnKind] = {column.name: column.kind for column in SCHEMAS[table].columns}
    if table == "customers":
        kinds |= dict(sorted(manifest.attributes.items()))
    return sa.table(table, *(sa.column(name, SQL_TYPES[kind]) for name, kind in kinds.items()))


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
