"""Holes: the places of a template where a value of one customer is printed as it is, and the tags that stand for them.

A hole is `{{ customer.first_name }}` or `{{ customer.first_name|default('there') }}`, printed straight into the text or
given to a macro that does nothing but print it. What goes through another filter, a condition or a variable of the
template's own is no hole: the text around it depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

from jinja2 import nodes

from channels.printers import CAPTURING, Printer, printers_of
from channels.references import chain_of

Kind = Literal["h", "t", "w"]
"""How a value is written: escaped for HTML, as it is, or as it is in a text made from HTML (white space folded)."""

MARK: Final = "*retain-"
"""How every tag begins; its first character stands nowhere else in a tag, so that no two tags can overlap."""
BEGINNINGS: Final = tuple(MARK[:length] for length in range(1, len(MARK)))
"""What, at the end of a value or text, could become a tag together with what follows."""
MOST_HOLES: Final = 1_000

_PERSONAL: Final = frozenset({"unsubscribe_url", "offer.code"})
_NAMING: Final = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


@dataclass(frozen=True, slots=True)
class Hole:
    """What is printed: the path of the value, and what |default gives in its place (None: no default)."""

    path: tuple[str, ...]
    instead: str | None = None
    also_if_empty: bool = False

    def value(self, context: Mapping[str, Any]) -> str | None:
        """The text that is printed for a context; None where printing must fail, or would need more than a look-up."""
        found: Any = context
        for name in self.path[:-1]:
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, (dict, Mapping)):
            return None
        value = found.get(self.path[-1])
        if value is None or (self.also_if_empty and not value):
            return self.instead
        return str(value) if isinstance(value, (str, int, float, Decimal, date)) else None


def tag(kind: Kind, number: int) -> str:
    """The tag of a hole; all are equally long, so that none begins another."""
    return f"{MARK}{kind}{number:03}x"


class HoleBook:
    """The holes of all templates of a renderer, numbered; one number for the same value wherever it is printed."""

    def __init__(self) -> None:
        self.numbers: dict[Hole, int] = {}
        self.of_file: dict[str, set[Hole]] = {}
        self.closed: set[str] = set()
        """Files that work on the text of others: around them nothing may be left open."""

    def number(self, hole: Hole, file: str) -> int | None:
        """The hole's number; None when there are too many."""
        if hole not in self.numbers and len(self.numbers) >= MOST_HOLES:
            return None
        self.of_file.setdefault(file, set()).add(hole)
        return self.numbers.setdefault(hole, len(self.numbers))


@dataclass(slots=True)
class HolePuncher:
    """Puts tags into a syntax tree in place of what is printed there; `kind` is how the template prints.

    `read` gives the tree of another file as it stands there: a macro of which only prints what it is given may be
    given a tag.
    """

    book: HoleBook
    kind: Kind
    read: Callable[[str], nodes.Template]
    _printers: dict[str, Printer] = field(default_factory=dict)

    def __call__(self, tree: nodes.Template, file: str) -> None:
        """Change the tree in place."""
        self._printers = printers_of(tree, self.read)
        self._walk(tree, file, captured=False)

    def _walk(self, node: nodes.Node, file: str, *, captured: bool) -> None:
        if isinstance(node, nodes.Output):
            node.nodes = [self._printed(child, file, captured) for child in node.nodes]
            return
        if _works_on_text(node, captured):
            self.book.closed.add(file)
        captured = captured or isinstance(node, CAPTURING) or (isinstance(node, nodes.For) and node.recursive)
        for child in node.iter_child_nodes():
            self._walk(child, file, captured=captured)

    def _printed(self, node: nodes.Expr, file: str, captured: bool) -> nodes.Expr:
        hole = None if captured else _hole(node)
        number = None if hole is None else self.book.number(hole, file)
        if number is not None:
            return nodes.Const(tag(self.kind, number), lineno=node.lineno)
        if not captured and isinstance(node, nodes.Call):
            self._give_tags(node, file)
        if captured or not _is_super_call(node):
            self._walk(node, file, captured=captured)
        return node

    def _give_tags(self, call: nodes.Call, file: str) -> None:
        """Put tags in place of the arguments that the macro only prints."""
        printer = self._printers.get(call.node.name) if isinstance(call.node, nodes.Name) else None
        if printer is None or call.dyn_args is not None or call.dyn_kwargs is not None:
            return
        for place, argument in enumerate(call.args):
            if place < len(printer.parameters) and printer.parameters[place] in printer.printed:
                call.args[place] = self._tag_or(argument, file)
        for keyword in call.kwargs:
            if keyword.key in printer.printed:
                keyword.value = self._tag_or(keyword.value, file)

    def _tag_or(self, node: nodes.Expr, file: str) -> nodes.Expr:
        hole = _hole(node)
        number = None if hole is None else self.book.number(hole, file)
        return node if number is None else nodes.Const(tag(self.kind, number), lineno=node.lineno)


def _works_on_text(node: nodes.Node, captured: bool) -> bool:
    """Whether a node may take hold of what another file prints, or names a file that is not known beforehand."""
    if isinstance(node, nodes.Name):
        return node.ctx == "load" and node.name in ("self", "super")
    if isinstance(node, _NAMING) and not _is_constant(node.template):
        return True
    return captured and isinstance(node, (nodes.Include, nodes.Block))


def _is_constant(name: nodes.Expr) -> bool:
    items = name.items if isinstance(name, (nodes.List, nodes.Tuple)) else [name]
    return all(isinstance(item, nodes.Const) for item in items)


def _is_super_call(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "super"


def _hole(node: nodes.Expr) -> Hole | None:
    path = chain_of(node)
    if path is not None:
        return Hole(tuple(path.split("."))) if _is_personal(path) else None
    if not isinstance(node, nodes.Filter) or node.name not in ("default", "d") or node.node is None:
        return None
    path = chain_of(node.node)
    if path is None or not _is_personal(path) or node.kwargs or node.dyn_args or node.dyn_kwargs:
        return None
    given = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
    if len(given) != len(node.args) or not all(isinstance(value, (str, int)) for value in given):
        return None
    return Hole(tuple(path.split(".")), str(given[0]) if given else "", bool(len(given) > 1 and given[1]))


def _is_personal(path: str) -> bool:
    return path in _PERSONAL or (path.startswith("customer.") and path.count(".") == 1)
