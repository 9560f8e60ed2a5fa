"""Byte-exact edits of YAML: the characters of a value are exchanged where they stand, nothing is written anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from campaigns.write_back.difference import is_only_edit
from campaigns.write_back.errors import WriteBackError
from campaigns.write_back.places import Child, Document, is_flow
from campaigns.write_back.scalars import STRING_TAG, write_key, write_scalar

_BOM: Final = "\ufeff"
_COLON: Final = re.compile(r"[ \t]*:(?=[\s,\[\]{}]|$)")
_TAIL: Final = re.compile(r"[ \t]*(?:#[^\r\n]*)?(\r\n|\n|\r|$)")
_BEFORE_FIRST_KEY: Final = re.compile(r"[ ]*(?:-[ ]+)*")


@dataclass(frozen=True, slots=True)
class Edit:
    """Set the value at `path` (keys from the top; positions of list items in digits) to the scalar `value`.

    `value` is what a person would type after the colon without thinking of quotes, such as 40% or paused. Where text
    stood it stays text, quoted if need be; a key that is missing is added, read as YAML reads it (0.5 is a number).
    """

    path: tuple[str, ...]
    value: str

    def __str__(self) -> str:
        """`arms.a.weight: 40%`."""
        return f"{'.'.join(self.path)}: {self.value}"


def splice(text: bytes, edits: Sequence[Edit]) -> bytes:
    """`text` with the edits made in order, every other byte as it was.

    Values keep their quotes; comments, line endings, byte-order mark, anchors and aliases elsewhere survive. A value
    that already stands there changes nothing. The result is read again and must say the same but for the edits.

    Raises WriteBackError, naming the path, where that cannot be done: the path leads through an alias, the value has an
    anchor that others use, stands in a block scalar or is no scalar, a key is doubled, or the file is not UTF-8 YAML.
    """
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        raise WriteBackError("the file is not UTF-8; save it as UTF-8 and try again") from None
    bom = _BOM if decoded.startswith(_BOM) else ""
    document = Document(decoded.removeprefix(bom))
    for edit in edits:
        document = _make(document, edit)
    return (bom + document.text).encode("utf-8")


def _make(document: Document, edit: Edit) -> Document:
    """One edit, made and checked."""
    if not edit.path:
        raise WriteBackError("an edit names no key")
    try:
        start, end, new = _replacement(document, edit)
        if document.text[start:end] == new:
            return document
        edited = Document(document.text[:start] + new + document.text[end:])
        alike = is_only_edit(document.plain(), edited.plain(), edit.path, edit.value)
    except WriteBackError as error:
        raise WriteBackError(f"{edit}: {error}") from None
    if not alike:
        raise WriteBackError(f"{edit}: the file would no longer say the same elsewhere; edit it by hand")
    return edited


def _replacement(document: Document, edit: Edit) -> tuple[int, int, str]:
    """The characters to exchange: (start, end, new text)."""
    parent: Node = document.root
    for depth, key in enumerate(edit.path):
        child = _child(document, parent, key)
        rest = edit.path[depth + 1 :]
        if child is None:
            return _insertion(document, parent, edit.path[depth:], edit.value)
        if not rest:
            return _exchange(document, parent, child, edit.value)
        if child.alias is not None:
            raise WriteBackError(f"{key} is an alias of line {document.line(child.node)}; write its values out first")
        if isinstance(child.node, ScalarNode):
            return _filling(document, child, rest, edit.value)
        parent = child.node
    raise AssertionError("a path ends in a return")


def _child(document: Document, parent: Node, key: str) -> Child | None:
    children = document.children(parent)
    if isinstance(parent, SequenceNode):
        if not (key.isdigit() and int(key) < len(children)):
            raise WriteBackError(f"the list has {len(children)} items, none numbered {key} (they count from 0)")
        return children[int(key)]
    found = [child for child in children if isinstance(child.key, ScalarNode) and child.key.value == key]
    if len(found) > 1:
        raise WriteBackError(f"the key {key} stands there {len(found)} times")
    return found[0] if found else None


def _exchange(document: Document, parent: Node, child: Child, value: str) -> tuple[int, int, str]:
    """Exchange a scalar that is there."""
    node = child.node
    if not isinstance(node, ScalarNode):
        raise WriteBackError("a collection stands there, not a single value")
    flow, text = is_flow(parent), str(node.tag) == STRING_TAG
    start, end = child.alias or document.span(node) or (0, 0)
    if node.value == value and end:
        return start, end, document.text[start:end]
    if child.alias is not None:
        return start, end, write_scalar(value, flow=flow, style=None, text=text)
    if id(node) in document.shared:
        raise WriteBackError(f"the value carries the anchor &{node.anchor}, which other places use; edit it by hand")
    if node.style in ("|", ">"):
        raise WriteBackError("the value is a block of text; edit it by hand")
    if end:
        return start, end, write_scalar(value, flow=flow, style=node.style, text=text)
    if node.anchor or not value:
        raise WriteBackError("the value is empty; edit it by hand")
    return _after_colon(document, child, write_scalar(value, flow=flow, style=None, text=False))


def _filling(document: Document, child: Child, rest: tuple[str, ...], value: str) -> tuple[int, int, str]:
    """Give a key without a value its first inner value."""
    node = child.node
    assert isinstance(node, ScalarNode)  # the caller's case
    if document.span(node) is not None or node.value != "" or node.anchor:
        raise WriteBackError("a single value stands where keys were expected")
    return _after_colon(document, child, _nested(rest, value))


def _after_colon(document: Document, child: Child, written: str) -> tuple[int, int, str]:
    position = _colon(document, child)
    if position is None:
        raise WriteBackError("the empty value has no colon before it; edit it by hand")
    return position, position, f" {written}"


def _colon(document: Document, child: Child) -> int | None:
    """Just behind the colon that follows a key."""
    match = _COLON.match(document.text, child.key.end_mark.index) if child.key is not None else None
    return match.end() if match else None


def _insertion(document: Document, parent: Node, path: tuple[str, ...], value: str) -> tuple[int, int, str]:
    """Add a missing key behind the last one of its mapping."""
    assert isinstance(parent, MappingNode)  # a sequence refuses unknown items
    children = document.children(parent)
    if is_flow(parent):
        line = f"{write_key(path[0], flow=True)}: {_inner(path[1:], value, flow=True)}"
        if not children:
            position = document.text.index("{", parent.start_mark.index) + 1
            return position, position, line
        position = _end(document, children[-1])
        gap = " " if document.text[position - 1] == ":" else ""  # ruamel reads "x:," as one word
        return position, position, f"{gap}, {line}"
    line = f"{_indent(document, children[0])}{write_key(path[0], flow=False)}: {_inner(path[1:], value, flow=False)}"
    return _new_line(document, _end(document, children[-1]), line)


def _inner(path: tuple[str, ...], value: str, *, flow: bool) -> str:
    return _nested(path, value) if path else write_scalar(value, flow=flow, style=None, text=False)


def _nested(path: tuple[str, ...], value: str) -> str:
    """{a: {b: value}} for the path (a, b)."""
    written = write_scalar(value, flow=True, style=None, text=False)
    for key in reversed(path):
        written = f"{{{write_key(key, flow=True)}: {written}}}"
    return written


def _indent(document: Document, first: Child) -> str:
    assert first.key is not None  # a mapping's child
    column = first.key.start_mark.column
    start = first.key.start_mark.index
    if not _BEFORE_FIRST_KEY.fullmatch(document.text[start - column : start]):
        raise WriteBackError("the mapping's first key does not stand on a line of its own; edit it by hand")
    return " " * int(column)


def _end(document: Document, child: Child) -> int:
    """Just behind the last character of a value."""
    node = child.node
    if child.alias is not None:
        return child.alias[1]
    inner = document.children(node)
    if inner and not is_flow(node):
        return _end(document, inner[-1])
    if isinstance(node, ScalarNode) and document.span(node) is None:
        colon = _colon(document, child)
        return colon if colon is not None else int(child.key.end_mark.index if child.key else node.end_mark.index)
    end = int(node.end_mark.index)
    return _end_of_block(document, node, end) if isinstance(node, ScalarNode) and node.style in ("|", ">") else end


def _end_of_block(document: Document, node: ScalarNode, end: int) -> int:
    """A block scalar ends with its last line that says something; with "+" its blank lines count too."""
    header = document.text[node.start_mark.index :].split("\n", 1)[0].split("#")[0]
    body = document.text[:end]
    if "+" in header:
        return len(body.removesuffix("\n").removesuffix("\r"))
    return len(body.rstrip(" \t\r\n"))


def _new_line(document: Document, position: int, line: str) -> tuple[int, int, str]:
    """Put a line behind the one in which a value ends at `position`."""
    tail = _TAIL.match(document.text, position)
    if tail is None:
        raise WriteBackError("something follows the mapping's last value on its line; edit it by hand")
    ending = _line_ending(document.text)
    if tail.group(1):
        return tail.end(), tail.end(), line + ending
    return tail.end(), tail.end(), ending + line


def _line_ending(text: str) -> str:
    match = re.search(r"\r\n|\n|\r", text)
    return "\n" if match is None else str(match.group())
