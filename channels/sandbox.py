"""Template environments for texts that strangers may edit: no code, no side effects, bounded time and memory.

Jinja's own sandbox keeps code out but lets a template loop and grow without end. Here everything that can repeat or
grow is charged to a budget: the syntax tree gets a charge at the head of every loop, macro and block; filters, tests,
calls, comparisons, operators and printed values charge their sizes. What remains is an allow-list of filters, methods
and nodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

from jinja2 import BaseLoader, StrictUndefined, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.environment import TemplateModule
from jinja2.exceptions import SecurityError
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, TemplateReference
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from channels.budget import MAX_RANGE, WorkLimitError, spend, spend_for, spend_on
from channels.filters import FILTERS, TESTS, join_pieces, reject_nested, weighed
from channels.nearest import nearest

Escaping = Literal["text", "html", "json"]
Rewrite = Callable[[nodes.Template, str], None]

_METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: frozenset(
        {
            "upper",
            "lower",
            "title",
            "capitalize",
            "strip",
            "lstrip",
            "rstrip",
            "startswith",
            "endswith",
            "removeprefix",
            "removesuffix",
            "split",
            "isdigit",
        }
    ),
    dict: frozenset({"get", "items", "keys", "values"}),
    date: frozenset({"year", "month", "day", "hour", "minute", "isoformat", "weekday", "isoweekday"}),
    LoopContext: frozenset(
        {
            "index",
            "index0",
            "revindex",
            "revindex0",
            "first",
            "last",
            "length",
            "previtem",
            "nextitem",
            "depth",
            "depth0",
            "cycle",
            "changed",
        }
    ),
}
_CALLABLE: Final = (Macro, BlockReference, LoopContext)
_MAX_TOKENS: Final = 20_000
_MAX_DEPTH: Final = 30
_BLOCK_WORDS: Final = frozenset({"for", "if", "macro", "call", "filter", "block", "with"})
_MAX_INT_BITS: Final = 128


class Environment(ImmutableSandboxedEnvironment):
    """A sandboxed Jinja environment for one kind of output, with every growth charged to the budget."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, escaping: Escaping, loader: BaseLoader, *, rewrite: Rewrite | None = None) -> None:
        """`escaping` is how printed values are made safe: not at all, for HTML, or for the inside of JSON strings.

        `rewrite` may change the syntax tree of each file before it is metered; it is given tree and name.
        """
        self._rewrite = rewrite
        super().__init__(
            loader=loader,
            undefined=ExplainingUndefined,
            autoescape=escaping != "text",
            finalize=_FINALIZERS[escaping],
            optimized=False,  # constant folding would run filters and operators outside the budget
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.filters = {
            **FILTERS,
            **_OWN_FILTERS[escaping],
            "_charge": _charge,
            "_concat": join_pieces,
            "_flat": reject_nested,
            "_weighed": weighed,
        }
        self.tests = dict(TESTS)
        self.globals = {"range": _bounded_range, "namespace": Namespace}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        self._check_size(source, name, filename)
        parsed = super()._parse(source, name, filename)
        if self._rewrite is not None:
            self._rewrite(parsed, name or "")
        tree: nodes.Template = _Meter(name, filename).visit(parsed)
        tree.body.insert(0, _charge_node(tree))
        return tree

    def _check_size(self, source: str, name: str | None, filename: str | None) -> None:
        """Refuse before parsing what would take long to compile."""
        depth, begins = 0, False
        for count, (line, kind, word) in enumerate(self.lex(source, name, filename)):
            if count > _MAX_TOKENS:
                raise TemplateSyntaxError(f"more than {_MAX_TOKENS:,} words of template code", line, name, filename)
            if begins and kind == "name":
                depth += (word in _BLOCK_WORDS) - (word.startswith("end") and word[3:] in _BLOCK_WORDS)
            begins = kind == "block_begin" or (begins and kind == "whitespace")
            if depth > _MAX_DEPTH:
                raise TemplateSyntaxError(f"more than {_MAX_DEPTH} blocks inside each other", line, name, filename)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`: a key of a mapping first, then one of the few allowed attributes."""
        if isinstance(obj, Undefined):
            str(obj)  # raises, naming what is unknown
        if isinstance(obj, (Mapping, TemplateReference)):
            try:
                return obj[attribute]
            except KeyError:
                pass
        try:
            value = getattr(obj, attribute)
        except AttributeError:
            return self.undefined(obj=obj, name=attribute)
        if self.is_safe_attribute(obj, attribute, value):
            return value
        return self.unsafe_undefined(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`: a key, a position, or an attribute by name."""
        try:
            return obj[argument]
        except (LookupError, TypeError, AttributeError):
            if isinstance(argument, str):
                return self.getattr(obj, argument)
            return self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002 (Jinja's signature)
        """Whether a template may read this attribute: an allow-list per type."""
        if attr.startswith("_"):
            return False
        if isinstance(obj, (Namespace, TemplateModule)):
            return True
        return any(isinstance(obj, kind) and attr in allowed for kind, allowed in _METHODS.items())

    def is_safe_callable(self, obj: Any) -> bool:
        """Whether a template may call this: macros, blocks, recursive loops, our two functions, allowed methods."""
        if isinstance(obj, _CALLABLE) or obj is _bounded_range or obj is Namespace:
            return True
        owner = getattr(obj, "__self__", None)
        name = getattr(obj, "__name__", "_")
        return any(isinstance(owner, kind) and name in allowed for kind, allowed in _METHODS.items())

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, block or method, and charge what it gives."""
        if isinstance(obj, Undefined):
            str(obj)  # raises, naming what is unknown
        spend_on(getattr(obj, "__self__", None), *args)
        result = super().call(context, obj, *args, **kwargs)
        spend_for(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Work out `left operator right` after a look at how large the result would be."""
        if operator == "%" and isinstance(left, str):
            raise SecurityError("a text cannot stand before %: use the filter format, e.g. {{ '%.2f'|format(x) }}")
        if operator == "**" and not (abs(left) <= 1_000_000 and abs(right) <= 16):
            raise WorkLimitError("a power that large is not needed in a message")
        if operator == "*":
            spend(_product_length(left, right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and result.bit_length() > _MAX_INT_BITS:
            raise WorkLimitError("a number that large is not needed in a message")
        spend_for(result)
        return result


class ExplainingUndefined(StrictUndefined):
    """Raises on any use of an unknown name, and says which names there are."""

    @property
    def _undefined_message(self) -> str:
        name = str(self._undefined_name)
        obj = self._undefined_obj
        if self._undefined_hint or not isinstance(obj, Mapping):
            return str(super()._undefined_message)
        near = nearest(name, [str(key) for key in obj])
        return f"unknown field {name!r}" + (f" (did you mean {near!r}?)" if near else "")


class _Meter(NodeTransformer):
    """Puts charges into a template's syntax tree and turns away the constructs that are not allowed."""

    def __init__(self, name: str | None, filename: str | None) -> None:
        self._name, self._filename = name, filename

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """Visit the children, then charge at the head of every body that can run again."""
        node = super().generic_visit(node, *args, **kwargs)
        if isinstance(node, _REPEATABLE):
            node.body.insert(0, _charge_node(node))
        if isinstance(node, nodes.For) and node.test is not None:  # what does not fit is looked at, too
            node.test = _filter(node.test, "_weighed", node.lineno)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 (the visitor's naming)
        """Compare with a charge: for what is looked for as for what it is looked for in."""
        self.generic_visit(node)
        node.expr = _filter(node.expr, "_weighed", node.lineno)
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "_weighed", node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 (the visitor's naming)
        """Join with a charge."""
        pieces = [self.visit(child) for child in node.nodes]
        return _filter(nodes.List(pieces, lineno=node.lineno), "_concat", node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802 (the visitor's naming)
        """Literals hold plain values only: a list of lists of lists grows exponentially."""
        return self._flat(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802 (the visitor's naming)
        """As for lists; the targets of an assignment are no literals."""
        return node if node.ctx == "store" else self._flat(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802 (the visitor's naming)
        """As for lists."""
        return self._flat(node, [pair.value for pair in node.items])

    def visit_Slice(self, node: nodes.Slice) -> nodes.Node:  # noqa: N802 (the visitor's naming)
        """Slices copy without a charge; the filter truncate does what a message needs."""
        raise TemplateSyntaxError(
            "slices are not available: use truncate, first or last", node.lineno, self._name, self._filename
        )

    def visit_ScopedEvalContextModifier(self, node: nodes.Node) -> nodes.Node:  # noqa: N802 (the visitor's naming)
        """{% autoescape %} would let a customer's name write HTML."""
        raise TemplateSyntaxError("escaping cannot be switched", node.lineno, self._name, self._filename)

    def _flat(self, node: nodes.Expr, values: list[nodes.Expr]) -> nodes.Node:
        if all(isinstance(value, nodes.Const) for value in values):
            return node
        return _filter(self.generic_visit(node), "_flat", node.lineno)


_REPEATABLE: Final = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock, nodes.Block)


def _charge_node(owner: Any) -> nodes.Node:
    """A statement that charges one step and the static text of the body it heads."""
    length = sum(_static_length(child) for child in owner.body)
    return nodes.ExprStmt(
        _filter(nodes.Const(length, lineno=owner.lineno), "_charge", owner.lineno), lineno=owner.lineno
    )


def _static_length(node: nodes.Node) -> int:
    if isinstance(node, nodes.TemplateData):
        return len(node.data)
    if isinstance(node, _REPEATABLE):
        return 0  # charges for itself
    return sum(_static_length(child) for child in node.iter_child_nodes())


def _filter(node: nodes.Node, name: str, lineno: int) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=lineno)


def _charge(characters: int) -> None:
    spend(characters)


def _bounded_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise WorkLimitError(f"range() gives at most {MAX_RANGE:,} numbers")
    return numbers


def _product_length(left: Any, right: Any) -> int:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, (str, list, tuple)) and isinstance(times, int):
            return len(sequence) * max(times, 0)
    return 0


@pass_context
def _print_text(_context: Context, value: Any) -> Any:
    """The value as it will be printed; only scalars have a printed form."""
    if value is None:
        raise SecurityError(
            "a value is missing here; give it a default, e.g. {{ customer.first_name|default('there') }}"
        )
    if not isinstance(value, (str, int, float, Decimal, date, Undefined)):
        raise SecurityError(f"a {type(value).__name__} cannot be printed; print its items, or use join")
    text = value if isinstance(value, str) else str(value)
    spend(len(text))
    return text


@pass_context
def _print_json(context: Context, value: Any) -> Any:
    """The value for the inside of a JSON string; what is already JSON (a macro's output, tojson) stays."""
    text = _print_text(context, value)
    if isinstance(text, Markup):
        return text
    return Markup(json.dumps(text, ensure_ascii=False)[1:-1])  # noqa: S704 (escaped for JSON in this very line)


_FINALIZERS: Final[Mapping[Escaping, Callable[..., Any]]] = {
    "text": _print_text,
    "html": _print_text,
    "json": _print_json,
}

_OWN_FILTERS: Final[Mapping[Escaping, Mapping[str, Callable[..., Any]]]] = {
    "text": {},
    "html": {},
    "json": {"e": str, "escape": str},  # printing escapes; HTML entities mean nothing in a notification
}
