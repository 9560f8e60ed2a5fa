"""How a scalar is written so that YAML reads exactly the text that was meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode

from campaigns.write_back.errors import WriteBackError

STRING_TAG: Final = "tag:yaml.org,2002:str"
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
_UNREAL: Final = frozenset("\x85\u2028\u2029\ufeff")


def write_scalar(value: str, *, flow: bool, style: str | None, text: bool) -> str:
    """`value` in the quotes of `style` (' or " or None for none) if it can stand there, else in stronger ones.

    `flow` says whether it will stand in {} or []; with `text` it is never read as a number, a boolean or nothing.
    """
    for written in _candidates(value, style):
        node = _read(written, flow=flow)
        if node is not None and node.value == value and (str(node.tag) == STRING_TAG or not text):
            return written
    raise WriteBackError("the new value cannot be written in YAML")


def write_key(key: str, *, flow: bool) -> str:
    """A key as YAML reads it back as this text."""
    return write_scalar(key, flow=flow, style=None, text=True)


def _candidates(value: str, style: str | None) -> Iterator[str]:
    simple = value.isprintable() and not _UNREAL & set(value)
    if style is None and simple and value:
        yield value
    if style == "'" and simple:
        yield "'" + value.replace("'", "''") + "'"
    yield '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable() and character not in _UNREAL:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _read(written: str, *, flow: bool) -> ScalarNode | None:
    """What YAML reads where `written` stands behind a colon: a bare scalar, or None for anything else."""
    line = f"{{k: {written}, l: m}}\n" if flow else f"k: {written} # m\nl: m\n"
    try:
        root = YAML(pure=True).compose(line)
    except (YAMLError, ValueError):
        return None
    if not isinstance(root, MappingNode) or len(root.value) != 2:
        return None
    node = root.value[0][1]
    bare = isinstance(node, ScalarNode) and not node.anchor and node.start_mark.index == line.index(written, 2)
    explicit = written.startswith(("!", "&", "*", "|", ">"))
    return node if bare and not explicit else None
