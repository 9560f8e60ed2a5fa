"""What a load was asked to do, and the place where it works: a DuckDB session and a folder of its own."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import available_timezones

from warehouse.facts.errors import FactsError
from warehouse.facts.manifests import is_published
from warehouse.facts.parquet import literal
from warehouse.facts.schema import TABLES, TableName, table_schema

if TYPE_CHECKING:
    import duckdb

    from warehouse.facts.store import Facts, ParquetFacts

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps of the load are done and how many there are."""

_FOLDER: Final = ".loading"


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A load as it was asked for; `renames` is ours -> theirs."""

    facts: ParquetFacts
    table: TableName
    files: Sequence[Path]
    renames: Mapping[str, str]
    time_zone: str
    quarantine_dir: Path
    now: datetime
    progress: Progress | None

    def tell(self, step: str, done: int) -> None:
        """Report progress: a step for every file, then one to check and one to merge."""
        if self.progress is not None:
            self.progress(step, done, len(self.files) + 2)

    def check(self, *, files_needed: bool) -> None:
        """Refuse what cannot be loaded at all.

        Raises:
            FactsError: no file is named, or the time zone does not exist.
        """
        if files_needed and not self.files:
            raise FactsError("no file to load; expected at least one CSV or Parquet file")
        if self.time_zone not in available_timezones():
            raise FactsError(f"{self.time_zone}: not a time zone; expected a name such as Europe/London")


def as_loadable(facts: Facts) -> ParquetFacts:
    """The facts, if they are our own to write. Raises FactsError where they are not."""
    from warehouse.facts.store import ParquetFacts

    if not isinstance(facts, ParquetFacts):
        raise FactsError(
            "facts_url names a database of the company, which is only read; expected facts_url = duckdb for loading. "
            "Load the rows into that database, or set facts_url = duckdb in retain.toml"
        )
    return facts


def as_table(name: str) -> TableName:
    """The canonical table of that name. Raises FactsError where there is none."""
    schema = table_schema(name)
    if schema is None:
        raise FactsError(f"{name} is not a table of the facts; expected one of {', '.join(TABLES)}")
    return schema.name


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where one load works. `token` is in the name of everything it makes."""

    cursor: duckdb.DuckDBPyConnection
    folder: Path
    token: str


@contextmanager
def open_workshop(facts: ParquetFacts, time_zone: str, *, files: Sequence[Path] = ()) -> Iterator[Workshop]:
    """A session that reads naive times in a zone, and a folder for intermediate files that is gone afterwards.

    What loads that were killed left behind is removed first: a load holds a lock on its folder as long as it lives.
    """
    base = facts.data_dir / _FOLDER
    base.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(facts.data_dir)
    token = uuid.uuid4().hex
    folder = base / token
    lock_path = base / f"{token}.lock"
    cursor = facts.loader_cursor()
    with lock_path.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir()
        try:
            facts.share_work(sum(path.stat().st_size for path in files if path.is_file()))
            cursor.execute(f"SET TimeZone = {literal(time_zone)}")
            yield Workshop(cursor, folder, token)
        finally:
            cursor.close()
            facts.share_work()
            _remove(facts.data_dir, token)


def _remove_abandoned(data_dir: Path) -> None:
    for folder in sorted(path for path in (data_dir / _FOLDER).iterdir() if path.is_dir()):
        lock_path = folder.with_name(f"{folder.name}.lock")
        try:
            with lock_path.open("a", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(data_dir, folder.name)
        except BlockingIOError:
            continue  # that load is alive


def _remove(data_dir: Path, token: str) -> None:
    """Everything a load made, except what was published."""
    shutil.rmtree(data_dir / _FOLDER / token, ignore_errors=True)
    if not is_published(data_dir, token):
        for table in TABLES:
            for path in (data_dir / table).glob(f"*-{token}.parquet"):
                path.unlink(missing_ok=True)
    (data_dir / _FOLDER / f"{token}.lock").unlink(missing_ok=True)
