"""Loading files into the facts: everything or nothing, once for ever, with the rows that were refused set aside."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import available_timezones

from warehouse.facts.attributes import infer_kinds
from warehouse.facts.errors import FactsError
from warehouse.facts.manifests import Manifest, VersionTaken, latest_manifest, publish
from warehouse.facts.merge import Merged, Staged, find_refused, merge, refused_counts
from warehouse.facts.parquet import literal, quoted, scan_sql
from warehouse.facts.schema import SCHEMAS, TABLES, TableName, table_schema
from warehouse.facts.sources import ROW, SourceFile, explain_broken, open_source
from warehouse.facts.staging import FILE, LOST, REASON, Plan, attribute_name, plan_columns, typed_sql

if TYPE_CHECKING:
    import duckdb

    from warehouse.facts.store import Facts

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is."""

_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What became of the rows of a load: read = added + updated + unchanged + quarantined."""

    table: TableName
    read: int
    added: int
    updated: int
    unchanged: int
    quarantined: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    quarantine_file: Path | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The summary as plain values."""
        return {
            "table": self.table,
            "read": self.read,
            "added": self.added,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "quarantined": self.quarantined,
            "reasons": dict(self.reasons),
            "quarantine_file": str(self.quarantine_file) if self.quarantine_file else None,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class _Request:
    """What a load was asked to do."""

    facts: Facts
    table: TableName
    files: Sequence[Path]
    renames: Mapping[str, str]
    time_zone: str
    quarantine_dir: Path
    now: datetime
    progress: Progress


def load_table(
    facts: Facts,
    table: str,
    files: Sequence[Path],
    *,
    renames: Mapping[str, str],
    time_zone: str,
    quarantine_dir: Path,
    now: datetime,
    progress: Progress | None = None,
) -> LoadSummary:
    """Load CSV or Parquet files into a table, all of them or nothing.

    A row whose key is new is added; one whose content changed replaces the old one (columns the files lack keep their value); one that
    is the same changes nothing. `renames` says which of their columns is ours (ours -> theirs), `time_zone` is that of times without an
    offset. Refused rows go to a CSV file in `quarantine_dir`, with reason, file and row number in front.

    Raises:
        FactsError: a file is missing or broken (with its line), a required column is missing, or the facts are not the embedded ones.
            Nothing is changed then.
    """
    request = _Request(facts, _known_table(table), files, renames, time_zone, quarantine_dir, now, progress or _silent)
    _check(request)
    return _retrying(request, _attempt)


def load_customers_from_orders(
    facts: Facts,
    files: Sequence[Path] = (),
    *,
    renames: Mapping[str, str],
    time_zone: str,
    quarantine_dir: Path,
    now: datetime,
    progress: Progress | None = None,
) -> LoadSummary:
    """Add a customer for every customer_id of the orders that is not a customer yet, created at the first order.

    The orders are those of `files` (which need only customer_id and ordered_at), or without files the ones already loaded. Customers that
    are there stay as they are (unchanged). The summary counts customers, and refused rows of the files.

    Raises:
        FactsError: as `load_table`.
    """
    request = _Request(facts, "customers", files, renames, time_zone, quarantine_dir, now, progress or _silent)
    _check(request, files_needed=False)
    return _retrying(request, _attempt_from_orders)


def _retrying(request: _Request, attempt: Callable[[_Request], LoadSummary]) -> LoadSummary:
    for _ in range(_ATTEMPTS):
        try:
            return attempt(request)
        except VersionTaken:
            continue
    raise FactsError(
        f"{request.facts.data_dir}: other loads were published {_ATTEMPTS} times while this one was prepared; nothing was loaded. Load again "
        "when they have finished"
    )


def _known_table(table: str) -> TableName:
    schema = table_schema(table)
    if schema is None:
        raise FactsError(f"{table} is not a table of the facts; expected one of {', '.join(TABLES)}")
    return schema.name


def _check(request: _Request, *, files_needed: bool = True) -> None:
    if not request.facts.is_embedded:
        raise FactsError(
            "facts_url names a database of the company, which is only read; expected facts_url = duckdb for loading. "
            "Load the rows into that database, or set facts_url = duckdb in retain.toml"
        )
    if files_needed and not request.files:
        raise FactsError("no file to load; expected at least one CSV or Parquet file")
    if request.time_zone not in available_timezones():
        raise FactsError(f"{request.time_zone}: not a time zone; expected a name such as Europe/London")


def _silent(step: str, done: int, total: int) -> None:
    del step, done, total


def _attempt(request: _Request) -> LoadSummary:
    facts, table = request.facts, request.table
    base = latest_manifest(facts.data_dir)
    with _workshop(facts, request.time_zone) as (cursor, folder):
        sources = _open_all(request, cursor)
        plan, base, warnings = _plan(request, cursor, sources, base)
        staged = Staged(table, _stage(request, cursor, sources, plan, base, folder), plan.present)
        request.progress("check", 0, 1)
        find_refused(cursor, staged, facts.data_dir, base)
        request.progress("merge", 0, 1)
        merged = merge(cursor, staged, facts.data_dir, base, folder.name)
        warnings += _value_warnings(cursor, staged, base)
        _publish(facts, base, table, merged)
        return _summary(request, cursor, staged, merged, warnings, sources)


def _attempt_from_orders(request: _Request) -> LoadSummary:
    facts = request.facts
    base = latest_manifest(facts.data_dir)
    with _workshop(facts, request.time_zone) as (cursor, folder):
        sources = _open_all(request, cursor)
        orders = _orders_scan(request, cursor, sources, base, folder)
        derived = folder / "derived.parquet"
        cursor.execute(
            f"COPY (SELECT 1 AS {FILE}, row_number() OVER () AS {ROW}, CAST(NULL AS VARCHAR) AS {REASON}, CAST(NULL AS VARCHAR) AS {LOST}, "
            f"customer_id, created_at FROM (SELECT customer_id, min(ordered_at) AS created_at FROM {orders} "
            f"WHERE {REASON} IS NULL GROUP BY 1)) TO {literal(str(derived))} (FORMAT parquet)"
        )
        staged = Staged("customers", derived, ("customer_id", "created_at"), keep_existing=True)
        request.progress("merge", 0, 1)
        find_refused(cursor, staged, facts.data_dir, base)
        merged = merge(cursor, staged, facts.data_dir, base, folder.name)
        cursor.execute(f"INSERT INTO refused SELECT {FILE}, {ROW}, {REASON} FROM {orders} WHERE {REASON} IS NOT NULL")
        _publish(facts, base, "customers", merged)
        return _summary(request, cursor, staged, merged, [], sources)


def _orders_scan(
    request: _Request, cursor: duckdb.DuckDBPyConnection, sources: list[SourceFile], base: Manifest, folder: Path
) -> str:
    """The orders to take customers from, with the reason a row is refused."""
    if not sources:
        loaded = scan_sql("orders", request.facts.data_dir, base)
        return f"(SELECT 1 AS {FILE}, 0 AS {ROW}, CAST(NULL AS VARCHAR) AS {REASON}, customer_id, ordered_at FROM ({loaded}))"
    plan = plan_columns("orders", sources[0], request.renames, only=("customer_id", "ordered_at"))
    return f"read_parquet({literal(str(_stage(request, cursor, sources, plan, base, folder)))})"


@contextmanager
def _workshop(facts: Facts, time_zone: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A DuckDB session of this load's own that reads naive times in its zone, and a folder for its intermediate files."""
    token = uuid.uuid4().hex
    folder = facts.data_dir / ".loading" / token
    folder.mkdir(parents=True)
    cursor = facts.loader_cursor()
    try:
        cursor.execute(f"SET TimeZone = {literal(time_zone)}")
        yield cursor, folder
    finally:
        cursor.close()
        shutil.rmtree(folder, ignore_errors=True)


def _open_all(request: _Request, cursor: duckdb.DuckDBPyConnection) -> list[SourceFile]:
    sources = [open_source(path, cursor) for path in request.files]
    for other in sources[1:]:
        first = sources[0]
        if {n.lower() for n in other.types} != {n.lower() for n in first.types}:
            differ = sorted(set(other.types) ^ set(first.types))
            raise FactsError(
                f"{other.path}:1: its columns differ from those of {first.path} ({', '.join(differ)}); expected files of one kind. "
                "Load it by itself"
            )
    return sources


def _plan(
    request: _Request, cursor: duckdb.DuckDBPyConnection, sources: list[SourceFile], base: Manifest
) -> tuple[Plan, Manifest, list[str]]:
    """Columns of the files as ours, the state with the attributes they bring, and what to warn of."""
    from campaigns.features import FEATURES

    reserved = frozenset(FEATURES)
    plan = plan_columns(request.table, sources[0], request.renames, reserved)
    fresh = {ours: theirs for ours, theirs in plan.attributes.items() if ours not in base.attributes}
    kinds = {}
    if fresh:
        with _reading(sources):
            kinds = infer_kinds(cursor, sources, fresh)
    empty = tuple(ours for ours in fresh if ours not in kinds)
    plan = replace(plan, attributes={o: t for o, t in plan.attributes.items() if o not in empty})
    warnings = []
    if plan.unused:
        why = "their names are taken" if request.table == "customers" else f"{request.table} has no such columns"
        warnings.append(f"columns not used: {', '.join(plan.unused)} ({why})")
    if empty:
        warnings.append(f"columns without any value, not kept: {', '.join(empty)}")
    if request.table != "customers" and not base.rows("customers"):
        warnings.append("no customers are loaded yet, so the customers of these rows were not checked")
    return plan, replace(base, attributes={**base.attributes, **kinds}), warnings


def _stage(
    request: _Request,
    cursor: duckdb.DuckDBPyConnection,
    sources: list[SourceFile],
    plan: Plan,
    base: Manifest,
    folder: Path,
) -> Path:
    for number, source in enumerate(sources, 1):
        request.progress("read", number - 1, len(sources))
        part = folder / f"staged-{number:06d}.parquet"
        own = _own_spelling(plan, source)
        with _reading([source]):
            cursor.execute(
                f"COPY ({typed_sql(own, source, base.attributes, number, request.time_zone)}) TO {literal(str(part))} (FORMAT parquet)"
            )
    request.progress("read", len(sources), len(sources))
    return folder / "staged-*.parquet"


def _own_spelling(plan: Plan, source: SourceFile) -> Plan:
    """The plan with the column names as this file writes them."""
    by_name = {name.lower(): name for name in source.types}
    return replace(
        plan,
        columns={ours: by_name[theirs.lower()] for ours, theirs in plan.columns.items()},
        attributes={ours: by_name[theirs.lower()] for ours, theirs in plan.attributes.items()},
    )


@contextmanager
def _reading(sources: Sequence[SourceFile]) -> Iterator[None]:
    """Turn DuckDB's complaint about a file into ours, with file and line."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        faults = [explain_broken(source, str(error).splitlines()[0]) for source in sources]
        located = [fault for fault in faults if "cannot be read" not in str(fault)]
        raise (located or faults)[0] from error


def _value_warnings(cursor: duckdb.DuckDBPyConnection, staged: Staged, base: Manifest) -> list[str]:
    kinds = {c.name: c.kind for c in SCHEMAS[staged.table].columns} | dict(base.attributes)
    rows = cursor.execute(
        f"SELECT name, count(*) FROM (SELECT unnest(string_split({LOST}, ',')) AS name FROM {staged.scan} WHERE {LOST} IS NOT NULL) "
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return [f"{name}: {n} values are not understood as {kinds[name]} and left missing" for name, n in rows]


def _publish(facts: Facts, base: Manifest, table: TableName, merged: Merged) -> None:
    if merged.added or merged.updated:
        publish(facts.data_dir, replace(base, version=base.version + 1, files={**base.files, table: merged.files}))
    facts.refresh()


def _summary(
    request: _Request,
    cursor: duckdb.DuckDBPyConnection,
    staged: Staged,
    merged: Merged,
    warnings: list[str],
    sources: list[SourceFile],
) -> LoadSummary:
    reasons = refused_counts(cursor)
    quarantined = sum(reasons.values())
    if "duplicate_key" in reasons:
        key = SCHEMAS[request.table].key
        warnings.append(
            f"{key} repeats within a file with different content; is it the key of a row? None of these rows were loaded"
        )
    return LoadSummary(
        table=request.table,
        read=merged.added + merged.updated + merged.unchanged + quarantined,
        added=merged.added,
        updated=merged.updated,
        unchanged=merged.unchanged,
        quarantined=quarantined,
        reasons=reasons,
        quarantine_file=_write_quarantine(request, cursor, sources) if quarantined else None,
        warnings=tuple(warnings),
    )


def _write_quarantine(request: _Request, cursor: duckdb.DuckDBPyConnection, sources: list[SourceFile]) -> Path:
    """The refused rows as they stood in the files."""
    request.quarantine_dir.mkdir(parents=True, exist_ok=True)
    stem = f"{request.table}-{request.now:%Y%m%dT%H%M%SZ}"
    path, turn = request.quarantine_dir / f"{stem}.csv", 1
    while path.exists():
        turn += 1
        path = request.quarantine_dir / f"{stem}-{turn}.csv"
    parts = [
        f'SELECT {REASON} AS "reason", {literal(str(source.path))} AS "file", {ROW} AS "row", {_as_texts(source, sources[0])} '
        f"FROM ({source.scan_sql()}) AS s JOIN (SELECT {ROW}, {REASON} FROM refused WHERE {FILE} = {number}) AS r USING ({ROW})"
        for number, source in enumerate(sources, 1)
    ]
    rows = " UNION ALL ".join(parts)
    cursor.execute(
        f'COPY (SELECT * FROM ({rows}) ORDER BY "file", "row") TO {literal(str(path))} (FORMAT csv, HEADER true)'
    )
    return path


def _as_texts(source: SourceFile, first: SourceFile) -> str:
    by_name = {name.lower(): name for name in source.types}
    return ", ".join(f"CAST({quoted(by_name[name.lower()])} AS VARCHAR) AS {quoted(name)}" for name in first.types)
