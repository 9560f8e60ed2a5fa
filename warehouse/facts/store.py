"""The facts as everybody reads them: three canonical tables behind one SQLAlchemy engine, wherever they are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import sqlalchemy as sa

from warehouse.facts.dialects import SQL_TYPES
from warehouse.facts.errors import FactsError
from warehouse.facts.manifests import Manifest, latest_manifest
from warehouse.facts.mapping import FactsMapping, TableMapping, mapped_fingerprint, mapped_tables
from warehouse.facts.schema import SCHEMAS, TABLES, AttributeKind, ColumnKind, TableName

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

__all__ = ["DatabaseFacts", "Facts", "FactsMapping", "ParquetFacts", "TableMapping", "Tables", "open_facts"]

EMBEDDED: Final = "duckdb"
ROW_GROUP: Final = 122_880
"""Rows of a table that DuckDB gives to one thread in any case."""
ALONE_BYTES: Final = 8 << 20
"""Files up to this size are loaded by one thread."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The canonical tables as SQLAlchemy selectables."""

    customers: sa.FromClause
    orders: sa.FromClause
    events: sa.FromClause


class Facts(ABC):
    """The facts, open for reading.

    What is read does not change under the reader's feet: loads of other processes show after `refresh()`.
    """

    def __init__(self, engine: sa.Engine, tables: Tables) -> None:
        self.engine = engine
        self.tables = tables
        """customers, orders and events with canonical column names; attributes are columns of customers."""

    @abstractmethod
    def attributes(self) -> Mapping[str, AttributeKind]:
        """The company's own columns of customers, with the kind of their values."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes when the data change."""

    @abstractmethod
    def refresh(self) -> None:
        """Read the newest state from now on."""

    def frame(self, statement: sa.Select[Any]) -> pd.DataFrame:
        """The rows of a statement as a DataFrame: texts as str, instants as aware UTC, columns in order.

        Raises:
            FactsError: the engine refuses.
        """
        from warehouse.facts.frames import fetch_frame

        with self.connection() as connection:
            return fetch_frame(connection, statement)

    def order_delays(self) -> dict[int, int] | None:
        """Orders by the whole days between the order and its load; None where nobody keeps when a row was loaded."""
        return None

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

    def close(self) -> None:
        """Let go of the engine and its memory."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ParquetFacts(Facts):
    """The embedded facts: DuckDB in memory over the Parquet files of one manifest. These can be loaded into."""

    def __init__(self, root: duckdb.DuckDBPyConnection, data_dir: Path) -> None:
        from warehouse.facts.parquet import duckdb_engine

        self.data_dir = data_dir
        self.manifest = Manifest()
        self._root = root
        super().__init__(duckdb_engine(root), _parquet_tables(self.manifest))
        self._show(latest_manifest(data_dir))

    def attributes(self) -> Mapping[str, AttributeKind]:
        return dict(self.manifest.attributes)

    def fingerprint(self) -> str:
        return self.manifest.fingerprint()

    def order_delays(self) -> dict[int, int] | None:
        return dict(self.manifest.delays)

    def refresh(self) -> None:
        newest = latest_manifest(self.data_dir)
        if newest.version != self.manifest.version:
            self._show(newest)

    def _show(self, manifest: Manifest) -> None:
        from warehouse.facts.parquet import define_views

        define_views(self._root, self.data_dir, manifest)
        self.manifest, self.tables = manifest, _parquet_tables(manifest)
        self.share_work()

    def share_work(self, more_bytes: int = 0) -> None:
        """Let one thread work where the facts, and `more_bytes` to be loaded, are few, and all of them elsewhere.

        Few rows are not worth sharing: two threads took twice the processor time of one (measured: 65 ms, not 33, for
        a segment of 10,000 customers), and were no sooner done.
        """
        rows = max(self.manifest.rows(table) for table in TABLES)
        alone = rows <= ROW_GROUP and more_bytes <= ALONE_BYTES
        self._root.execute("SET threads = 1" if alone else "RESET threads")

    def loader_cursor(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB session of a load's own."""
        return self._root.cursor()

    def close(self) -> None:
        super().close()
        self._root.close()


class DatabaseFacts(Facts):
    """The facts in a database of the company, which is only read. It always shows what it holds at the moment."""

    def __init__(self, engine: sa.Engine, mapping: FactsMapping) -> None:
        try:
            found = mapped_tables(engine, mapping)
        except BaseException:
            engine.dispose()
            raise
        self._attributes = found.attributes
        super().__init__(engine, Tables(found.tables["customers"], found.tables["orders"], found.tables["events"]))

    def attributes(self) -> Mapping[str, AttributeKind]:
        return dict(self._attributes)

    def fingerprint(self) -> str:
        """A text that changes with counts, extremes or sums of some column; see `mapped_fingerprint`."""
        with self.connection() as connection:
            return mapped_fingerprint(connection, self.tables)

    def refresh(self) -> None:
        """Nothing to do."""


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
    return _open_database(url, mapping or FactsMapping())


def _open_parquet(data_dir: Path, memory_limit: str | None) -> ParquetFacts:
    import duckdb

    from warehouse.facts.parquet import open_memory

    try:
        root = open_memory(data_dir / "spill", memory_limit)
    except duckdb.Error as error:
        raise FactsError(
            f"facts memory limit {memory_limit!r}: not understood by DuckDB ({_first_line(error)}); "
            "expected a size such as 4GB"
        ) from error
    return ParquetFacts(root, data_dir)


def _open_database(url: str, mapping: FactsMapping) -> DatabaseFacts:
    try:
        engine = sa.create_engine(url)
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise FactsError(
            f"facts_url: not a database URL that can be opened ({_first_line(error)}); expected duckdb, or a "
            "SQLAlchemy URL such as postgresql+psycopg://host/database"
        ) from error
    if engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _speak_utc)
    try:
        return DatabaseFacts(engine, mapping)
    except sa.exc.SQLAlchemyError as error:
        raise FactsError(
            f"facts_url: the {engine.dialect.name} database cannot be read ({_first_line(error)}); check that it runs, "
            "the name of the database and the rights of the role"
        ) from error


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
