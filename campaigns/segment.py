"""The segment language: `recency_days >= 90 and country in ('GB', 'IE')` parsed to a frozen tree of our own.

Grammar: `and`, `or`, `not`, comparisons (also chained: `30 <= recency_days < 60`), `in` and `not in` a list of
constants, `is None` and `is not None`, `+ - * /` on numbers, names, numbers, texts, True and False, parentheses.
Nothing else parses.

Logic is two-valued. A feature that is missing for a customer makes every comparison with it false (`x > 3`, `x != 3`,
`x in (...)` and `x not in (...)` alike); `not` turns that into true, so `not (x > 3)` keeps customers whose x is
missing and `x <= 3` drops them. Arithmetic with a missing value, and division by zero, is missing. Only `is None` asks
for a missing value.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, cast

from campaigns.features import Kind
from campaigns.nearest import nearest
from campaigns.segment_text import ALLOWED, MAX_CHOICES, MAX_DEPTH, SegmentError, check_characters
from campaigns.segment_tree import (
    And,
    Arithmetic,
    ArithmeticOp,
    Between,
    BoundOp,
    Compare,
    CompareOp,
    Constant,
    Expression,
    InSet,
    IsMissing,
    Literal,
    Name,
    Not,
    Or,
    Value,
    names,
    walk,
)

__all__ = [
    "And",
    "Arithmetic",
    "Between",
    "Compare",
    "Expression",
    "InSet",
    "IsMissing",
    "Literal",
    "Name",
    "Not",
    "Or",
    "SegmentError",
    "Value",
    "names",
    "parse_segment",
    "walk",
]

MAX_NODES: Final = 2000
"""Parts of one expression, the named segments it uses included."""

_COMPARE: Final[Mapping[type[ast.cmpop], CompareOp]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_ARITHMETIC: Final[Mapping[type[ast.operator], ArithmeticOp]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_FLIPPED: Final[Mapping[str, BoundOp]] = {">": "<", ">=": "<="}


def parse_segment(
    text: str,
    *,
    known: Mapping[str, Kind],
    segments: Mapping[str, Expression] = MappingProxyType({}),
    values: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Expression:
    """The tree of `text`.

    `known` names the features and attributes with their kinds, `segments` the named segments that may be used as
    conditions, `values` the features whose texts form a closed list. Raises SegmentError with the column of the first
    mistake.
    """
    source = re.sub(r"\s", " ", text)
    start = len(source) - len(source.lstrip())
    check_characters(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's advice on style; our own errors say more
            tree = ast.parse(source[start:], mode="eval")
    except SyntaxError as error:
        column = min(start + error.offset, len(source) + 1) if error.offset else len(source) + 1
        raise SegmentError(f"cannot be read here: {ALLOWED}", column) from None
    except (RecursionError, MemoryError, ValueError):
        raise SegmentError("is nested too deeply", 1) from None
    parser = _Parser(source[start:], start, known, segments, values)
    expression = parser.condition(tree.body, 0)
    if sum(1 for _ in walk(expression)) > MAX_NODES:
        raise SegmentError(f"has more than {MAX_NODES} parts, its named segments included", 1)
    return expression


class _Parser:
    """Turns Python's tree into ours, refusing everything that is not on the list."""

    def __init__(
        self,
        source: str,
        start: int,
        known: Mapping[str, Kind],
        segments: Mapping[str, Expression],
        values: Mapping[str, Sequence[str]],
    ) -> None:
        self._source = source.encode()
        self._start = start
        self._known = known
        self._segments = segments
        self._values = values

    def condition(self, node: ast.expr, depth: int) -> Expression:
        """What is true or false of a customer."""
        self._check_depth(node, depth)
        match node:
            case ast.BoolOp(op=op, values=items):
                parts = tuple(self.condition(item, depth + 1) for item in items)
                return And(parts) if isinstance(op, ast.And) else Or(parts)
            case ast.UnaryOp(op=ast.Not(), operand=item):
                return Not(self.condition(item, depth + 1))
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.Name(id=name) if name in self._segments:
                return self._segments[name]
        value = self.value(node, depth)
        kind = self._kind(value)
        if kind != "boolean":
            hint = f"{_show(value)} >= 1" if kind == "number" else f"{_show(value)} == '...'"
            raise self._error(node, f"{_show(value)} is {_a(kind)}, not a condition; compare it, for example {hint}")
        return cast("Expression", value)

    def value(self, node: ast.expr, depth: int) -> Value:
        """What may be compared: a name, a constant or arithmetic of numbers."""
        self._check_depth(node, depth)
        match node:
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.Constant():
                return self._constant(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._negative(operand, depth)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return Arithmetic(_ARITHMETIC[type(op)], self._number(left, depth + 1), self._number(right, depth + 1))
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                raise self._error(node, "a condition stands where a value is wanted; join conditions with and, or, not")
            case _:
                raise self._error(
                    node, f"{_PYTHON_NAMES.get(type(node), 'this')} is not part of the segment language; {ALLOWED}"
                )

    def _name(self, node: ast.Name, name: str) -> Name:
        if name in self._known:
            return Name(name, self._known[name])
        if name in self._segments:
            raise self._error(node, f'"{name}" is a segment: a condition, not a value')
        candidates = [*self._known, *self._segments, "True", "False"]
        what = "feature or segment" if self._segments else "feature"
        raise self._error(node, f'unknown {what} "{name}"', nearest(name, candidates))

    def _constant(self, node: ast.Constant) -> Literal:
        match node.value:
            case bool(value):
                return Literal(value, "boolean")
            case int(value) | float(value):
                if not abs(value) <= 1e15:  # also refuses what is not a number at all
                    raise self._error(node, "this number is too big; at most 1e15 is read")
                return Literal(value, "number")
            case str(value):
                return Literal(value, "text")
            case None:
                raise self._error(node, "None is compared with is None or is not None only")
            case _:
                raise self._error(node, f"this constant is not part of the segment language; {ALLOWED}")

    def _negative(self, operand: ast.expr, depth: int) -> Value:
        inner = self._number(operand, depth + 1)
        match inner:
            case Literal(bool() | int() | float() as value):
                return Literal(-value, "number")
            case _:
                return Arithmetic("-", Literal(0, "number"), inner)

    def _number(self, node: ast.expr, depth: int) -> Value:
        value = self.value(node, depth)
        if (kind := self._kind(value)) != "number":
            raise self._error(
                node, f"{_show(value)} is {_a(kind)}; only numbers can be added, subtracted, multiplied or divided"
            )
        return value

    def _comparison(self, node: ast.Compare, depth: int) -> Expression:
        operands = [node.left, *node.comparators]
        if len(node.ops) == 1:
            match node.ops[0]:
                case ast.Is() | ast.IsNot() as op:
                    return self._missing(operands[0], operands[1], isinstance(op, ast.IsNot), depth)
                case ast.In() | ast.NotIn() as op:
                    return self._membership(operands[0], operands[1], isinstance(op, ast.NotIn), depth)
        for operand, sign in zip(operands, node.ops, strict=False):
            if type(sign) not in _COMPARE:
                raise self._error(operand, "in and is cannot be chained; join two conditions with and")
        values = [self.value(operand, depth + 1) for operand in operands]
        pairs = [
            self._pair(_COMPARE[type(op)], values[i], values[i + 1], operands[i + 1]) for i, op in enumerate(node.ops)
        ]
        return _between(pairs) if len(pairs) > 1 else pairs[0]

    def _pair(self, op: CompareOp, left: Value, right: Value, node: ast.expr) -> Compare:
        left, right = self._as_instants(left, right, node)
        kinds = self._kind(left), self._kind(right)
        if isinstance(left, Literal) and isinstance(right, Literal):
            raise self._error(
                node, f"{_show(left)} {op} {_show(right)} compares two constants; one side must be a feature"
            )
        if kinds[0] != kinds[1]:
            raise self._error(
                node, f"{_show(left)} is {_a(kinds[0])} but {_show(right)} is {_a(kinds[1])}; compare like with like"
            )
        if kinds[0] in ("text", "boolean") and op not in ("==", "!="):
            raise self._error(node, f"{_a(kinds[0])} has no order: use == or != instead of {op}")
        for one, other in ((left, right), (right, left)):
            if isinstance(other, Literal):
                self._check_listed(one, other.value, node)
        return Compare(op, left, right)

    def _as_instants(self, left: Value, right: Value, node: ast.expr) -> tuple[Value, Value]:
        """Texts beside an instant are dates: '2026-03-01' or '2026-03-01T09:00+01:00' (UTC where no offset stands)."""
        match left, right:
            case Name(kind="instant"), Literal(str(text)):
                return left, Literal(self._instant(text, node), "instant")
            case Literal(str(text)), Name(kind="instant"):
                return Literal(self._instant(text, node), "instant"), right
            case _:
                return left, right

    def _instant(self, text: str, node: ast.expr) -> datetime:
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            raise self._error(node, f"'{text}' is not a date; write '2026-03-01' or '2026-03-01T09:00+01:00'") from None
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)

    def _missing(self, left: ast.expr, right: ast.expr, negated: bool, depth: int) -> IsMissing:
        if not (isinstance(right, ast.Constant) and right.value is None):
            raise self._error(right, "is asks for a missing value only: is None or is not None", "==")
        value = self.value(left, depth + 1)
        if isinstance(value, Literal):
            raise self._error(left, f"{_show(value)} is a constant and never missing")
        return IsMissing(value, negated)

    def _membership(self, left: ast.expr, right: ast.expr, negated: bool, depth: int) -> InSet:
        value = self.value(left, depth + 1)
        kind = self._kind(value)
        if isinstance(value, Literal) or kind not in ("text", "number"):
            raise self._error(
                left, f"{_show(value)} cannot be looked up in a list; use a feature that is a text or a number"
            )
        if not isinstance(right, ast.Tuple | ast.List):
            raise self._error(right, "in wants a list of constants, such as ('GB', 'IE'); one alone is ('GB',)")
        if not 1 <= len(right.elts) <= MAX_CHOICES:
            raise self._error(right, f"the list holds {len(right.elts)} constants; 1 to {MAX_CHOICES} are possible")
        return InSet(value, tuple(self._choice(item, value, kind, depth) for item in right.elts), negated)

    def _choice(self, node: ast.expr, value: Value, kind: Kind, depth: int) -> Constant:
        choice = self.value(node, depth + 2)
        if not isinstance(choice, Literal):
            raise self._error(node, "the list holds constants only")
        if choice.kind != kind:
            raise self._error(node, f"{_show(choice)} is {_a(choice.kind)} but {_show(value)} is {_a(kind)}")
        self._check_listed(value, choice.value, node)
        return choice.value

    def _check_listed(self, value: Value, constant: Constant, node: ast.expr) -> None:
        if isinstance(value, Name) and value.name in self._values and constant not in self._values[value.name]:
            listed = self._values[value.name]
            message = f"{value.name} is never '{constant}'; it is one of {', '.join(listed)}"
            raise self._error(node, message, nearest(constant, listed))

    def _kind(self, value: Value) -> Kind:
        return "number" if isinstance(value, Arithmetic) else value.kind

    def _check_depth(self, node: ast.expr, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._error(node, f"is nested more than {MAX_DEPTH} levels deep")

    def _error(self, node: ast.expr, message: str, suggestion: str | None = None) -> SegmentError:
        characters = len(self._source[: node.col_offset].decode())  # Python counts UTF-8 bytes
        return SegmentError(message, self._start + characters + 1, suggestion)


_PYTHON_NAMES: Final[Mapping[type[ast.expr], str]] = {
    ast.Call: "a function call",
    ast.Attribute: "a dot",
    ast.Subscript: "an index",
    ast.Lambda: "lambda",
    ast.IfExp: "if ... else",
    ast.JoinedStr: "an f-text",
    ast.NamedExpr: ":=",
    ast.Starred: "*",
    ast.List: "a list outside in (...)",
    ast.Tuple: "a list outside in (...)",
    ast.BinOp: "this operator",
    ast.UnaryOp: "this sign",
}


def _between(pairs: Sequence[Compare]) -> Expression:
    """A chain of two bounds pointing the same way is a Between; any other chain is the And of its pairs."""
    if len(pairs) == 2:
        first, second = pairs
        if first.op in ("<", "<=") and second.op in ("<", "<="):
            return Between(first.left, first.op, first.right, second.op, second.right)
        if first.op in _FLIPPED and second.op in _FLIPPED:
            return Between(second.right, _FLIPPED[second.op], first.right, _FLIPPED[first.op], first.left)
    return And(tuple(pairs))


def _show(value: Value) -> str:
    match value:
        case Name(name):
            return name
        case Literal(constant):
            return repr(constant)
        case Arithmetic(op, left, right):
            return f"{_show(left)} {op} {_show(right)}"


def _a(kind: Kind) -> str:
    return "an instant" if kind == "instant" else f"a {kind}"
