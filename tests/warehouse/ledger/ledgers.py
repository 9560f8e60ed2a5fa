"""Ledgers to test on: a fresh database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from warehouse.ledger.engine import Ledger, migrate, open_ledger


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """A migrated ledger of each kind."""
    opened = open_ledger(ledger_url)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A migrated SQLite ledger, for what is the same on both."""
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def postgres_ledger(postgres_url: str) -> Iterator[Ledger]:
    """A migrated PostgreSQL ledger, for what only happens there."""
    opened = open_ledger(postgres_url)
    migrate(opened)
    yield opened
    opened.close()
