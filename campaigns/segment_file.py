"""segments.yaml: named segments, which may use one another, parsed in the order they need."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from campaigns.features import FEATURES, Kind, closed_values, known_kinds
from campaigns.segment import Expression, Literal, SegmentError, parse_segment
from campaigns.segment_text import without_texts
from campaigns.units import show
from campaigns.words import Part

_NAME: Final = r"^[a-z][a-z0-9_]*$"
_STAND_IN: Final = Literal(True, "boolean")


def _parse_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(_NAME, value) or len(value) > 64 or keyword.iskeyword(value):
        raise ValueError(f"expected lower-case letters, digits and _ such as lapsing_vip, got {show(value)}")
    if value in FEATURES:
        raise ValueError(f'"{value}" is a feature already; give the segment another name')
    return value


SegmentName = Annotated[
    str, BeforeValidator(_parse_name), WithJsonSchema({"type": "string", "pattern": _NAME, "maxLength": 64})
]


class SegmentDefinition(Part):
    """A named set of customers."""

    description: str = ""
    """One line for people."""
    where: str = Field(min_length=1, examples=["recency_days >= 90 and orders >= 2"])
    """The condition, over the features (`retain features` lists them) and other named segments."""


@dataclass(frozen=True, slots=True)
class SegmentIssue:
    """A mistake in one text: whose it is, and at which character (from 0)."""

    name: str
    offset: int
    message: str


class Segments:
    """The named segments of a workspace with what an expression may use; collects the issues of their own texts."""

    def __init__(self, texts: Mapping[str, str], attributes: Mapping[str, Kind] | None) -> None:
        self.texts = texts
        self.issues: list[SegmentIssue] = []
        self._known = known_kinds(attributes)
        self._parsed: dict[str, Expression] = {}
        for name in texts:
            self._resolve(name, ())

    def __getitem__(self, name: str) -> Expression:
        """The tree of a named segment; of one with a mistake, a stand-in that keeps everybody."""
        return self._parsed[name]

    def parse(self, text: str) -> Expression:
        """The tree of an expression that may use the named segments. Raises SegmentError."""
        return parse_segment(text, known=self._known, segments=self._parsed, values=closed_values())

    def _resolve(self, name: str, above: tuple[str, ...]) -> None:
        if name in self._parsed:
            return
        for other, offset in self._uses(name):
            if other in (*above, name):
                self._fail(name, offset, f'segment "{name}" uses itself by way of "{other}"')
                return
            self._resolve(other, (*above, name))
        try:
            self._parsed[name] = self.parse(self.texts[name])
        except SegmentError as error:
            self._fail(name, error.column - 1, error.text)

    def _uses(self, name: str) -> Iterable[tuple[str, int]]:
        try:
            bare = without_texts(self.texts[name])
        except SegmentError:
            return []
        words = re.finditer(r"[A-Za-z_][A-Za-z0-9_]*", bare)
        return [(word.group(), word.start()) for word in words if word.group() in self.texts]

    def _fail(self, name: str, offset: int, message: str) -> None:
        self._parsed[name] = _STAND_IN
        self.issues.append(SegmentIssue(name, offset, message))
