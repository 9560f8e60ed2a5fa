"""The text of a segment before it is parsed: its limits, its characters, and the error that names a column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from campaigns.errors import CampaignError

MAX_LENGTH: Final = 4000
"""Characters of one expression."""
MAX_DEPTH: Final = 30
"""Levels of nesting of one expression."""
MAX_CHOICES: Final = 500
"""Constants of one `in (...)`."""

ALLOWED: Final = "use names, numbers, texts, comparisons, in, is None, and, or, not, + - * / and parentheses"
_FOREIGN: Final = re.compile(r"\b(?:AND|OR|NOT|IN|IS|NULL|null|BETWEEN|LIKE)\b|&&|\|\||<>|(?<![=<>!])=(?!=)|!(?!=)")
_INSTEAD: Final[Mapping[str, str]] = {
    "=": "==",
    "<>": "!=",
    "&&": "and",
    "||": "or",
    "!": "not",
    "NULL": "None",
    "null": "None",
    "BETWEEN": "low <= name <= high",
    "LIKE": "in (...)",
}


class SegmentError(CampaignError):
    """An expression that does not parse: what is wrong, at which column (from 1), and what was perhaps meant."""

    def __init__(self, message: str, column: int, suggestion: str | None = None) -> None:
        self.message = message
        self.column = column
        self.suggestion = suggestion
        super().__init__(f"column {column}: {self.text}")

    @property
    def text(self) -> str:
        """The message with its suggestion, without the column."""
        return f'{self.message} (did you mean "{self.suggestion}"?)' if self.suggestion else self.message


def check_characters(source: str) -> None:
    """Refuse what is too big and what is not ours: comments, escapes, other languages' operators."""
    if not source.strip():
        raise SegmentError("is empty; write a condition such as recency_days >= 90, or True for everybody", 1)
    if len(source) > MAX_LENGTH:
        raise SegmentError(f"is {len(source)} characters long; at most {MAX_LENGTH} are read", MAX_LENGTH + 1)
    bare = without_texts(source)
    for column, character in enumerate(bare, start=1):
        if character in "#\\\0":
            raise SegmentError(f"{character!r} is not part of the segment language", column)
    if depth := _too_deep(bare):
        raise SegmentError(f"is nested more than {MAX_DEPTH} levels deep", depth)
    if found := _FOREIGN.search(bare):
        word = found.group()
        raise SegmentError(
            f'"{word}" is not part of the segment language', found.start() + 1, _INSTEAD.get(word, word.lower())
        )


def without_texts(source: str) -> str:
    """The source with every quoted text blanked out, character for character.

    Raises SegmentError on a text that is not closed, has a backslash or a letter before it, or follows another text:
    Python would read ('GB' 'IE') as one text.
    """
    quote, bare, before = "", "", ""
    for column, character in enumerate(source, start=1):
        if quote:
            if character == "\\":
                raise SegmentError("a backslash in a text is not part of the segment language", column)
            quote, before = ("", "text") if character == quote else (quote, "")
            bare += " "
        elif character in "'\"":
            if before == "text":
                raise SegmentError("two texts stand side by side; put a comma or an operator between them", column)
            if bare[-1:].isalnum():
                raise SegmentError("a letter stands before the quote; put a space or an operator between them", column)
            quote = character
            bare += " "
        else:
            before = before if character.isspace() else ""
            bare += character
    if quote:
        raise SegmentError(f"a text that begins with {quote} is not closed", source.rindex(quote) + 1)
    return bare


def _too_deep(bare: str) -> int:
    depth = 0
    for column, character in enumerate(bare, start=1):
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH:
            return column
    return 0
