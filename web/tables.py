"""A table as a page shows it: columns, rows of cells; made once, so that all tables read alike on paper and phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and a CSS class ("" none; "num", "good", "bad" ...)."""

    text: str | Markup
    css: str = ""


@dataclass(frozen=True)
class Table:
    """Caption (for readers who cannot see), column titles, rows; the first cell of a row names it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> Table:
        """Plain texts become cells; what is not the first column stands as a number."""
        return cls(
            caption,
            tuple(columns),
            tuple(
                tuple(cell if isinstance(cell, Cell) else Cell(cell, "num" if i else "") for i, cell in enumerate(row))
                for row in rows
            ),
        )
