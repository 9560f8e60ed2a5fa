"""What kind of values the company's own customer columns hold: inferred once, when a column first brings values."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from warehouse.facts.parquet import literal, quoted
from warehouse.facts.schema import AttributeKind
from warehouse.facts.sources import SourceFile
from warehouse.facts.staging import text_sql

if TYPE_CHECKING:
    import duckdb

_BOOLEAN_WORDS: Final = ("yes", "no", "true", "false", "y", "n")
_NUMBERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "U")


def infer_kinds(
    cursor: duckdb.DuckDBPyConnection, sources: Sequence[SourceFile], columns: Mapping[str, str]
) -> dict[str, AttributeKind]:
    """The kind of each column (ours -> theirs) over all files; columns without any value are left out.

    Numbers are written plainly: no leading zeros (a postcode is a text), at most 15 digits. 0 and 1 are numbers; yes,
    no, true, false, y and n are booleans. Dates and instants begin with a year of four digits.
    """
    kinds: dict[str, AttributeKind] = {}
    texts = {}
    for ours, theirs in columns.items():
        declared = _declared_kind(sources[0].types[theirs])
        if declared is None:
            texts[ours] = theirs
        else:
            kinds[ours] = declared
    if texts:
        kinds |= _infer_from_texts(cursor, sources, texts)
    return kinds


def _declared_kind(found: str) -> AttributeKind | None:
    if found == "VARCHAR":
        return None
    if found == "BOOLEAN":
        return "boolean"
    if found == "DATE" or found.startswith("TIMESTAMP"):
        return "instant"
    return "number" if found.startswith(_NUMBERS) else "text"


def _infer_from_texts(
    cursor: duckdb.DuckDBPyConnection, sources: Sequence[SourceFile], columns: Mapping[str, str]
) -> dict[str, AttributeKind]:
    words = ", ".join(literal(word) for word in _BOOLEAN_WORDS)
    counts = []
    for theirs in columns.values():
        text = text_sql(quoted(theirs), "VARCHAR")
        plain = f"regexp_full_match({text}, '-?(0|[1-9][0-9]{{0,14}})([.][0-9]+)?')"
        dated = f"substr({text}, 5, 1) = '-' AND TRY_CAST({text} AS TIMESTAMPTZ) IS NOT NULL"
        tests = ("true", plain, f"lower({text}) IN ({words})", dated)
        counts += [f"count(*) FILTER ({text} IS NOT NULL AND {test})" for test in tests]
    rows = " UNION ALL ".join(
        f"SELECT {', '.join(map(quoted, columns.values()))} FROM ({s.scan_sql()})" for s in sources
    )
    row = cursor.execute(f"SELECT {', '.join(counts)} FROM ({rows})").fetchone()
    assert row is not None  # an aggregate always has one row
    kinds: dict[str, AttributeKind] = {}
    for index, ours in enumerate(columns):
        known, number, boolean, instant = row[4 * index : 4 * index + 4]
        if known:
            kinds[ours] = (
                "number"
                if number == known
                else "boolean"
                if boolean == known
                else "instant"
                if instant == known
                else "text"
            )
    return kinds
