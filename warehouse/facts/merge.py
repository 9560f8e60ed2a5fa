"""New rows against the rows already there: which are added, changed or the same, and the files that result."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from warehouse.facts.manifests import DataFile, Manifest, flush_to_disk
from warehouse.facts.parquet import column_types, literal, quoted, scan_sql
from warehouse.facts.schema import SCHEMAS, TableName
from warehouse.facts.sources import ROW
from warehouse.facts.staging import FILE, LOST, REASON

if TYPE_CHECKING:
    import duckdb

STATUS: Final = "retain_status"
_SMALL_BYTES: Final = 32 << 20
_MANY_SMALL: Final = 32
"""More small files than this are rewritten as one with the next load."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Typed rows of one load in Parquet, with which of our columns the files held."""

    table: TableName
    path: Path
    present: tuple[str, ...]
    keep_existing: bool = False

    @property
    def scan(self) -> str:
        """The staged rows as a table expression."""
        return f"read_parquet({literal(str(self.path))})"


@dataclass(frozen=True, slots=True)
class Merged:
    """Counts of a merge and the table's files afterwards (the same ones where nothing changed)."""

    added: int
    updated: int
    unchanged: int
    files: tuple[DataFile, ...]


def find_refused(cursor: duckdb.DuckDBPyConnection, staged: Staged, data_dir: Path, base: Manifest) -> None:
    """Fill the temporary tables `refused` (file, row, reason) and `repeated` (rows whose key repeats, with their turn)."""
    key = quoted(SCHEMAS[staged.table].key)
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE refused AS SELECT {FILE}, {ROW}, {REASON} FROM {staged.scan} WHERE {REASON} IS NOT NULL"
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE keys AS SELECT {key} FROM {staged.scan} WHERE {REASON} IS NULL GROUP BY 1 HAVING count(*) > 1"
    )
    content = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in staged.present)
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE repeated AS SELECT {key}, {FILE}, {ROW}, struct_pack({content}) AS content "
        f"FROM {staged.scan} SEMI JOIN keys USING ({key}) WHERE {REASON} IS NULL"
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE torn AS SELECT {FILE}, {key} FROM repeated "
        f"GROUP BY ALL HAVING count(DISTINCT content) > 1"
    )
    cursor.execute(
        f"INSERT INTO refused SELECT {FILE}, {ROW}, 'duplicate_key' FROM repeated SEMI JOIN torn USING ({FILE}, {key})"
    )
    if staged.table != "customers" and base.rows("customers"):
        known = f"SELECT customer_id FROM ({scan_sql('customers', data_dir, base)})"
        cursor.execute(
            f"INSERT INTO refused SELECT {FILE}, {ROW}, 'unknown_customer' FROM {staged.scan} "
            f"ANTI JOIN ({known}) AS known USING (customer_id) "
            f"WHERE {REASON} IS NULL AND ({FILE}, {ROW}) NOT IN (SELECT ({FILE}, {ROW}) FROM refused)"
        )


def merge(cursor: duckdb.DuckDBPyConnection, staged: Staged, data_dir: Path, base: Manifest, token: str) -> Merged:
    """Write the files the table has after this load and count what happened to the rows; nothing is published yet.

    `base` is the state to build on, with the attributes this load brings; new files bear `token`.
    """
    superseded_updated, superseded_same = _supersede(cursor, staged)
    merged = staged.path.with_name("merged.parquet")
    cursor.execute(f"COPY ({_merged_sql(staged, data_dir, base)}) TO {literal(str(merged))} (FORMAT parquet)")
    counted = dict(
        cursor.execute(f"SELECT {STATUS}, count(*) FROM read_parquet({literal(str(merged))}) GROUP BY 1").fetchall()
    )
    added, updated, same = (int(counted.get(status, 0)) for status in ("added", "updated", "unchanged"))
    files = base.of(staged.table)
    if added or updated:
        files = _write(cursor, staged, merged, data_dir, base, token, rewritten=bool(updated))
    return Merged(added, updated + superseded_updated, same + superseded_same, files)


def _supersede(cursor: duckdb.DuckDBPyConnection, staged: Staged) -> tuple[int, int]:
    """Of rows with one key keep the newest: fill `superseded`, and count the others that had changed and that had not."""
    key = quoted(SCHEMAS[staged.table].key)
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE turns AS SELECT {FILE}, {ROW}, content, "
        f"lead(content) OVER turn AS next_content, row_number() OVER (turn) AS turn_number, "
        f"count(*) OVER (PARTITION BY {key}) AS n_turns "
        f"FROM repeated ANTI JOIN refused USING ({FILE}, {ROW}) WINDOW turn AS (PARTITION BY {key} ORDER BY {FILE}, {ROW})"
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE superseded AS SELECT {FILE}, {ROW} FROM turns WHERE turn_number < n_turns"
    )
    row = cursor.execute(
        "SELECT count(*) FILTER (content IS DISTINCT FROM next_content), count(*) FILTER (content IS NOT DISTINCT FROM next_content) "
        "FROM turns WHERE turn_number < n_turns"
    ).fetchone()
    assert row is not None  # an aggregate always has one row
    return int(row[0]), int(row[1])


