"""What people and machines read: one JSON object, or tables on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Progress(Protocol):
    """Receives how far a long piece of work has come."""

    def __call__(self, *state: str | int) -> None:
        """The last two values: how much is done, and how much there is."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print exactly one JSON object on standard output: sorted keys, no NaN."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, indent=2) + "\n")


def say(text: str, *, now: bool = False) -> None:
    """Print one line for a person; `now`: at once, for somebody who waits for it."""
    sys.stdout.write(text + "\n")
    if now:
        sys.stdout.flush()


def warn(text: str) -> None:
    """Print one line on standard error."""
    sys.stderr.write(f"warning: {text}\n")


def console(*, stderr: bool = False) -> Console:
    """A rich console; plain text where the output is no terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; numbers to the right, missing values as a dash."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for position, name in enumerate(columns):
        numeric = any(isinstance(row[position], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=position == 0)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    wide = console()
    if not wide.is_terminal:
        wide.width = 200
    wide.print(table)


def cell(value: object) -> str:
    """One value as text: counts with separators, other numbers to four digits, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def percent(value: float | None, *, signed: bool = False) -> str:
    """A share as a percentage with two digits."""
    if value is None:
        return "–"
    return f"{value:+.2%}" if signed else f"{value:.2%}"


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """A bar on a terminal, one plain line when the work ends elsewhere; nothing when quiet."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield None
        sys.stderr.write(f"{label}: done\n")
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console(stderr=True)) as bars:
        task = bars.add_task(label, total=None)
        yield lambda *state: bars.update(task, completed=float(state[-2]), total=float(state[-1]))
