"""Where the values of a YAML file stand: every node with the characters it takes, aliases told from what they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.tokens import AliasToken, ScalarToken

from campaigns.write_back.errors import WriteBackError

MAX_CHARACTERS: Final = 1_000_000
MAX_NODES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as read: the tag YAML gives it (text, number, ...) and its text."""

    tag: str
    text: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """A mapping as read, in the order of the file."""

    pairs: tuple[tuple[Plain, Plain], ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A sequence as read."""

    items: tuple[Plain, ...]


Plain = Scalar | Pairs | Items
"""What a file says, without how it is written."""


@dataclass(frozen=True, slots=True)
class Child:
    """One value of a collection: its node, its key where it has one, and the alias that stands for it, if any."""

    node: Node
    key: Node | None
    alias: tuple[int, int] | None


class Document:
    """A YAML text and its tree of nodes; positions are characters of the text."""

    def __init__(self, text: str) -> None:
        """Raises WriteBackError for text that is not one YAML document or is too large."""
        if len(text) > MAX_CHARACTERS:
            raise WriteBackError(f"the file has {len(text):,} characters; at most {MAX_CHARACTERS:,} are edited")
        self.text = text
        try:
            root = YAML(pure=True).compose(text)
            tokens = list(YAML(pure=True).scan(text))
        except (YAMLError, RecursionError, ValueError) as error:
            raise WriteBackError(f"the file is not one YAML document: {_short(error)}") from None
        if not isinstance(root, MappingNode):
            raise WriteBackError("the file is not a mapping of keys to values")
        self.root = root
        self._starts = {t.end_mark.index: t.start_mark.index for t in tokens if isinstance(t, ScalarToken)}
        self._aliases = iter([(t.start_mark.index, t.end_mark.index) for t in tokens if isinstance(t, AliasToken)])
        self._children: dict[int, list[Child]] = {}
        self.shared: set[int] = set()
        """Ids of the nodes that an alias stands for as well."""
        self._walk(root, {id(root)})

    def children(self, node: Node) -> list[Child]:
        """The values of a mapping or the items of a sequence; of a scalar none."""
        return self._children.get(id(node), [])

    def span(self, node: ScalarNode) -> tuple[int, int] | None:
        """The characters of a scalar without its anchor and tag; None for an empty one."""
        end = node.end_mark.index
        start = self._starts.get(end)
        return None if start is None or start < node.start_mark.index else (start, end)

    def line(self, node: Node) -> int:
        """The line a node starts on, from 1."""
        return int(node.start_mark.line) + 1

    def plain(self) -> Plain:
        """What the file says, aliases written out."""
        return _Reader(self).plain(self.root, ())

    def _walk(self, node: Node, seen: set[int]) -> None:
        children: list[Child] = []
        for key, value in _slots(node):
            if key is not None:
                self._visit(key, seen)
            children.append(Child(value, key, self._visit(value, seen)))
        if children:
            self._children[id(node)] = children

    def _visit(self, node: Node, seen: set[int]) -> tuple[int, int] | None:
        """Note a node where it stands; a node met before can only stand here as an alias."""
        if id(node) in seen:
            self.shared.add(id(node))
            return next(self._aliases)
        seen.add(id(node))
        self._walk(node, seen)
        return None


class _Reader:
    """Reads the tree into plain values, within a bound: aliases of aliases can name more than memory holds."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = MAX_NODES

    def plain(self, node: Node, above: tuple[int, ...]) -> Plain:
        self._left -= 1
        if self._left < 0 or id(node) in above:
            raise WriteBackError(f"the file has more than {MAX_NODES:,} values, or an alias inside what it names")
        if isinstance(node, ScalarNode):
            return Scalar(str(node.tag), str(node.value))
        inside = (*above, id(node))
        children = self._document.children(node)
        if isinstance(node, SequenceNode):
            return Items(tuple(self.plain(child.node, inside) for child in children))
        keyed = ((child.key, child.node) for child in children if child.key is not None)
        return Pairs(tuple((self.plain(key, inside), self.plain(value, inside)) for key, value in keyed))


def is_flow(node: Node) -> bool:
    """Whether a collection is written in {} or []."""
    return bool(getattr(node, "flow_style", False))


def _slots(node: Node) -> Iterator[tuple[Node | None, Node]]:
    if isinstance(node, MappingNode):
        yield from node.value
    elif isinstance(node, SequenceNode):
        yield from ((None, item) for item in node.value)


def _short(error: Any) -> str:
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    place = f" (line {mark.line + 1})" if mark is not None else ""
    return f"{problem or type(error).__name__}{place}"
