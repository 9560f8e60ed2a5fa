"""The filters a template may use: Jinja's harmless ones, and bounded versions of those that can grow or hang."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from jinja2 import Environment, Undefined, pass_environment, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as ALL_FILTERS
from jinja2.filters import do_indent, do_join, do_replace, do_round, make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.tests import TESTS as ALL_TESTS
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from channels.budget import WorkLimitError, spend, spend_for, spend_on

_OF_TEXT: Final = (
    "capitalize",
    "e",
    "escape",
    "lower",
    "string",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "urlencode",
    "wordcount",
)
_OF_VALUES: Final = (
    "abs",
    "count",
    "dictsort",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "sort",
    "unique",
)
_CONVERSION: Final = re.compile(r"%[-+ 0#]*\d{0,3}(?:\.\d{1,2})?[sdif%]")
_MAX_WIDTH: Final = 1_000


def join_pieces(pieces: Sequence[Any]) -> str:
    """`a ~ b ~ c`, charged; as soon as one piece is safe markup the others are escaped."""
    texts = [piece if isinstance(piece, str) else str(_scalar(piece)) for piece in pieces]
    spend(sum(map(len, texts)))
    if any(hasattr(text, "__html__") for text in texts):
        return Markup("").join(escape(text) for text in texts)
    return "".join(texts)


def reject_nested(literal: Any) -> Any:
    """The list, tuple or dict itself, unless it holds another one: nesting grows exponentially."""
    spend_for(literal)
    values, kinds = (literal.values(), (list, tuple, dict)) if isinstance(literal, dict) else (literal, (list, tuple))
    if any(isinstance(value, kinds) for value in values):
        raise SecurityError("lists inside lists are not available in templates")
    return literal


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """The value, or `default_value` where it is unknown or missing (None); with `boolean`, also where it is empty."""
    if isinstance(value, Undefined) or value is None or (boolean and not value):
        return default_value
    return value


def _center(value: Any, width: int = 80) -> str:
    return str(_scalar(value)).center(_width(width))


def _indent(value: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
    spend(str(value).count("\n") * _width(width))
    return do_indent(value, _width(width), first, blank)


@pass_eval_context
def _replace(context: EvalContext, value: str, old: str, new: str, count: int | None = None) -> str:
    text = str(_scalar(value))
    found = text.count(str(old))
    spend(found * len(str(new)))
    return do_replace(
        context, value if isinstance(value, Markup) else text, old, new, found if count is None else count
    )


@pass_eval_context
def _join(context: EvalContext, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    items: list[Any] = []
    for item in value:
        spend(len(d) + (len(item) if isinstance(item, str) else 32))
        items.append(item if attribute is not None else _scalar(item))
    joined: str = do_join(context, items, d, attribute)
    return joined


def _format(value: str, *args: Any) -> str:
    """`'%.2f'|format(x)`: s, d, i and f with widths of up to three digits."""
    text = str(_scalar(value))
    if "%" in _CONVERSION.sub("", text):
        raise SecurityError("format knows %s, %d, %i, %f and %%, with a width of up to three digits")
    spend(len(text) + sum(len(str(_scalar(arg))) for arg in args))
    return text % args


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > 12:
        raise WorkLimitError("round takes at most 12 digits")
    return do_round(value, precision, method)


@pass_environment
def _sum(environment: Environment, value: Iterable[Any], attribute: str | int | None = None) -> Any:
    """The sum of numbers, or of one field of each item."""
    total: Any = 0
    for item in value if attribute is None else map(make_attrgetter(environment, attribute), value):
        if not isinstance(item, (int, float, Decimal)):
            raise SecurityError("sum adds numbers")
        spend()
        total += item
    return total


def _tojson(value: Any) -> Markup:
    """The value as JSON, safe inside HTML too."""
    for item in value if isinstance(value, (list, tuple)) else (value,):
        spend(len(str(item)))
    return htmlsafe_json_dumps(value, dumps=functools.partial(json.dumps, ensure_ascii=False, allow_nan=False))


def weighed(value: Any) -> Any:
    """The value itself, charged: it is about to be compared, or looked through."""
    spend_on(value)
    return value


def _metered(function: Callable[..., Any], *, of_text: bool = False) -> Callable[..., Any]:
    """The filter or test with its arguments and its result charged; with `of_text` it refuses lists and mappings."""

    @functools.wraps(function)  # keeps Jinja's marks on what to pass
    def metered(*args: Any, **kwargs: Any) -> Any:
        if of_text:
            for arg in (arg for arg in args if isinstance(arg, (list, tuple, dict))):
                _scalar(arg)
        spend_on(*args, *kwargs.values())
        result = function(*args, **kwargs)
        spend_for(result)
        return result

    return metered


def _scalar(value: Any) -> Any:
    if isinstance(value, (list, tuple, dict)):
        raise SecurityError(f"a {type(value).__name__} is no text; print its items, or use join")
    if value is None:
        raise SecurityError("a value is missing here; give it a default, e.g. |default('there')")
    return value


def _width(width: int) -> int:
    if not 0 <= width <= _MAX_WIDTH:
        raise WorkLimitError(f"a width is at most {_MAX_WIDTH:,}")
    return width


_OWN: Final[Mapping[str, Callable[..., Any]]] = {
    "center": _center,
    "d": _default,
    "default": _default,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "sum": _sum,
    "tojson": _tojson,
}

FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name: _metered(ALL_FILTERS[name], of_text=True) for name in _OF_TEXT},
    **{name: _metered(ALL_FILTERS[name]) for name in _OF_VALUES},
    **{name: _metered(function) for name, function in _OWN.items()},
}

_ALL_TESTS: Final[Mapping[str, Any]] = ALL_TESTS
TESTS: Final[Mapping[str, Callable[..., Any]]] = {name: _metered(test) for name, test in _ALL_TESTS.items()}
