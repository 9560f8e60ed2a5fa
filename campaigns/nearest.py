"""The tail of an error message that names what was perhaps meant; upper and lower case do not matter."""

from __future__ import annotations

from collections.abc import Iterable

from channels.nearest import nearest as nearest_exactly


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known name most like `word`, or None when nothing is near."""
    by_folded = {name.casefold(): name for name in sorted(known, reverse=True)}
    match = nearest_exactly(str(word).casefold(), by_folded)
    return None if match is None else by_folded[match]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """` (did you mean "weight"?)`, or nothing when nothing is near."""
    match = nearest(word, known)
    return f' (did you mean "{match}"?)' if match else ""
