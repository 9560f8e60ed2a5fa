"""A ledger of each kind: every test of this room runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from .ledgers import ledger, ledger_url, postgres_ledger, postgres_ledger_url, sqlite_ledger, sqlite_template

__all__ = ["ledger", "ledger_url", "postgres_ledger", "postgres_ledger_url", "sqlite_ledger", "sqlite_template"]
