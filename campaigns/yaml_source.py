"""A YAML file as plain values that remember where they stand; everything that is not plain data is refused."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from campaigns.problems import Location

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 20
MAX_ALIASES: Final = 100
MAX_VALUES: Final = 20_000
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with a file: where, and at which of its keys if that is known."""

    place: Place
    location: Location
    message: str


@dataclass(slots=True)
class Source:
    """The plain values of one file, with the places of its keys and values and the flaws found on the way.

    `sha256` is of the bytes of the file; empty for a text that came from none.
    """

    text: str
    sha256: str = ""
    values: Any = None
    keys: dict[Location, Place] = field(default_factory=dict)
    nodes: dict[Location, Node] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)

    def place_of(self, location: Location) -> Place:
        """Where the value at `location` stands; of what does not stand there, the nearest key above."""
        while location and location not in self.nodes:
            location = location[:-1]
        return _start(self.nodes[location]) if location in self.nodes else Place(1, 1)

    def place_of_key(self, location: Location) -> Place:
        """Where the key at `location` stands."""
        return self.keys.get(location) or self.place_of(location)

    def place_in(self, location: Location, offset: int) -> Place:
        """Where character `offset` (from 0) of the text at `location` stands, folded and quoted texts included."""
        node = self.nodes.get(location)
        if not isinstance(node, ScalarNode):
            return self.place_of(location)
        index = _index_in(self.text, node, offset)
        if index is None:
            return _start(node)
        line_start = self.text.rfind("\n", 0, index) + 1
        return Place(self.text.count("\n", 0, index) + 1, index - line_start + 1)


def read_yaml(path: Path) -> Source:
    """Read one file. What is wrong with its text is in `flaws`. Raises OSError when it cannot be opened.

    Files of the same bytes share one Source: nobody changes it.
    """
    if path.stat().st_size > MAX_BYTES:
        return Source("", flaws=[Flaw(Place(1, 1), (), f"the file is larger than {MAX_BYTES // 1024} KiB; split it")])
    return _source_of(path.read_bytes())


@lru_cache(maxsize=128)
def _source_of(data: bytes) -> Source:
    """What the bytes of a file mean. The same bytes mean the same: a run reads its files again and again."""
    try:
        source = parse_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Source("", flaws=[Flaw(Place(line, 1), (), "the file is not UTF-8; save it as UTF-8")])
    source.sha256 = hashlib.sha256(data).hexdigest()
    return source


def parse_yaml(text: str) -> Source:
    """The plain values of a YAML 1.2 text, with every duplicate key, empty value and foreign tag among its flaws."""
    source = Source(text.replace("\r\n", "\n"))
    try:
        if flaw := next(_event_flaws(source.text), None):
            source.flaws.append(flaw)
            return source
        root = _new_yaml().compose(source.text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        source.flaws.append(Flaw(place, (), f"is not YAML: {error.problem or error.context or 'cannot be read'}"))
        return source
    except YAMLError as error:
        source.flaws.append(Flaw(Place(1, 1), (), f"is not YAML: {str(error).splitlines()[0]}"))
        return source
    if root is None:
        source.flaws.append(Flaw(Place(1, 1), (), "the file is empty"))
    else:
        source.values = _Reader(source).read(root, (), ())
    return source


def _new_yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _event_flaws(text: str) -> Iterator[Flaw]:
    """What must be refused before a tree is built: depth, aliases, tags, a second document."""
    depth, aliases = 0, 0
    for event in _new_yaml().parse(text):
        place = Place(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            depth += 1
        elif type(event).__name__ in ("MappingEndEvent", "SequenceEndEvent"):
            depth -= 1
        aliases += isinstance(event, AliasEvent)
        if getattr(event, "version", None):
            yield Flaw(place, (), "remove the %YAML line; files are read as YAML 1.2")
        if depth > MAX_DEPTH:
            yield Flaw(place, (), f"is nested more than {MAX_DEPTH} levels deep")
        if aliases > MAX_ALIASES:
            yield Flaw(place, (), f"uses more than {MAX_ALIASES} aliases")
        if isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent) and event.ctag:
            yield Flaw(place, (), f"the tag {event.ctag} is not allowed; write plain values")


def _start(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


class _Reader:
    """Turns the composed tree into plain values and notes where each stands."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._count = 0

    def read(self, node: Node, location: Location, above: tuple[int, ...]) -> Any:
        self._count += 1
        if id(node) in above or self._count > MAX_VALUES:
            reason = (
                "an alias holds itself"
                if id(node) in above
                else f"holds more than {MAX_VALUES} values, aliases included"
            )
            if not any(flaw.message == reason for flaw in self._source.flaws):
                self._flaw(node, location, reason)
            return None
        self._source.nodes.setdefault(location, node)
        inner = (*above, id(node))
        match node:
            case MappingNode():
                return self._mapping(node, location, inner)
            case SequenceNode():
                return [self.read(item, (*location, i), inner) for i, item in enumerate(node.value)]
            case _:
                return self._scalar(node, location)

    def _mapping(self, node: MappingNode, location: Location, above: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag == f"{_TAG}merge":
                self._flaw(key_node, location, "a key must be a plain word (merge keys are not YAML 1.2)")
                continue
            key = key_node.value
            here = (*location, key)
            if key in values:
                first = self._source.keys[here]
                self._flaw(key_node, here, f"duplicate key (first on line {first.line}); keep one of them")
                continue
            self._source.keys[here] = _start(key_node)
            values[key] = self.read(value_node, here, above)
        return values

    def _scalar(self, node: Node, location: Location) -> Any:
        text = str(node.value)
        match str(node.tag).removeprefix(_TAG):
            case "null":
                place = self._source.keys.get(location) or _start(node)
                self._source.flaws.append(Flaw(place, location, "has no value; give it one or remove the key"))
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text) if re.fullmatch(r"[-+]?[0-9]{1,18}", text) else text
            case "float":
                number = float(text) if re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", text) else math.nan
                return number if math.isfinite(number) else text
            case _:
                return text

    def _flaw(self, node: Node, location: Location, message: str) -> None:
        self._source.flaws.append(Flaw(_start(node), location, message))


def _index_in(text: str, node: ScalarNode, offset: int) -> int | None:
    """The index in `text` of character `offset` of a scalar's value: its visible characters stand there in order."""
    start, end = int(node.start_mark.index), int(node.end_mark.index)
    raw = text[start:end]
    begin = 0
    if node.style in ("|", ">"):
        begin = raw.find("\n") + 1
    elif node.style in ("'", '"'):
        begin = 1
    if node.style == '"' and "\\" in raw:
        return None
    wanted = len("".join(node.value[:offset].split()))
    skip = False
    for index in range(begin, len(raw)):
        if raw[index].isspace():
            continue
        if skip:
            skip = False
            continue
        if wanted == 0:
            return start + index
        wanted -= 1
        skip = node.style == "'" and raw[index] == "'"
    return end - 1 if end > start else None
