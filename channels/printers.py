"""Printers: macros that do nothing with a parameter but print it as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from jinja2 import TemplateNotFound, nodes

CAPTURING: Final = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)
"""What takes hold of the text printed inside it."""


@dataclass(frozen=True, slots=True)
class Printer:
    """A macro's parameters in their order, and those of them that it only prints."""

    parameters: tuple[str, ...]
    printed: frozenset[str]


def printers_of(tree: nodes.Template, read: Callable[[str], nodes.Template]) -> dict[str, Printer]:
    """The macros a file defines or imports by name, as far as each name means one thing in it."""
    found = [(macro.name, macro) for macro in tree.find_all(nodes.Macro)]
    for imported in tree.find_all(nodes.FromImport):
        names = [name if isinstance(name, tuple) else (name, name) for name in imported.names]
        theirs = _macros(imported.template, read)
        found += [(own, theirs[name]) for name, own in names if name in theirs]
    meanings = Counter(_given_names(tree))
    return {name: _printer(macro) for name, macro in found if meanings[name] == 1}


def _macros(name: nodes.Expr, read: Callable[[str], nodes.Template]) -> dict[str, nodes.Macro]:
    """The macros at the top of another file; none where two have a name, or the file is not known beforehand."""
    if not isinstance(name, nodes.Const) or not isinstance(name.value, str):
        return {}
    try:
        tree = read(name.value)
    except TemplateNotFound:
        return {}
    meanings = Counter(_given_names(tree))
    return {macro.name: macro for macro in tree.body if isinstance(macro, nodes.Macro) and meanings[macro.name] == 1}


def _given_names(tree: nodes.Template) -> Iterator[str]:
    """Every name a file gives a meaning, as often as it does."""
    yield from (name.name for name in tree.find_all(nodes.Name) if name.ctx != "load")
    yield from (macro.name for macro in tree.find_all(nodes.Macro))
    yield from (module.target for module in tree.find_all(nodes.Import))
    for imported in tree.find_all(nodes.FromImport):
        yield from (name if isinstance(name, str) else name[1] for name in imported.names)


def _printer(macro: nodes.Macro) -> Printer:
    parameters = tuple(argument.name for argument in macro.args)
    used = Counter(name.name for name in macro.find_all(nodes.Name) if name.ctx == "load")
    printed = Counter(_printed_names(macro.body))
    given = Counter(name.name for name in macro.find_all(nodes.Name) if name.ctx != "load")
    only = {name for name in parameters if used[name] == printed[name] and given[name] == 1}
    return Printer(parameters, frozenset(only))


def _printed_names(body: list[nodes.Node]) -> Iterator[str]:
    """The names printed as they are, outside of all that takes hold of printed text."""
    for node in body:
        if isinstance(node, CAPTURING) or (isinstance(node, nodes.For) and node.recursive):
            continue
        if isinstance(node, nodes.Output):
            yield from (child.name for child in node.nodes if isinstance(child, nodes.Name))
        else:
            yield from _printed_names([child for child in node.iter_child_nodes() if isinstance(child, nodes.Stmt)])
