"""The files of a load, read once: their columns matched to ours, their rows typed and set aside as Parquet."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from campaigns.features import FEATURES
from warehouse.facts.attributes import infer_kinds
from warehouse.facts.column_plan import ColumnPlan, plan_columns
from warehouse.facts.errors import FactsError
from warehouse.facts.load_request import LoadRequest, Workshop
from warehouse.facts.manifests import Manifest
from warehouse.facts.parquet import literal
from warehouse.facts.schema import SCHEMAS
from warehouse.facts.sources import SourceFile, explain_broken, open_source
from warehouse.facts.staging import LOST, typed_sql


@dataclass(frozen=True, slots=True)
class Reading:
    """What a load will read: files, which column is which, the state with the attributes they bring, warnings."""

    sources: tuple[SourceFile, ...]
    plan: ColumnPlan
    base: Manifest
    warnings: tuple[str, ...]


def open_sources(request: LoadRequest, workshop: Workshop) -> tuple[SourceFile, ...]:
    """Look at the columns of every file.

    Raises:
        FactsError: a file is missing, unreadable or empty, or its columns differ from the first one's.
    """
    sources = tuple(open_source(path, workshop.cursor) for path in request.files)
    for other in sources[1:]:
        differing = {name.lower() for name in other.types} ^ {name.lower() for name in sources[0].types}
        if differing:
            raise FactsError(
                f"{other.path}:1: its columns differ from those of {sources[0].path} ({', '.join(sorted(differing))}); "
                "expected files of one kind. Load it by itself"
            )
    return sources


def plan_reading(request: LoadRequest, workshop: Workshop, base: Manifest) -> Reading:
    """Match columns and infer what kind of values new attributes hold.

    Raises:
        FactsError: a file cannot be read or a required column is missing.
    """
    sources = open_sources(request, workshop)
    plan = plan_columns(request.table, sources[0], request.renames, reserved=frozenset(FEATURES))
    fresh = {ours: theirs for ours, theirs in plan.attributes.items() if ours not in base.attributes}
    kinds = {}
    if fresh:
        with explaining(sources):
            kinds = infer_kinds(workshop.cursor, sources, fresh)
    empty = tuple(ours for ours in fresh if ours not in kinds)
    plan = replace(plan, attributes={ours: t for ours, t in plan.attributes.items() if ours not in empty})
    warnings = tuple(_warnings(request, plan, empty, base))
    return Reading(sources, plan, replace(base, attributes={**base.attributes, **kinds}), warnings)


def _warnings(request: LoadRequest, plan: ColumnPlan, empty: tuple[str, ...], base: Manifest) -> Iterator[str]:
    if plan.unused:
        why = "their names are taken" if request.table == "customers" else f"{request.table} has no such columns"
        yield f"columns not used: {', '.join(plan.unused)} ({why})"
    if empty:
        yield f"columns without any value, not kept: {', '.join(empty)}"
    if request.table != "customers" and not base.rows("customers"):
        yield "no customers are loaded yet, so the customers of these rows were not checked"


def stage(request: LoadRequest, workshop: Workshop, reading: Reading) -> tuple[Path, ...]:
    """Write the typed rows of every file into the workshop; gives the files written.

    Raises:
        FactsError: a file is broken; says where.
    """
    written = []
    for number, source in enumerate(reading.sources, 1):
        request.tell(f"read {source.path.name}", number - 1)
        target = workshop.folder / f"staged-{number:06d}.parquet"
        plan = _as_spelled_in(source, reading.plan)
        rows = typed_sql(plan, source, reading.base.attributes, number, request.time_zone)
        with explaining([source]):
            workshop.cursor.execute(f"COPY ({rows}) TO {literal(str(target))} (FORMAT parquet)")
        written.append(target)
    return tuple(written)


def _as_spelled_in(source: SourceFile, plan: ColumnPlan) -> ColumnPlan:
    """The plan with the column names as this file writes them (their case may differ)."""
    by_name = {name.lower(): name for name in source.types}
    return replace(
        plan,
        columns={ours: by_name[theirs.lower()] for ours, theirs in plan.columns.items()},
        attributes={ours: by_name[theirs.lower()] for ours, theirs in plan.attributes.items()},
    )


@contextmanager
def explaining(sources: Sequence[SourceFile]) -> Iterator[None]:
    """Turn DuckDB's complaint about a file into a FactsError with file and line."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise  # not the file's fault
    except duckdb.Error as error:
        raise explain_broken(sources, str(error).splitlines()[0]) from error


def lost_values(workshop: Workshop, scan: str, reading: Reading) -> list[str]:
    """A warning for every optional column with values that were not understood and so are missing."""
    kinds = {column.name: column.kind for column in SCHEMAS[reading.plan.table].columns} | dict(reading.base.attributes)
    named = f"SELECT unnest(string_split({LOST}, ',')) AS name FROM {scan} WHERE {LOST} IS NOT NULL"
    rows = workshop.cursor.execute(f"SELECT name, count(*) FROM ({named}) GROUP BY 1 ORDER BY 1").fetchall()
    return [f"{name}: {n} values are not understood as {kinds[name]} and left missing" for name, n in rows]
