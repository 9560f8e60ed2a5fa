"""Rows of a file that do not become facts (consents, suppressions): read as texts, by our column names."""

# ruff: noqa: S608 - identifiers are quoted
from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from warehouse.facts.errors import FactsError
from warehouse.facts.parquet import quoted
from warehouse.facts.reading import explaining
from warehouse.facts.sources import ROW, SourceFile, open_source
from warehouse.facts.staging import text_sql

_FETCHED: Final = 10_000


def read_listed(
    path: Path, columns: Sequence[str], *, renames: Mapping[str, str], required: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a CSV or Parquet file as (number from 1, values by our names); missing columns and values are None.

    `renames` is ours -> theirs.

    Raises:
        FactsError: the file is missing or broken (with its line), or a required column is not there.
    """
    import duckdb

    with duckdb.connect(":memory:") as cursor:
        source = open_source(path, cursor)
        theirs = _match(source, columns, renames, required)
        wanted = [f"{text_sql(quoted(name), source.types[name])} AS {quoted(ours)}" for ours, name in theirs.items()]
        with explaining([source]):
            rows = cursor.execute(f"SELECT {', '.join([ROW, *wanted])} FROM ({source.scan_sql()}) ORDER BY {ROW}")
            while found := rows.fetchmany(_FETCHED):
                for number, *values in found:
                    told = dict(zip(theirs, values, strict=True))
                    yield int(number), {name: told.get(name) for name in columns}


def _match(
    source: SourceFile, columns: Sequence[str], renames: Mapping[str, str], required: Sequence[str]
) -> dict[str, str]:
    by_name = {name.lower(): name for name in source.types}
    for ours, named in renames.items():
        if ours not in columns:
            near = difflib.get_close_matches(ours, columns, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise FactsError(
                f"mapping {named}={ours}: no column {ours} is asked for{hint}; columns: {', '.join(columns)}"
            )
        if named.lower() not in by_name:
            raise FactsError(
                f"{source.path}:1: no column {named}; the file has {', '.join(source.types)}. Correct the mapping"
            )
    found = {
        ours: by_name[renames.get(ours, ours).lower()] for ours in columns if renames.get(ours, ours).lower() in by_name
    }
    for ours in required:
        if ours not in found:
            raise FactsError(
                f"{source.path}:1: no column {ours}; the file has {', '.join(source.types)}. Name the right one with "
                f"--map THEIRS={ours}"
            )
    if not found:
        raise FactsError(
            f"{source.path}:1: none of its columns is known ({', '.join(source.types)}); expected some of "
            f"{', '.join(columns)}. Name them with --map THEIRS=OURS"
        )
    return found
