"""The variables a template asks for, read from its syntax tree without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jinja2 import Environment, TemplateNotFound, TemplateSyntaxError, nodes


@dataclass(frozen=True, slots=True)
class Reference:
    """One use of a variable: its path ("customer.first_name"), the template file and the line."""

    path: str
    file: str
    line: int


def find_references(environment: Environment, template: str) -> Iterator[Reference]:
    """Every use of a variable that must come from outside, in the template and all it includes, imports or extends."""
    trees = read_trees(environment, template)
    own = set(environment.globals) | assigned_names(trees)
    for file, tree in trees.items():
        for node, path in _paths(tree):
            if path.split(".")[0] not in own:
                yield Reference(path, file, node.lineno)


def read_trees(environment: Environment, template: str) -> dict[str, nodes.Template]:
    """The syntax trees of a template and of all it includes, imports or extends by name."""
    trees: dict[str, nodes.Template] = {}
    _collect(environment, template, trees)
    return trees


def assigned_names(trees: Mapping[str, nodes.Template]) -> frozenset[str]:
    """Names the templates give a value themselves."""
    return frozenset(name for tree in trees.values() for name in _assigned(tree))


def chain_of(node: nodes.Node) -> str | None:
    """`customer.first_name` for the expression that asks for it, None for any other expression."""
    if isinstance(node, nodes.Name):
        return node.name if node.ctx == "load" else None
    if isinstance(node, nodes.Getattr):
        below = chain_of(node.node)
        return None if below is None else f"{below}.{node.attr}"
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        below = chain_of(node.node)
        return None if below is None else f"{below}.{node.arg.value}"
    return None


def _collect(environment: Environment, template: str, trees: dict[str, nodes.Template]) -> None:
    if template in trees:
        return
    assert environment.loader is not None  # our environments always have one
    source, _, _ = environment.loader.get_source(environment, template)
    tree = environment.parse(source, template, template)
    trees[template] = tree
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        for name in _named(node):
            try:
                _collect(environment, name, trees)
            except TemplateNotFound:
                if not getattr(node, "ignore_missing", False):
                    raise TemplateSyntaxError(f"no template {name!r} to include", node.lineno, template) from None


def _named(node: nodes.Node) -> list[str]:
    target = getattr(node, "template")  # noqa: B009 (each of the four node classes has it, their common base has not)
    constants = target.items if isinstance(target, (nodes.List, nodes.Tuple)) else [target]
    return [c.value for c in constants if isinstance(c, nodes.Const) and isinstance(c.value, str)]


def _assigned(tree: nodes.Template) -> Iterator[str]:
    """Names the template gives a value itself: loops, assignments, macros and their parameters, imports."""
    for name in tree.find_all(nodes.Name):
        if name.ctx != "load":
            yield name.name
    for macro in tree.find_all(nodes.Macro):
        yield macro.name
    for module in tree.find_all(nodes.Import):
        yield module.target
    for names in tree.find_all(nodes.FromImport):
        for imported in names.names:
            yield imported if isinstance(imported, str) else imported[1]
    yield from ("loop", "self", "super", "caller", "varargs", "kwargs")


def _paths(node: nodes.Node) -> Iterator[tuple[nodes.Node, str]]:
    """Every chain of names below a node, the longest each: customer.first_name, not also customer."""
    path = chain_of(node)
    if path is not None:
        yield node, path
        return
    for child in node.iter_child_nodes():
        yield from _paths(child)
