"""Erasing a customer from the facts: no row, no address, in no file; purchases stay, under a pseudonym."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from warehouse.facts.errors import FactsError
from warehouse.facts.load_request import Workshop, as_loadable, open_workshop
from warehouse.facts.manifests import DataFile, Manifest, VersionTaken, drop_older, latest_manifest, publish
from warehouse.facts.merge import write_file
from warehouse.facts.parquet import column_types, literal, quoted, read_parquet_sql, scan_sql
from warehouse.facts.schema import SCHEMAS, TABLES, TableName

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse.facts.store import Facts

_ATTEMPTS: Final = 5
_FREE_TEXTS: Final[Mapping[TableName, frozenset[str]]] = MappingProxyType({"events": frozenset({"properties"})})
"""Columns that may hold anything, a name or an address among it: they are emptied."""


@dataclass(frozen=True, slots=True)
class ErasedRows:
    """Rows of the customer that are gone (customers), and that bear the pseudonym now (orders, events)."""

    customers: int
    orders: int
    events: int


def erase_from_facts(facts: Facts, customer_id: str, pseudonym: str) -> ErasedRows:
    """Take a customer out of the embedded facts; orders and events stay for the measurement, under the pseudonym.

    The files that hold the customer are written anew without, published as one load, and every older state is removed
    from the disk, with which readers that still use one must begin again. The keys of the customer's orders and events
    are replaced, free texts emptied. Doing it again changes nothing.

    Raises:
        FactsError: the facts are not the embedded ones, or cannot be written. Nothing is changed then.
    """
    import duckdb

    store = as_loadable(facts)
    for _ in range(_ATTEMPTS):
        try:
            with open_workshop(store, "UTC") as workshop:
                erased, newest = _erase(workshop, store.data_dir, customer_id, pseudonym)
        except VersionTaken:
            continue  # a load was published meanwhile: look again
        except duckdb.Error as error:
            raise FactsError(
                f"the erasure in {store.data_dir} failed in DuckDB ({type(error).__name__}); the facts are unchanged. "
                "Give it more memory (facts_memory_limit) or disk space, and erase again"
            ) from None  # what DuckDB says may quote the customer
        store.refresh()
        drop_older(store.data_dir, newest)
        return erased
    raise FactsError(
        f"{store.data_dir}: other loads went on during {_ATTEMPTS} attempts; erase again when they are done"
    )


def _erase(workshop: Workshop, data_dir: Path, customer_id: str, pseudonym: str) -> tuple[ErasedRows, Manifest]:
    base = latest_manifest(data_dir)
    files = dict(base.files)
    counts = dict.fromkeys(TABLES, 0)
    for table in TABLES:
        held = _files_with(workshop, table, data_dir, base, customer_id)
        if not held:
            continue
        rows = _without if table == "customers" else _renamed
        counts[table] = sum(held.values())
        files[table] = _rewrite(
            workshop, table, data_dir, base, sorted(held), rows(table, base, customer_id, pseudonym)
        )
    if not any(counts.values()):
        return ErasedRows(0, 0, 0), base
    newest = replace(base, version=base.version + 1, files=files)
    publish(data_dir, newest)
    return ErasedRows(counts["customers"], counts["orders"], counts["events"]), newest


def _files_with(
    workshop: Workshop, table: TableName, data_dir: Path, base: Manifest, customer_id: str
) -> dict[str, int]:
    """The files of a table in which the customer stands -> rows."""
    names = {str(data_dir / file.path): file.path for file in base.of(table)}
    if not names:
        return {}
    scan = read_parquet_sql([data_dir / file.path for file in base.of(table)], ", union_by_name=true, filename=true")
    found = workshop.cursor.execute(
        f"SELECT filename, count(*) FROM {scan} WHERE customer_id = {literal(customer_id)} GROUP BY 1"
    ).fetchall()
    return {names[name]: int(n) for name, n in found}


Rows = Callable[[str, Workshop], str]


def _without(_table: TableName, _base: Manifest, customer_id: str, _pseudonym: str) -> Rows:
    return lambda old, _: f"SELECT * FROM ({old}) WHERE customer_id <> {literal(customer_id)}"


def _renamed(table: TableName, base: Manifest, customer_id: str, pseudonym: str) -> Rows:
    key, own = SCHEMAS[table].key, f"customer_id = {literal(customer_id)}"

    def rows(old: str, workshop: Workshop) -> str:
        new_key = f"{literal(f'{pseudonym}-{workshop.token[:12]}-')} || row_number() OVER (ORDER BY {quoted(key)})"
        columns = []
        for name, kind in column_types(table, base).items():
            becomes = {key: new_key, "customer_id": literal(pseudonym)}.get(name)
            if name in _FREE_TEXTS.get(table, ()):
                becomes = f"CAST(NULL AS {kind})"
            column = quoted(name)
            columns.append(f"CASE WHEN {own} THEN {becomes} ELSE {column} END AS {column}" if becomes else column)
        return f"SELECT {', '.join(columns)} FROM ({old})"

    return rows


def _rewrite(
    workshop: Workshop, table: TableName, data_dir: Path, base: Manifest, held: list[str], rows: Rows
) -> tuple[DataFile, ...]:
    """One new file in place of those that held the customer; the others stay as they are."""
    old = scan_sql(table, data_dir, base, held)
    path = f"{table}/{base.version + 1:08d}-{workshop.token}.parquet"
    file = write_file(workshop.cursor, table, rows(old, workshop), data_dir, path, base)
    kept = [each for each in base.of(table) if each.path not in held]
    if file.rows:
        return (*kept, file)
    (data_dir / path).unlink()
    return tuple(kept)
