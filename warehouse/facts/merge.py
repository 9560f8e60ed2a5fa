"""New rows against the rows already there: which are added, changed or the same, and the files that result."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from warehouse.facts.manifests import DataFile, Manifest, flush_to_disk
from warehouse.facts.parquet import column_types, literal, quoted, read_parquet_sql, scan_sql
from warehouse.facts.schema import SCHEMAS, TableName
from warehouse.facts.sources import ROW
from warehouse.facts.staging import FILE, LOST, REASON

if TYPE_CHECKING:
    import duckdb

    from warehouse.facts.load_request import Workshop

STATUS: Final = "retain_status"
_GATHERED: Final = ((2 << 20, 8), (32 << 20, 32))
"""(bytes, files): once there are so many files of fewer bytes the next load rewrites them as one."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Typed rows of one load in Parquet, with which of our columns the files held."""

    table: TableName
    paths: tuple[Path, ...]
    present: tuple[str, ...]
    keep_existing: bool = False

    @property
    def scan(self) -> str:
        """The staged rows as a table expression."""
        return read_parquet_sql(self.paths)


@dataclass(frozen=True, slots=True)
class Merged:
    """Counts of a merge and the table's files afterwards (the same ones where nothing changed)."""

    added: int
    updated: int
    unchanged: int
    files: tuple[DataFile, ...]

    @property
    def has_changes(self) -> bool:
        """Whether the table differs from before."""
        return bool(self.added or self.updated)


def find_refused(cursor: duckdb.DuckDBPyConnection, staged: Staged, data_dir: Path, base: Manifest) -> None:
    """Fill the temporary tables `refused` (file, row, reason) and `repeated` (rows whose key repeats, with content)."""
    key = quoted(SCHEMAS[staged.table].key)
    good = f"FROM {staged.scan} WHERE {REASON} IS NULL"
    content = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in staged.present)
    for table, rows in {
        "refused": f"SELECT {FILE}, {ROW}, {REASON} FROM {staged.scan} WHERE {REASON} IS NOT NULL",
        "keys": f"SELECT {key} {good} GROUP BY 1 HAVING count(*) > 1",
        "repeated": f"SELECT {key}, {FILE}, {ROW}, struct_pack({content}) AS content {good} AND {key} IN (FROM keys)",
        "torn": f"SELECT {FILE}, {key} FROM repeated GROUP BY ALL HAVING count(DISTINCT content) > 1",
    }.items():
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {rows}")
    torn = f"FROM repeated SEMI JOIN torn USING ({FILE}, {key})"
    cursor.execute(f"INSERT INTO refused SELECT {FILE}, {ROW}, 'duplicate_key' {torn}")
    if staged.table != "customers" and base.rows("customers"):
        known = f"SELECT customer_id FROM ({scan_sql('customers', data_dir, base)})"
        strangers = f"FROM {staged.scan} AS s ANTI JOIN ({known}) AS k USING (customer_id) WHERE {REASON} IS NULL"
        cursor.execute(
            f"INSERT INTO refused SELECT {FILE}, {ROW}, 'unknown_customer' FROM (SELECT {FILE}, {ROW} {strangers}) "
            f"ANTI JOIN refused USING ({FILE}, {ROW})"
        )


def merge(workshop: Workshop, staged: Staged, data_dir: Path, base: Manifest) -> Merged:
    """Write the files the table has after this load and count what happened to the rows; nothing is published yet.

    `base` is the state to build on, with the attributes this load brings. `find_refused` comes first.
    """
    cursor = workshop.cursor
    repeated_updated, repeated_same = _supersede(cursor, staged)
    if not base.of(staged.table):
        new = _write(workshop, staged.table, _merged_sql(staged, data_dir, base), data_dir, base, set())
        return Merged(new[-1].rows, repeated_updated, repeated_same, new if new[-1].rows else ())
    merged = workshop.folder / "merged.parquet"
    cursor.execute(f"COPY ({_merged_sql(staged, data_dir, base)}) TO {literal(str(merged))} (FORMAT parquet)")
    rows = read_parquet_sql([merged])
    counts = dict(cursor.execute(f"SELECT {STATUS}, count(*) FROM {rows} GROUP BY 1").fetchall())
    added, updated, same = (int(counts.get(status, 0)) for status in ("added", "updated", "unchanged"))
    files = base.of(staged.table)
    if added or updated:
        replaced = _replaced_files(cursor, staged.table, rows, data_dir, base) if updated else set()
        files = _write(workshop, staged.table, f"FROM {rows}", data_dir, base, replaced | _many_small(files))
    return Merged(added, updated + repeated_updated, same + repeated_same, files)


