"""The tree of a parsed segment: frozen values, one class for each thing the language can say."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from campaigns.features import Kind

CompareOp = typing.Literal["==", "!=", "<", "<=", ">", ">="]
BoundOp = typing.Literal["<", "<="]
ArithmeticOp = typing.Literal["+", "-", "*", "/"]
Constant = bool | int | float | str | datetime


@dataclass(frozen=True, slots=True)
class Name:
    """A feature or attribute of the customer. A boolean one may stand where a condition is wanted (missing: false)."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; the value of kind instant is an aware UTC datetime."""

    value: Constant
    kind: Kind


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`left op right` of two numbers."""

    op: ArithmeticOp
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Compare:
    """`left op right` of two values of one kind; false when either is missing."""

    op: CompareOp
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Between:
    """`low low_op value high_op high`, ascending whichever way the text had it; false when any of them is missing."""

    low: Value
    low_op: BoundOp
    value: Value
    high_op: BoundOp
    high: Value


@dataclass(frozen=True, slots=True)
class InSet:
    """`value in choices`, or `not in` when negated; false when the value is missing, negated or not."""

    value: Value
    choices: tuple[Constant, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsMissing:
    """`value is None`, or `is not None` when negated."""

    value: Value
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """True exactly when the item is false."""

    item: Expression


@dataclass(frozen=True, slots=True)
class And:
    """True when all of two or more items are."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True when at least one of two or more items is."""

    items: tuple[Expression, ...]


Value = Name | Literal | Arithmetic
"""What has a value: may be compared."""
Expression = And | Or | Not | Compare | InSet | Between | IsMissing | Name | Literal
"""What is true or false of a customer (a Name or Literal here is of kind boolean)."""


def names(expression: Expression | Value) -> frozenset[str]:
    """The features and attributes an expression asks for."""
    return frozenset(node.name for node in walk(expression) if isinstance(node, Name))


def walk(node: Expression | Value) -> Iterator[Expression | Value]:
    """The node and everything below it, from left to right."""
    yield node
    for part in _parts(node):
        yield from walk(part)


def _parts(node: Expression | Value) -> tuple[Expression | Value, ...]:
    match node:
        case And(items) | Or(items):
            return items
        case Not(item):
            return (item,)
        case Compare(_, left, right) | Arithmetic(_, left, right):
            return (left, right)
        case Between(low, _, value, _, high):
            return (low, value, high)
        case InSet(value) | IsMissing(value):
            return (value,)
        case _:
            return ()
