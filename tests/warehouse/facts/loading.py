"""What the tests of loading share: the rows that are there, and what a summary says of those that came."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from warehouse.facts.load import LoadSummary
from warehouse.facts.store import Facts

Write = Callable[[str, str], Path]
Options = dict[str, Any]


def rows(facts: Facts, table: str, *columns: str) -> list[tuple[Any, ...]]:
    source = getattr(facts.tables, table)
    chosen = [source.c[name] for name in columns] or list(source.c)
    with facts.connection() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*chosen).order_by(next(iter(source.c))))]


def counts(summary: LoadSummary) -> tuple[int, int, int, int, int]:
    return summary.read, summary.added, summary.updated, summary.unchanged, summary.quarantined


def quarantined(summary: LoadSummary) -> list[dict[str, str]]:
    assert summary.quarantine_file is not None
    with summary.quarantine_file.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
