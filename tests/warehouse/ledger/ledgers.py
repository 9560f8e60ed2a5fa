"""Ledgers to test on: a fresh database of each kind, copied from one that was migrated once."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from warehouse.ledger import schema
from warehouse.ledger.engine import Ledger, migrate, open_ledger


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """A migrated ledger of each kind."""
    found: Ledger = request.getfixturevalue(f"{request.param}_ledger")
    return found


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("ledger") / "template.db"
    opened = open_ledger(f"sqlite:///{path}")
    migrate(opened)
    with opened.begin() as tx:
        tx.exec_driver_sql("SELECT 1")
    opened.close()
    return path


@pytest.fixture
def sqlite_ledger(sqlite_template: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A migrated SQLite ledger."""
    shutil.copy(sqlite_template, tmp_path / "ledger.db")
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def postgres_ledger_url(postgres_server: str) -> Iterator[str]:
    """The address of a migrated PostgreSQL database that the tests of a session share, one after the other."""
    name = f"retain_test_{uuid.uuid4().hex[:12]}"
    plain = postgres_server.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    try:
        opened = open_ledger(f"{postgres_server.rsplit('/', 1)[0]}/{name}")
        migrate(opened)
        opened.close()
        yield f"{postgres_server.rsplit('/', 1)[0]}/{name}"
    finally:
        with psycopg.connect(plain, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def postgres_ledger(postgres_ledger_url: str) -> Iterator[Ledger]:
    """A migrated, empty PostgreSQL ledger."""
    opened = open_ledger(postgres_ledger_url)
    yield opened
    empty(opened)
    opened.close()


def empty(ledger: Ledger) -> None:
    """Empty a ledger of a test, guards or not."""
    with ledger.begin(durable=False) as tx:
        tx.exec_driver_sql("SET LOCAL session_replication_role = replica")  # triggers off, for this transaction
        for table in reversed(schema.metadata.sorted_tables):  # few rows: DELETE is ten times as fast as TRUNCATE
            tx.exec_driver_sql(f"DELETE FROM {table.name}")
        tx.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{schema.SCHEMA_VERSION}'")
