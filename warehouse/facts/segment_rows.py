"""Segments evaluated on rows in Python, for features that the engine cannot compute; the same logic as in SQL."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from campaigns.segment_tree import (
    And,
    Arithmetic,
    Between,
    Compare,
    Expression,
    InSet,
    IsMissing,
    Literal,
    Name,
    Not,
    Or,
    Value,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Truth = NDArray[np.bool_]

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def rows_of_segment(expression: Expression, frame: pd.DataFrame) -> Truth:
    """For each row of a frame of features whether the expression is true of it."""
    match expression:
        case And(items):
            return _all([rows_of_segment(item, frame) for item in items])
        case Or(items):
            return ~_all([~rows_of_segment(item, frame) for item in items])
        case Not(item):
            return ~rows_of_segment(item, frame)
        case Literal(value):
            return np.full(len(frame), bool(value))
        case Compare(op, left, right):
            return _compare(op, left, right, frame)
        case Between(low, low_op, value, high_op, high):
            return _compare(low_op, low, value, frame) & _compare(high_op, value, high, frame)
        case InSet(value, choices, negated):
            values, known = _values(value, frame)
            listed = np.isin(values, [_plain(choice) for choice in choices])
            return known & (~listed if negated else listed)
        case IsMissing(value, negated):
            known = _values(value, frame)[1]
            return known if negated else ~known
        case Name():
            return _compare("==", expression, Literal(True, "boolean"), frame)


def _all(conditions: list[Truth]) -> Truth:
    found = conditions[0]
    for condition in conditions[1:]:
        found = found & condition
    return found


def _compare(op: str, left: Value, right: Value, frame: pd.DataFrame) -> Truth:
    a, a_known = _values(left, frame)
    b, b_known = _values(right, frame)
    found: Truth = np.asarray(_OPERATORS[op](a, b), dtype=bool)
    return a_known & b_known & found


def _values(node: Value, frame: pd.DataFrame) -> tuple[NDArray[Any], Truth]:
    """The values and which of them are known; unknown ones hold something comparable."""
    match node:
        case Name(name):
            return _column(frame[name])
        case Literal(value):
            return np.full(len(frame), _plain(value)), np.ones(len(frame), dtype=bool)
        case Arithmetic(op, left, right):
            a, a_known = _values(left, frame)
            b, b_known = _values(right, frame)
            known = a_known & b_known & ((b != 0) if op == "/" else True)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                return _ARITHMETIC[op](a, b), known


def _column(values: pd.Series[Any]) -> tuple[NDArray[Any], Truth]:
    known = values.notna().to_numpy()
    if pd.api.types.is_bool_dtype(values.dtype):
        return values.astype("float64").fillna(0.0).to_numpy() if not known.all() else values.to_numpy(
            dtype=np.float64
        ), known
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]"), known
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values.to_numpy(dtype=np.float64), known
    return values.fillna("").to_numpy(dtype=str), known


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, datetime):
        return np.datetime64(value.replace(tzinfo=None), "us")
    return float(value) if isinstance(value, int) else value
