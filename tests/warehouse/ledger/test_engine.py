"""Opening and migrating a ledger, and what its transactions promise."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from warehouse.ledger import schema
from warehouse.ledger.engine import MIGRATIONS, Ledger, check_schema, migrate, open_ledger
from warehouse.ledger.errors import LedgerError, SchemaVersionError
from warehouse.ledger.guards import guard_statements

from .story import T0, start


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("not a url", "not a database URL"),
        ("mysql://root@localhost/x", "runs on sqlite:/// or postgresql"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_other_databases_are_refused_with_what_was_expected(url: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said):
        open_ledger(url)


def test_an_unmigrated_ledger_says_what_to_do(ledger_url: str) -> None:
    ledger = open_ledger(ledger_url)
    with pytest.raises(SchemaVersionError, match="migrate it first"), ledger.begin():
        pass
    ledger.close()


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    ledger = open_ledger("postgresql://somebody:sesame@127.0.0.1:9/x")
    with pytest.raises(LedgerError, match=r"somebody:\*\*\*@127\.0\.0\.1:9") as caught:
        migrate(ledger)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(("version", "said"), [("9999", "upgrade retain"), ("0000", "migrate it first")])
def test_tables_of_another_version_are_refused(ledger: Ledger, version: str, said: str) -> None:
    with ledger.begin() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    with pytest.raises(SchemaVersionError, match=said):
        check_schema(ledger)
    if version > schema.SCHEMA_VERSION:
        with pytest.raises(SchemaVersionError, match=said):
            migrate(ledger)


def test_the_code_expects_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.SCHEMA_VERSION]


def test_migrating_works_from_any_folder_and_from_many_processes_at_once(ledger_url: str, tmp_path: Path) -> None:
    code = "import sys; from warehouse.ledger.engine import *; migrate(open_ledger(sys.argv[1]))"
    root = Path(__file__).parents[3]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    running = [subprocess.Popen([sys.executable, "-c", code, ledger_url], cwd=tmp_path, env=environ) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    ledger = open_ledger(ledger_url)
    check_schema(ledger)
    migrate(ledger)
    ledger.close()


def test_tables_equal_the_sum_of_migrations(ledger: Ledger, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if ledger.dialect == "sqlite":
        fresh = open_ledger(f"sqlite:///{tmp_path / 'fresh.db'}")
    else:
        fresh = open_ledger(request.getfixturevalue("second_postgres_url"))
    with fresh.engine.begin() as tx:
        schema.metadata.create_all(tx)
        for statement in guard_statements(fresh.dialect):
            tx.exec_driver_sql(statement)
        wanted = catalogue(tx)
    with ledger.begin() as tx:
        found = catalogue(tx)
    fresh.close()
    assert found == wanted
    assert len(wanted) > 60


@pytest.fixture
def second_postgres_url(postgres_server: str, postgres_url: str) -> object:
    """One more empty PostgreSQL database."""
    import psycopg

    name = f"{postgres_url.rsplit('/', 1)[1]}_b"
    plain = postgres_server.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield f"{postgres_server.rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def catalogue(tx: sa.Connection) -> set[tuple[str, ...]]:
    """Everything the database knows about our tables, as it writes it itself."""
    if tx.dialect.name == "sqlite":
        rows = tx.execute(sa.text("SELECT type, name, tbl_name, sql FROM sqlite_master"))
        found = {(row[0], row[1], row[2], " ".join((row[3] or "").split())) for row in rows}
    else:
        queries = (
            "SELECT 'column', table_name, column_name, data_type, collation_name, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = 'public'",
            "SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE connamespace = 'public'::regnamespace",
            "SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
            "SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE NOT tgisinternal",
            "SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        )
        found = {tuple(str(v) for v in row) for query in queries for row in tx.execute(sa.text(query))}
    return {row for row in found if not any("alembic_version" in part for part in row)}


def test_a_naive_datetime_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="naive datetime"), ledger.begin() as tx:
        tx.execute(sa.select(schema.waves).where(schema.waves.c.as_of == datetime(2026, 1, 1)))


def test_instants_come_back_as_utc(ledger: Ledger) -> None:
    start(ledger)
    with ledger.read() as tx:
        found = tx.execute(sa.select(schema.experiments.c.started_at)).scalar_one()
    assert found == T0
    assert found.tzinfo is UTC


@pytest.mark.parametrize("operation", ["add", "sub", "radd"])
def test_date_arithmetic_in_sql_is_refused(operation: str) -> None:
    column, step = schema.waves.c.as_of, sa.literal("1 day")
    with pytest.raises(LedgerError, match="no date arithmetic"):
        {"add": lambda: column + step, "sub": lambda: column - step, "radd": lambda: column.concat("x")}[operation]()


def test_a_reading_transaction_cannot_write_and_sees_one_snapshot(ledger: Ledger) -> None:
    insert = sa.insert(schema.unsubscribe_links).values(customer_id="c1")
    with pytest.raises(LedgerError, match="refused"), ledger.read() as tx:
        tx.execute(insert)
    count = sa.select(sa.func.count()).select_from(schema.unsubscribe_links)
    with ledger.read() as tx:
        assert tx.execute(count).scalar() == 0
        with ledger.begin() as other:
            other.execute(insert)
        assert tx.execute(count).scalar() == 0
    with ledger.read() as tx:
        assert tx.execute(count).scalar() == 1


def test_a_writer_that_read_first_never_meets_a_lock_error(ledger: Ledger) -> None:
    budget = schema.budgets
    with ledger.begin() as tx:
        tx.execute(sa.insert(budget).values(campaign="a", messages=0, cost_micros=0))
    errors: list[Exception] = []

    def add() -> None:
        try:
            for _ in range(20):
                with ledger.begin(durable=False) as tx:
                    query = sa.select(budget.c.messages).with_for_update()
                    n = tx.execute(query).scalar_one()
                    tx.execute(sa.update(budget).values(messages=n + 1))
        except LedgerError as error:
            errors.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.read() as tx:
        total = tx.execute(sa.select(budget.c.messages)).scalar_one()
    assert errors == []
    assert total == 80


def test_what_a_database_refuses_is_told_without_the_rows(ledger: Ledger) -> None:
    insert = sa.insert(schema.unsubscribe_links).values(customer_id="secret-customer")
    with ledger.begin() as tx:
        tx.execute(insert)
    with pytest.raises(LedgerError) as caught, ledger.begin() as tx:
        tx.execute(insert)
    assert "refused" in str(caught.value)
    assert "secret-customer" not in str(caught.value)


def test_sqlite_runs_in_wal_mode_with_foreign_keys_and_waits_for_writers(sqlite_ledger: Ledger) -> None:
    with sqlite_ledger.begin() as tx:
        pragmas = {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 60_000, "synchronous": 2}
    with sqlite_ledger.begin(durable=False) as tx:
        assert tx.exec_driver_sql("PRAGMA synchronous").scalar() == 1


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 31, 0))
    with pytest.raises(LedgerError, match="too old"):
        open_ledger(f"sqlite:///{tmp_path / 'x.db'}")
