"""Loading files into the facts: everything or nothing, idempotent on keys, refused rows set aside."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from warehouse.facts.column_plan import plan_columns
from warehouse.facts.errors import FactsError
from warehouse.facts.load_request import LoadRequest, Progress, Workshop, as_loadable, as_table, open_workshop
from warehouse.facts.manifests import Manifest, VersionTaken, latest_manifest, publish
from warehouse.facts.merge import STATUS, Merged, Staged, find_refused, merge
from warehouse.facts.parquet import literal, read_parquet_sql, scan_sql
from warehouse.facts.quarantine import refused_counts, write_quarantine
from warehouse.facts.reading import Reading, lost_values, open_sources, plan_reading, stage
from warehouse.facts.schema import SCHEMAS, TableName
from warehouse.facts.sources import ROW, SourceFile
from warehouse.facts.staging import FILE, LOST, REASON

if TYPE_CHECKING:
    from warehouse.facts.store import Facts

__all__ = ["LoadSummary", "Progress", "as_table", "load_customers_from_orders", "load_table"]

_ATTEMPTS: Final = 5
LONGEST_DELAY: Final = 60
"""Days after which an order that is loaded is history and not late."""


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


def load_table(  # noqa: PLR0913 - a load is asked for in one call; the last five are keyword-only
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

    A row whose key is new is added; one whose content changed replaces the old one (columns that the files lack keep
    their value); one that is the same changes nothing. A later file wins over an earlier one. `renames` says which of
    their columns is ours (ours -> theirs), `time_zone` is that of times without an offset. Refused rows go to a CSV
    file in `quarantine_dir`, with reason, file and row number in front.

    Raises:
        FactsError: a file is missing or broken (with its line), a required column is missing, or the facts are not the
            embedded ones. Nothing is changed then.
    """
    request = LoadRequest(as_loadable(facts), as_table(table), files, renames, time_zone, quarantine_dir, now, progress)
    request.check(files_needed=True)
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

    The orders are those of `files` (which need only customer_id and ordered_at), or without files the ones already
    loaded. Customers that are there stay as they are (unchanged). The summary counts customers, and refused rows of the
    files.

    Raises:
        FactsError: as `load_table`.
    """
    request = LoadRequest(as_loadable(facts), "customers", files, renames, time_zone, quarantine_dir, now, progress)
    request.check(files_needed=False)
    return _retrying(request, _attempt_from_orders)


def _retrying(request: LoadRequest, attempt: Callable[[LoadRequest], LoadSummary]) -> LoadSummary:
    import duckdb

    for _ in range(_ATTEMPTS):
        try:
            return attempt(request)
        except VersionTaken:
            continue  # another load was published meanwhile: what is new must be found again
        except duckdb.Error as error:
            raise FactsError(
                f"the load into {request.facts.data_dir} failed in DuckDB ({str(error).splitlines()[0]}); nothing was "
                "loaded. Give it more memory (facts_memory_limit) or disk space, and load again"
            ) from error
    raise FactsError(
        f"{request.facts.data_dir}: other loads were published {_ATTEMPTS} times while this one was prepared; "
        "nothing was loaded. Load again when they have finished"
    )


def _attempt(request: LoadRequest) -> LoadSummary:
    facts = request.facts
    with open_workshop(facts, request.time_zone, files=request.files) as workshop:
        reading = plan_reading(request, workshop, latest_manifest(facts.data_dir))
        staged = Staged(request.table, stage(request, workshop, reading), reading.plan.present)
        request.tell("check", len(request.files))
        find_refused(workshop.cursor, staged, facts.data_dir, reading.base)
        request.tell("merge", len(request.files) + 1)
        merged = merge(workshop, staged, facts.data_dir, reading.base)
        warnings = (*reading.warnings, *lost_values(workshop, staged.scan, reading))
        return _finish(request, workshop, reading.base, merged, warnings, reading.sources)


def _attempt_from_orders(request: LoadRequest) -> LoadSummary:
    facts = request.facts
    base = latest_manifest(facts.data_dir)
    with open_workshop(facts, request.time_zone, files=request.files) as workshop:
        sources = open_sources(request, workshop)
        orders = _orders_scan(request, workshop, sources, base)
        derived = workshop.folder / "derived.parquet"
        firsts = f"SELECT customer_id, min(ordered_at) AS created_at FROM {orders} WHERE {REASON} IS NULL GROUP BY 1"
        own = f"1 AS {FILE}, 0 AS {ROW}, CAST(NULL AS VARCHAR) AS {REASON}, CAST(NULL AS VARCHAR) AS {LOST}"
        workshop.cursor.execute(f"COPY (SELECT {own}, * FROM ({firsts})) TO {literal(str(derived))} (FORMAT parquet)")
        staged = Staged("customers", (derived,), ("customer_id", "created_at"), keep_existing=True)
        request.tell("merge", len(request.files) + 1)
        find_refused(workshop.cursor, staged, facts.data_dir, base)
        merged = merge(workshop, staged, facts.data_dir, base)
        workshop.cursor.execute(
            f"INSERT INTO refused SELECT {FILE}, {ROW}, {REASON} FROM {orders} WHERE {REASON} IS NOT NULL"
        )
        return _finish(request, workshop, base, merged, (), sources)


def _orders_scan(request: LoadRequest, workshop: Workshop, sources: tuple[SourceFile, ...], base: Manifest) -> str:
    """The orders to take customers from, each with the reason it is refused, or NULL."""
    if not sources:
        loaded = scan_sql("orders", request.facts.data_dir, base)
        return f"(SELECT 1 AS {FILE}, 0 AS {ROW}, CAST(NULL AS VARCHAR) AS {REASON}, * FROM ({loaded}))"
    plan = plan_columns("orders", sources[0], request.renames, only=("customer_id", "ordered_at"))
    return read_parquet_sql(stage(request, workshop, Reading(sources, plan, base, ())))


def _finish(
    request: LoadRequest,
    workshop: Workshop,
    base: Manifest,
    merged: Merged,
    warnings: Sequence[str],
    sources: Sequence[SourceFile],
) -> LoadSummary:
    """Set the refused rows aside, publish what changed and sum up."""
    reasons = refused_counts(workshop)
    quarantined = sum(reasons.values())
    quarantine_file = write_quarantine(request, workshop, sources) if quarantined else None
    if merged.has_changes:
        files = {**base.files, request.table: merged.files}
        delays = _delays(request, workshop, base)
        publish(request.facts.data_dir, replace(base, version=base.version + 1, files=files, delays=delays))
    request.facts.refresh()
    request.tell("done", len(request.files) + 2)
    if "duplicate_key" in reasons:
        warnings = (
            *warnings,
            f"{SCHEMAS[request.table].key} repeats within a file with different content; is it the key of a row? "
            "None of these rows were loaded",
        )
    return LoadSummary(
        table=request.table,
        read=merged.added + merged.updated + merged.unchanged + quarantined,
        added=merged.added,
        updated=merged.updated,
        unchanged=merged.unchanged,
        quarantined=quarantined,
        reasons=reasons,
        quarantine_file=quarantine_file,
        warnings=tuple(warnings),
    )


def _delays(request: LoadRequest, workshop: Workshop, base: Manifest) -> dict[int, int]:
    """The delays so far and those of the orders that this load adds, by whole days between order and load.

    The first load brings the past, and an order older than LONGEST_DELAY days comes from an archive: neither is late.
    """
    if request.table != "orders" or not base.of("orders"):
        return dict(base.delays)
    days = "CAST(floor((epoch_us(ordered_at) - ?) / -86400000000.0) AS BIGINT)"
    rows = read_parquet_sql([workshop.folder / "merged.parquet"])
    query = f"SELECT greatest({days}, 0), count(*) FROM {rows} WHERE {STATUS} = 'added' GROUP BY 1"
    found = workshop.cursor.execute(query, [round(request.now.timestamp() * 1_000_000)]).fetchall()
    total = dict(base.delays)
    for delay, n in found:
        if delay <= LONGEST_DELAY:
            total[int(delay)] = total.get(int(delay), 0) + int(n)
    return total
