"""Rows that were refused, written beside the data as they stood in their files, each with its reason."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from warehouse.facts.load_request import LoadRequest, Workshop
from warehouse.facts.parquet import literal, quoted
from warehouse.facts.sources import ROW, SourceFile
from warehouse.facts.staging import FILE, QUARANTINE, REASON


def refused_counts(workshop: Workshop) -> dict[str, int]:
    """How many rows were refused, by reason."""
    rows = workshop.cursor.execute(f"SELECT {REASON}, count(*) FROM refused GROUP BY 1 ORDER BY 1").fetchall()
    return {reason: int(n) for reason, n in rows}


def write_quarantine(request: LoadRequest, workshop: Workshop, sources: Sequence[SourceFile]) -> Path:
    """Write a CSV file of the refused rows: reason, file, row (from 1, the header not counted), then their columns."""
    path = _free_path(request)
    reason, file, row = map(quoted, QUARANTINE)
    parts = [
        f"SELECT {REASON} AS {reason}, {literal(str(source.path))} AS {file}, {ROW} AS {row}, "
        f"{_as_texts(source, sources[0])} FROM ({source.scan_sql()}) AS s "
        f"JOIN (SELECT {ROW}, {REASON} FROM refused WHERE {FILE} = {number}) AS r USING ({ROW})"
        for number, source in enumerate(sources, 1)
    ]
    rows = f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY {file}, {row}"
    workshop.cursor.execute(f"COPY ({rows}) TO {literal(str(path))} (FORMAT csv, HEADER true)")
    return path


def _free_path(request: LoadRequest) -> Path:
    request.quarantine_dir.mkdir(parents=True, exist_ok=True)
    stem, turn = f"{request.table}-{request.now:%Y%m%dT%H%M%SZ}", 1
    path = request.quarantine_dir / f"{stem}.csv"
    while path.exists():
        turn += 1
        path = request.quarantine_dir / f"{stem}-{turn}.csv"
    return path


def _as_texts(source: SourceFile, first: SourceFile) -> str:
    by_name = {name.lower(): name for name in source.types}
    return ", ".join(f"CAST({quoted(by_name[name.lower()])} AS VARCHAR) AS {quoted(name)}" for name in first.types)
