"""What differs between SQLite and PostgreSQL: bulk rows, sets of keys, and locks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql.compiler import SQLCompiler

from warehouse.ledger.types import instant_text

_GATE: Final = 0x72657467  # advisory lock shared by claims, exclusive for pauses and suppressions
_CAPS: Final = 0x72657463  # advisory lock of the claim that judges caps
_ENTER_GATE: Final = sa.text(f"SELECT pg_advisory_xact_lock_shared({_GATE})")
_ENTER_CAPS: Final = sa.text(f"SELECT pg_advisory_xact_lock({_CAPS})")
_COPY_ROWS: Final = 20_000
_SPECIAL: Final = ("\\", "\t", "\n", "\r")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def is_postgres(tx: sa.Connection) -> bool:
    """Tell whether the transaction runs on PostgreSQL (else SQLite)."""
    return tx.dialect.name == "postgresql"


def among(tx: sa.Connection, column: sa.ColumnElement[str], keys: Iterable[str]) -> sa.ColumnElement[bool]:
    """Give the condition "column is one of the keys" with one bound parameter, however many keys there are."""
    return _in_set(is_postgres(tx), column, sa.bindparam(None, set_text(tx, keys), type_=sa.Text))


def in_set(postgres: bool, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Give the condition "column is one of :keys", bound by what `set_text` writes."""
    return _in_set(postgres, column, sa.bindparam("keys", type_=sa.Text))


def set_text(tx: sa.Connection, keys: Iterable[str]) -> str:
    """Write a set of keys as the one text that the database reads."""
    return array_text(list(keys)) if is_postgres(tx) else json_keys(keys)


def _in_set(postgres: bool, column: sa.ColumnElement[str], text: sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    if postgres:
        return column == sa.any_(sa.cast(text, sa.ARRAY(sa.Text)))
    return column.in_(sa.select(sa.literal_column("value", sa.Text)).select_from(sa.func.json_each(text)))


def array_text(values: Sequence[Any]) -> str:
    """Write an array as PostgreSQL reads it: one text for the driver, which else looks at each value (10x slower)."""
    texts = ["NULL" if value is None else _quoted(str(value)) for value in values] if None in values else None
    if texts is not None:
        return "{" + ",".join(texts) + "}"
    joined = '","'.join(map(str, values))
    if "\\" in joined or joined.count('"') != 2 * max(len(values) - 1, 0):
        return "{" + ",".join(_quoted(str(value)) for value in values) + "}"
    return '{"' + joined + '"}' if values else "{}"


def read(tx: sa.Connection, query: Callable[[bool], sa.Select[Any]], values: Mapping[str, Any]) -> Sequence[Any]:
    """Read rows as the driver gives them, by a query that is put together once in a process.

    `query`: a function that gives it for PostgreSQL (True) or SQLite, with a bound parameter for each of the `values`;
    those are instants, texts and numbers.
    """
    postgres = is_postgres(tx)
    compiled = _compiled(query, postgres)
    given = {name: instant_text(v) if isinstance(v, datetime) and not postgres else v for name, v in values.items()}
    known = compiled.construct_params(given)
    ordered = None if compiled.positiontup is None else tuple(known[name] for name in compiled.positiontup)
    return rows_of(tx.exec_driver_sql(str(compiled), known if ordered is None else ordered))


def rows_of(result: sa.CursorResult[Any]) -> Sequence[Any]:
    """Give a result's rows as the driver makes them: no second object for each."""
    cursor = result.cursor
    assert cursor is not None  # the statement gives rows
    return cursor.fetchall()


@cache
def _compiled(query: Callable[[bool], sa.Select[Any]], postgres: bool) -> SQLCompiler:
    target = psycopg.dialect() if postgres else sqlite.dialect()  # type: ignore[no-untyped-call]  # it bears no types
    found = query(postgres).compile(dialect=target)
    assert isinstance(found, SQLCompiler)
    return found


def place(postgres: bool, table: sa.Table) -> sa.ColumnClause[Any]:
    """Give where the database keeps a row of the table: it stays there while this transaction has it locked."""
    return sa.literal_column(f"{table.name}.{'ctid' if postgres else 'rowid'}")


def placed(tx: sa.Connection, table: sa.Table, places: Sequence[str | int | None]) -> sa.ColumnElement[bool]:
    """Give the condition "the row is at one of the places": no key is looked up. Only for rows that are locked."""
    if is_postgres(tx):
        at = sa.text(f"{table.name}.ctid = ANY(CAST(:places AS tid[]))")
        return at.bindparams(places=array_text(places))  # type: ignore[return-value]  # a text serves as a condition
    at = sa.text(f"{table.name}.rowid IN (SELECT value FROM json_each(:places))")  # noqa: S608 - the name is ours
    return at.bindparams(places=json.dumps(places))  # type: ignore[return-value]


def json_keys(keys: Iterable[str]) -> str:
    """Write a set of keys as one text, for SQLite's json_each."""
    return json.dumps(list(keys), ensure_ascii=False)


def seek(tx: sa.Connection) -> None:
    """Find this transaction's rows by their keys (PostgreSQL), however few rows the planner takes the table to have.

    Of a table it has not analysed lately it reads all rows for 500 keys: 6 ms at 48,000 rows, and growing with them.
    """
    if is_postgres(tx):
        tx.exec_driver_sql("SET LOCAL enable_seqscan = off")


def enter_gate(tx: sa.Connection) -> None:
    """Join the claims: from here to the commit no pause and no suppression commits (SQLite: one writer anyway)."""
    if is_postgres(tx):
        tx.execute(_ENTER_GATE)


def close_gate(tx: sa.Connection) -> None:
    """Wait for the claims under way and hold new ones back until the commit."""
    if is_postgres(tx):
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_GATE)))


