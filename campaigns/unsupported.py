"""What a file may one day say but cannot yet: one table, so that nothing is ever accepted and then ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from campaigns.problems import Location
from campaigns.units import show


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A key (`*` stands for any name or list item) all of whose values, or only the named ones, have no effect yet."""

    path: tuple[str, ...]
    advice: str
    values: frozenset[str] | None = None


IN_CAMPAIGNS: Final[tuple[Unsupported, ...]] = ()
"""The table for campaign files."""

IN_OFFERS: Final[tuple[Unsupported, ...]] = ()
"""The table for offers.yaml."""


def find_unsupported(raw: object, table: Sequence[Unsupported]) -> list[tuple[Location, str]]:
    """Every place of a file's plain values where the table applies, with the message."""
    return [
        (
            location,
            f"{show(value)} is not supported yet; {entry.advice}"
            if entry.values
            else f"is not supported yet; {entry.advice}",
        )
        for entry in table
        for location, value in _matches(raw, entry.path, ())
        if entry.values is None or (isinstance(value, str) and value in entry.values)
    ]


def _matches(node: object, path: tuple[str, ...], here: Location) -> Iterator[tuple[Location, object]]:
    if not path:
        yield here, node
        return
    head, rest = path[0], path[1:]
    items: list[tuple[str | int, object]]
    match node:
        case Mapping():
            items = [(key, value) for key, value in node.items() if head in ("*", key)]
        case list() if head == "*":
            items = list(enumerate(node))
        case _:
            items = []
    for key, value in items:
        yield from _matches(value, rest, (*here, key))