def _merged_sql(staged: Staged, data_dir: Path, base: Manifest) -> str:
    """All columns of the rows that count, with their status against the rows already there."""
    schema = SCHEMAS[staged.table]
    types = column_types(staged.table, base)
    present = set(staged.present)
    fresh = (
        f"SELECT * EXCLUDE ({FILE}, {ROW}, {REASON}, {LOST}) FROM {staged.scan} "
        f"ANTI JOIN (SELECT {FILE}, {ROW} FROM refused UNION ALL SELECT {FILE}, {ROW} FROM superseded) AS gone USING ({FILE}, {ROW})"
    )
    if not base.of(staged.table):
        columns = [f"n.{quoted(c)}" if c in present else f"CAST(NULL AS {t}) AS {quoted(c)}" for c, t in types.items()]
        return f"SELECT 'added' AS {STATUS}, {', '.join(columns)} FROM ({fresh}) AS n"
    key = quoted(schema.key)
    columns = [f"n.{quoted(c)}" if c in present else f"o.{quoted(c)} AS {quoted(c)}" for c in types]
    compared = [quoted(c) for c in types if c in present and c != schema.key]
    same = " AND ".join(f"n.{c} IS NOT DISTINCT FROM o.{c}" for c in compared) or "true"
    if staged.keep_existing:
        same = "true"
    status = f"CASE WHEN o.{key} IS NULL THEN 'added' WHEN {same} THEN 'unchanged' ELSE 'updated' END"
    old = scan_sql(staged.table, data_dir, base)
    return f"SELECT {status} AS {STATUS}, {', '.join(columns)} FROM ({fresh}) AS n LEFT JOIN ({old}) AS o USING ({key})"


def _write(
    cursor: duckdb.DuckDBPyConnection,
    staged: Staged,
    merged: Path,
    data_dir: Path,
    base: Manifest,
    token: str,
    *,
    rewritten: bool,
) -> tuple[DataFile, ...]:
    key = quoted(SCHEMAS[staged.table].key)
    changed = f"read_parquet({literal(str(merged))})"
    replaced = _touched_files(cursor, staged.table, changed, data_dir, base) if rewritten else set()
    small = {file.path for file in base.of(staged.table) if file.size_bytes < _SMALL_BYTES}
    if len(small) >= _MANY_SMALL:
        replaced |= small
    rows = f"SELECT * EXCLUDE ({STATUS}) FROM {changed} WHERE {STATUS} <> 'unchanged'"
    if replaced:
        old = scan_sql(staged.table, data_dir, base, sorted(replaced))
        updated = f"SELECT {key} FROM {changed} WHERE {STATUS} = 'updated'"
        rows = f"SELECT * FROM ({old}) ANTI JOIN ({updated}) AS u USING ({key}) UNION ALL BY NAME {rows}"
    path = f"{staged.table}/{base.version + 1:08d}-{token}.parquet"
    kept = [file for file in base.of(staged.table) if file.path not in replaced]
    return (*kept, write_file(cursor, staged.table, rows, data_dir, path, base))


def _touched_files(
    cursor: duckdb.DuckDBPyConnection, table: TableName, changed: str, data_dir: Path, base: Manifest
) -> set[str]:
    key = quoted(SCHEMAS[table].key)
    listed = ", ".join(literal(str(data_dir / file.path)) for file in base.of(table))
    rows = cursor.execute(
        f"SELECT DISTINCT filename FROM read_parquet([{listed}], union_by_name=true, filename=true) "
        f"SEMI JOIN (SELECT {key} FROM {changed} WHERE {STATUS} = 'updated') AS u USING ({key})"
    ).fetchall()
    names = {str(data_dir / file.path): file.path for file in base.of(table)}
    return {names[name] for (name,) in rows}


def write_file(
    cursor: duckdb.DuckDBPyConnection, table: TableName, rows: str, data_dir: Path, path: str, base: Manifest
) -> DataFile:
    """Write the rows of a SELECT as a new Parquet file of a table, flushed to disk, and describe it."""
    target = data_dir / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # customers sorted by id: looking up a batch of them then reads few row groups
    order = " ORDER BY customer_id" if table == "customers" else ""
    cursor.execute(f"COPY ({rows}{order}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)")
    flush_to_disk(target)
    flush_to_disk(target.parent)
    counted = cursor.execute(
        f"SELECT count(*), coalesce(sum(CAST({_row_hash(table, base)} AS HUGEINT)), 0) FROM read_parquet({literal(str(target))})"
    ).fetchone()
    assert counted is not None  # an aggregate always has one row
    return DataFile(path, int(counted[0]), target.stat().st_size, int(counted[1]))


def _row_hash(table: TableName, base: Manifest) -> str:
    """A number per row that does not depend on how rows are spread over files, nor on attributes the row lacks."""
    canonical = ", ".join(quoted(name) for name in SCHEMAS[table].names)
    parts = [f"CAST(hash({canonical}) AS HUGEINT)"]
    if table == "customers":
        key = quoted(SCHEMAS[table].key)
        for name in sorted(base.attributes):
            own = f"CAST(hash({key}, {literal(name)}, {quoted(name)}) AS HUGEINT)"
            parts.append(f"CASE WHEN {quoted(name)} IS NULL THEN 0 ELSE {own} END")
    return " + ".join(parts)


def refused_counts(cursor: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many rows were refused, by reason."""
    rows: Sequence[tuple[str, int]] = cursor.execute(
        f"SELECT {REASON}, count(*) FROM refused GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return {reason: int(n) for reason, n in rows}
