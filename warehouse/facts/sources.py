"""Files to load: CSV and Parquet, their columns, how DuckDB scans them, and what is wrong with a broken one."""

# ruff: noqa: S608 - identifiers are our own or quoted, values are escaped literals
from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from warehouse.facts.errors import FactsError
from warehouse.facts.parquet import file_literal, literal, quoted, read_parquet_sql

if TYPE_CHECKING:
    import duckdb

ROW: Final = "retain_row"
"""Name of the row number (from 1, the header not counted) that a scan adds."""
_DELIMITERS: Final = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file whose columns are known: `types` holds the DuckDB type of each (all VARCHAR in CSV)."""

    path: Path
    types: dict[str, str]
    delimiter: str | None = None

    @property
    def is_csv(self) -> bool:
        """Whether it is a CSV file, else Parquet."""
        return self.delimiter is not None

    def scan_sql(self) -> str:
        """A SELECT of all columns and the row number."""
        columns = ", ".join(quoted(name) for name in self.types)
        return f"SELECT {columns}, row_number() OVER () AS {ROW} FROM {self._reader()}"

    def _reader(self) -> str:
        if self.delimiter is None:
            return read_parquet_sql([self.path])
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self.types)
        options = (
            "auto_detect=false, header=true, quote='\"', escape='\"', nullstr='', strict_mode=true, null_padding=false"
        )
        return f"read_csv({file_literal(self.path)}, {options}, delim={literal(self.delimiter)}, columns={{{columns}}})"


def open_source(path: Path, cursor: duckdb.DuckDBPyConnection) -> SourceFile:
    """Look at a file's columns.

    Raises:
        FactsError: the file is missing, unreadable, empty, or names a column twice.
    """
    if not path.is_file():
        raise FactsError(f"{path}: file not found; expected a CSV or Parquet file. Check the path")
    if path.suffix.lower() in (".parquet", ".pq"):
        return _open_parquet(path, cursor)
    return _open_csv(path)


def _open_parquet(path: Path, cursor: duckdb.DuckDBPyConnection) -> SourceFile:
    import duckdb

    try:
        described = cursor.execute(f"DESCRIBE SELECT * FROM {read_parquet_sql([path])}").fetchall()
    except duckdb.Error as error:
        raise FactsError(
            f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}); expected Parquet, or CSV named .csv"
        ) from error
    return SourceFile(path, {name: kind for name, kind, *_ in described})


def _open_csv(path: Path) -> SourceFile:
    try:
        with _open_binary(path) as file:
            first = file.readline(1_000_000)
    except OSError as error:
        raise FactsError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        text = first.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, 1) from error
    if not text.strip():
        raise FactsError(f"{path}:1: the file has no header; expected the column names in the first line")
    delimiter = max(_DELIMITERS, key=lambda mark: len(next(csv.reader([text], delimiter=mark))))
    names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter))]
    seen: set[str] = set()
    for position, name in enumerate(names, 1):
        if not name:
            raise FactsError(f"{path}:1: column {position} has no name; name it in the header or remove it")
        if name.lower() in seen:
            raise FactsError(f"{path}:1: two columns are named {name}; rename one of them in the header")
        seen.add(name.lower())
    return SourceFile(path, dict.fromkeys(names, "VARCHAR"), delimiter)


def explain_broken(sources: Sequence[SourceFile], reason: str) -> FactsError:
    """Why DuckDB could not read some of the files: the first broken line, found by reading them again line by line.

    `reason` is what DuckDB said; it is used only where this reading finds nothing wrong.
    """
    for source in sources:
        if source.is_csv:
            for fault in _faults(source):
                return fault
    source = sources[0]
    return FactsError(f"{source.path}: cannot be read ({reason}); expected {_kind(source)}. Nothing was loaded")


def _kind(source: SourceFile) -> str:
    return "CSV in UTF-8 with one kind of line end" if source.is_csv else "a complete Parquet file"


def _faults(source: SourceFile) -> Iterator[FactsError]:
    """What is wrong with a CSV file, in the order in which it should be mended."""
    yield from _encoding_faults(source.path)
    yield from _record_faults(source)
    yield from _line_end_faults(source.path)


def _encoding_faults(path: Path) -> Iterator[FactsError]:
    with _open_binary(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                yield _not_utf8(path, number)


def _record_faults(source: SourceFile) -> Iterator[FactsError]:
    path, width = source.path, len(source.types)
    with io.TextIOWrapper(_open_binary(path), encoding="utf-8-sig", newline="") as text:
        records = csv.reader(text, delimiter=cast("str", source.delimiter), strict=True)
        starts_at = 1
        while True:
            try:
                record = next(records, None)
            except csv.Error as error:
                yield FactsError(
                    f"{path}:{starts_at}: {_quoting_fault(str(error))}; expected quotes in pairs, those within a text "
                    'doubled (""). Correct the line; nothing was loaded'
                )
                return
            if record is None:
                return
            if record and len(record) != width:
                yield FactsError(
                    f"{path}:{starts_at}: the line has {len(record)} columns; expected {width} as in the header. "
                    "Correct the line (quote texts that hold the separator); nothing was loaded"
                )
            starts_at = records.line_num + 1


def _quoting_fault(reason: str) -> str:
    if "field larger" in reason:
        return f"a value runs over more than {csv.field_size_limit():,} characters, as if a quote were not closed"
    return "a quote is not closed, or text follows a closing quote"


def _line_end_faults(path: Path) -> Iterator[FactsError]:
    with _open_binary(path) as file:
        first = file.readline().endswith(b"\r\n")
        for number, line in enumerate(file, 2):
            if line.endswith(b"\n") and line.endswith(b"\r\n") != first:
                yield FactsError(
                    f"{path}:{number}: the line ends in another way than the first one (LF and CRLF are mixed); "
                    "expected one kind. Convert the file (dos2unix); nothing was loaded"
                )


def _not_utf8(path: Path, line: int) -> FactsError:
    return FactsError(
        f"{path}:{line}: the line is not UTF-8; expected a file in UTF-8. Save it as UTF-8 again "
        "(iconv -f LATIN1 -t UTF-8); nothing was loaded"
    )


def _open_binary(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
