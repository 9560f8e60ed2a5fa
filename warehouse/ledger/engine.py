"""Opening the ledger: SQLite in WAL mode or PostgreSQL, with transactions that are safe to read-then-write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from warehouse.ledger.errors import LedgerError, SchemaVersionError
from warehouse.ledger.schema import SCHEMA_VERSION

BUSY_TIMEOUT_S: Final = 60
"""How long a SQLite writer waits for another one."""

MIGRATIONS: Final = Path(__file__).parent / "migrations"

_SQLITE_LEAST = (3, 35, 0)  # RETURNING, UPDATE FROM
_MIGRATION_LOCK = 0x72657461  # PostgreSQL advisory lock: one migration at a time
_MODE = "ledger_mode"


class Ledger:
    """An open ledger. `begin()` gives a writing transaction, `read()` a consistent read-only one."""

    def __init__(self, engine: sa.Engine) -> None:
        """Wrap an engine made by `open_ledger`."""
        self.engine = engine
        self._checked = False

    @property
    def dialect(self) -> str:
        """Name of the database: "sqlite" or "postgresql"."""
        return self.engine.dialect.name

    @property
    def where(self) -> str:
        """Its address without the password, for messages."""
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def begin(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """Open a transaction that may write; commits at the end, rolls back on an exception.

        On SQLite it takes the write lock at once (BEGIN IMMEDIATE), so what was read stays true until the commit.
        `durable=False` does not wait for the disk: after a power cut the commit may be missing (never torn, and never
        missing while a later durable one is there). Only for what may safely be missing: a claim, a worker's news.

        Raises LedgerError for anything the database refuses, SchemaVersionError when the tables are not ours.
        """
        self._check()
        mode = _writing(durable)
        with _as_ledger_error(self), self.engine.connect().execution_options(**mode) as connection, connection.begin():
            if not durable and self.dialect == "postgresql":
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a read-only transaction over one snapshot; writers are neither blocked nor waited for.

        Raises LedgerError as `begin` does, and on an attempt to write.
        """
        self._check()
        with _as_ledger_error(self), self.engine.connect() as connection, _reading(connection).begin():
            yield connection

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def _check(self) -> None:
        if not self._checked:
            check_schema(self)
            self._checked = True


def open_ledger(url: str) -> Ledger:
    """Open the ledger at an SQLAlchemy URL: sqlite:///path/to/ledger.db or postgresql+psycopg://...

    Creates the folder of an SQLite file, but no tables: `migrate` does that.

    Raises LedgerError for a URL of another kind, and for SQLite in memory (several connections must see one ledger).
    """
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise LedgerError(
            "ledger_url is not a database URL; expected sqlite:///PATH or postgresql+psycopg://..."
        ) from error
    if address.get_backend_name() == "sqlite":
        return Ledger(_sqlite_engine(address))
    if address.get_backend_name() == "postgresql":
        return Ledger(_postgres_engine(address))
    raise LedgerError(
        f"ledger_url names {address.get_backend_name()}; the ledger runs on sqlite:/// or postgresql+psycopg://"
    )


def migrate(ledger: Ledger) -> None:
    """Bring the tables to the newest version, in one transaction; does nothing when they are there already.

    Safe to call from several processes at once and to be killed in the middle.

    Raises SchemaVersionError when the database is newer than this installation.
    """
    found = _version(ledger)
    if found == SCHEMA_VERSION:
        return
    if found is not None and found > SCHEMA_VERSION:
        raise SchemaVersionError(_newer(ledger, found))
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _as_ledger_error(ledger), ledger.engine.begin() as connection:
        if ledger.dialect == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_schema(ledger: Ledger) -> None:
    """Raise SchemaVersionError unless the tables are exactly of the version this installation works with."""
    version = _version(ledger)
    if version == SCHEMA_VERSION:
        return
    if version is None:
        raise SchemaVersionError(
            f"no ledger at {ledger.where}: expected tables of version {SCHEMA_VERSION}, found none; migrate it first"
        )
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(_newer(ledger, version))
    raise SchemaVersionError(
        f"the ledger at {ledger.where} has tables of version {version}, expected {SCHEMA_VERSION}; migrate it first"
    )


def _newer(ledger: Ledger, version: str) -> str:
    return (
        f"the ledger at {ledger.where} has tables of version {version}, this installation knows {SCHEMA_VERSION}; "
        "upgrade retain (tables are not taken back)"
    )


def _version(ledger: Ledger) -> str | None:
    with _as_ledger_error(ledger), ledger.engine.connect() as connection, _reading(connection).begin():
        return _version_of(connection)


def _version_of(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _reading(connection: sa.Connection) -> sa.Connection:
    if connection.dialect.name == "postgresql":
        return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return connection.execution_options(**{_MODE: "read"})


def _writing(durable: bool) -> dict[str, str]:
    return {_MODE: "durable" if durable else "relaxed"}


@contextmanager
def _as_ledger_error(ledger: Ledger) -> Iterator[None]:
    """Turn what the database says into a LedgerError; parameters (customers' ids) are left out."""
    driver = ledger.engine.dialect.loaded_dbapi.Error  # COPY speaks to the driver directly
    try:
        yield
    except (sa.exc.StatementError, driver) as error:
        cause = getattr(error, "orig", None)
        if isinstance(cause, LedgerError):
            raise cause from error
        said = str(cause or error).strip().splitlines()[0]
        raise LedgerError(f"the ledger at {ledger.where} refused: {said}") from error


def _postgres_engine(address: sa.URL) -> sa.Engine:
    # a worker stopped in the middle of a transaction would hold rows, and keep dead ones from being cleaned up;
    # the ledger is in memory mostly: at the default cost of a random page, 500 keys of 80,000 rows mean a full scan
    # compiling a statement (jit) takes longer than any of ours runs
    costs = "-c random_page_cost=1.1 -c jit=off"
    options = f"-c timezone=utc -c datestyle=iso -c idle_in_transaction_session_timeout=120s {costs}"
    return sa.create_engine(
        address.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        pool_pre_ping=True,
        connect_args={"options": options, "application_name": "retain-ledger"},
    )


def _sqlite_engine(address: sa.URL) -> sa.Engine:
    if not address.database or address.database == ":memory:":
        raise LedgerError(
            "ledger_url: SQLite in memory cannot be shared by several connections; give a file, sqlite:///PATH"
        )
    import sqlite3

    if sqlite3.sqlite_version_info < _SQLITE_LEAST:
        raise LedgerError(f"SQLite {sqlite3.sqlite_version} is too old for the ledger; expected 3.35 or newer")
    Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(address, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin on its own: we say when, and how
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
        "cache_size=-32768",  # 32 MB: a worker before a million messages stays below 300 MB; the system caches the rest
        "temp_store=MEMORY",
        "wal_autocheckpoint=10000",  # pages; at the default of 1000 every other claim pays for a checkpoint
        "journal_size_limit=67108864",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    mode = connection.get_execution_options().get(_MODE, "durable")
    reads = mode == "read"
    # an intent must be on the disk before the first byte leaves; with it come the relaxed commits made before
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if mode == 'durable' else 'NORMAL'}")
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
