"""A table as a page shows it: columns, groups of rows; made once, so that all tables read alike everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and its CSS classes ("num", "text", "good", "bad" ...)."""

    text: str
    css: str = "num"


Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Rows under a heading of their own ("" none)."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """Caption (for readers who cannot see), column titles, groups of rows; the first cell of a row names it."""

    caption: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> Table:
        """A table without headings in it; plain texts stand as numbers."""
        return cls.grouped(caption, columns, {"": rows})

    @classmethod
    def grouped(
        cls, caption: str, columns: Sequence[str], groups: Mapping[str, Sequence[Sequence[Cell | str]]]
    ) -> Table:
        """A table of groups: heading -> rows."""
        return cls(caption, tuple(columns), tuple(Group(title, _rows(rows)) for title, rows in groups.items()))

    def column_class(self, index: int) -> str:
        """How a column's title stands: as the first cell below it does."""
        first = next((row for group in self.groups for row in group.rows), None)
        return first[index].css.split(" ")[0] if first is not None and index > 0 else ""


def _rows(rows: Sequence[Sequence[Cell | str]]) -> tuple[Row, ...]:
    return tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in rows)