def enter_caps(tx: sa.Connection) -> None:
    """Let one claim at a time look into what customers got, until its commit (SQLite: one writer anyway).

    Else two claimers both find the last free place: checking without a lock breaks nearly every cap.
    """
    if is_postgres(tx):
        tx.execute(_ENTER_CAPS)


def insert_rows(tx: sa.Connection, table: sa.Table, columns: Mapping[str, Sequence[Any]]) -> None:
    """Insert many rows given as columns of driver-ready values (str, int, None; instants as text).

    PostgreSQL: COPY; SQLite: executemany on the driver, past SQLAlchemy's per-row work.
    """
    names = list(columns)
    if not names or not len(columns[names[0]]):
        return
    if is_postgres(tx):
        _copy(tx, table.name, columns)
        return
    marks = ", ".join("?" * len(names))
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - names are ours
    tx.exec_driver_sql(sql, list(zip(*columns.values(), strict=True)))


def update_rows(tx: sa.Connection, table: sa.Table, key: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Update many rows by `key`, each with its own values (columns of driver-ready values, the key's among them).

    PostgreSQL: one UPDATE FROM unnest; SQLite: executemany on the driver.
    """
    n = len(columns[key])
    if not n:
        return
    fixed = {name: values[0] for name, values in columns.items() if name != key and values.count(values[0]) == n}
    varied = [name for name in columns if name != key and name not in fixed]
    if is_postgres(tx):
        types = {name: table.c[name].type.compile(tx.dialect).split(" COLLATE")[0] for name in columns}
        sets = [f"{name} = %s::{types[name]}" for name in fixed] + [f"{name} = new.{name}" for name in varied]
        arrays = ", ".join(f"%s::{types[name]}[]" for name in (key, *varied))
        sql = (
            f"UPDATE {table.name} SET {', '.join(sets)} FROM unnest({arrays}) AS new({', '.join((key, *varied))}) "  # noqa: S608 - names are ours
            f"WHERE {table.name}.{key} = new.{key}"
        )
        tx.exec_driver_sql(sql, (*fixed.values(), *(array_text(columns[name]) for name in (key, *varied))))
        return
    sets = [f"{name} = ?" for name in (*fixed, *varied)]
    sql = f"UPDATE {table.name} SET {', '.join(sets)} WHERE {key} = ?"  # noqa: S608 - names are ours
    rows = zip(*(columns[name] for name in (*varied, key)), strict=True)
    tx.exec_driver_sql(sql, [(*fixed.values(), *row) for row in rows])


def _copy(tx: sa.Connection, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
    texts = [_copy_texts(values) for values in columns.values()]
    driver: Any = tx.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
        for start in range(0, len(texts[0]), _COPY_ROWS):
            part = [column[start : start + _COPY_ROWS] for column in texts]
            copy.write("\n".join(map("\t".join, zip(*part, strict=True))) + "\n")


def _copy_texts(values: Sequence[Any]) -> Sequence[str]:
    """Write one column in COPY's text format; look at single values only where it must be (measured: 4x faster)."""
    try:
        joined = "".join(values)
    except TypeError:  # not only text: numbers, or missing values
        joined = "".join(value for value in values if isinstance(value, str))
        if not _needs_escapes(joined):
            return ["\\N" if value is None else str(value) for value in values]
        return ["\\N" if value is None else str(value).translate(_ESCAPES) for value in values]
    return [value.translate(_ESCAPES) for value in values] if _needs_escapes(joined) else values


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _needs_escapes(text: str) -> bool:
    return any(character in text for character in _SPECIAL)
