"""The nearest known name to a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known name most like `word` (upper and lower case alike), or None when nothing is near."""
    by_folded = {name.casefold(): name for name in sorted(known, reverse=True)}
    matches = get_close_matches(str(word).casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The tail of an error message: ` (did you mean "weight"?)`, or nothing."""
    match = nearest(word, known)
    return f' (did you mean "{match}"?)' if match else ""