def _supersede(cursor: duckdb.DuckDBPyConnection, staged: Staged) -> tuple[int, int]:
    """Of rows with one key keep the newest, the others are `superseded`: how many of them were changed and not."""
    key = quoted(SCHEMAS[staged.table].key)
    turns = (
        f"SELECT {FILE}, {ROW}, content IS DISTINCT FROM lead(content) OVER turns AS changed, "
        f"row_number() OVER turns < count(*) OVER (PARTITION BY {key}) AS is_old "
        f"FROM repeated ANTI JOIN refused USING ({FILE}, {ROW}) "
        f"WINDOW turns AS (PARTITION BY {key} ORDER BY {FILE}, {ROW})"
    )
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE superseded AS SELECT {FILE}, {ROW}, changed FROM ({turns}) WHERE is_old"
    )
    row = cursor.execute("SELECT count(*) FILTER (changed), count(*) FILTER (NOT changed) FROM superseded").fetchone()
    assert row is not None  # an aggregate always has one row
    return int(row[0]), int(row[1])


def _merged_sql(staged: Staged, data_dir: Path, base: Manifest) -> str:
    """All columns of the rows that count, with their status against the rows already there."""
    schema = SCHEMAS[staged.table]
    types = column_types(staged.table, base)
    present = set(staged.present)
    gone = f"SELECT {FILE}, {ROW} FROM refused UNION ALL SELECT {FILE}, {ROW} FROM superseded"
    fresh = (
        f"SELECT * EXCLUDE ({FILE}, {ROW}, {REASON}, {LOST}) FROM {staged.scan} "
        f"ANTI JOIN ({gone}) AS gone USING ({FILE}, {ROW})"
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


def _many_small(files: Sequence[DataFile]) -> set[str]:
    """The small files, where there are so many that every query pays for opening them."""
    gathered: set[str] = set()
    for size_bytes, many in _GATHERED:
        small = {file.path for file in files if file.size_bytes < size_bytes}
        gathered |= small if len(small) >= many else set()
    return gathered


def _write(
    workshop: Workshop, table: TableName, merged: str, data_dir: Path, base: Manifest, replaced: set[str]
) -> tuple[DataFile, ...]:
    """One new file with the new rows of a SELECT and those of the replaced files that stay; the other files remain."""
    key = quoted(SCHEMAS[table].key)
    rows = f"SELECT * EXCLUDE ({STATUS}) FROM ({merged}) WHERE {STATUS} <> 'unchanged'"
    if replaced:
        old = scan_sql(table, data_dir, base, sorted(replaced))
        updated = f"SELECT {key} FROM ({merged}) WHERE {STATUS} = 'updated'"
        rows = f"SELECT * FROM ({old}) ANTI JOIN ({updated}) AS u USING ({key}) UNION ALL BY NAME {rows}"
    path = f"{table}/{base.version + 1:08d}-{workshop.token}.parquet"
    kept = [file for file in base.of(table) if file.path not in replaced]
    return (*kept, write_file(workshop.cursor, table, rows, data_dir, path, base))


def _replaced_files(
    cursor: duckdb.DuckDBPyConnection, table: TableName, merged: str, data_dir: Path, base: Manifest
) -> set[str]:
    """The files that hold rows which this load updates."""
    key = quoted(SCHEMAS[table].key)
    names = {str(data_dir / file.path): file.path for file in base.of(table)}
    scan = read_parquet_sql([data_dir / file.path for file in base.of(table)], ", union_by_name=true, filename=true")
    updated = f"SELECT {key} FROM {merged} WHERE {STATUS} = 'updated'"
    rows = cursor.execute(f"SELECT DISTINCT filename FROM {scan} SEMI JOIN ({updated}) AS u USING ({key})").fetchall()
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
    digest = f"coalesce(sum(CAST({_row_hash(table, base)} AS HUGEINT)), 0)"
    counted = cursor.execute(f"SELECT count(*), {digest} FROM {read_parquet_sql([target])}").fetchone()
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
