"""From a file's plain values to a model: every mistake at once, in words, at the place where it stands."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from campaigns.nearest import did_you_mean, nearest
from campaigns.problems import Location
from campaigns.units import show

_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "model_type": "a mapping of keys and values",
    "model_attributes_type": "a mapping of keys and values",
    "dict_type": "a mapping of keys and values",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "a text that is not empty",
    "string_too_long": "a text of at most {max_length} characters",
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One mistake at a location of the plain values; `at_key` where the key itself is the mistake."""

    location: Location
    message: str
    at_key: bool = False


def validate(kind: Any, raw: object) -> tuple[Any, list[Issue]]:
    """The value of type `kind` that `raw` describes (None if there are issues), and every issue, in no order."""
    try:
        return TypeAdapter(kind).validate_python(raw), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    return None, list(dict.fromkeys(_issue(detail, raw, kind) for detail in _telling(details, kind)))


def _telling(details: Sequence[ErrorDetails], kind: Any) -> Iterable[ErrorDetails]:
    """Without the consequences of other mistakes: a key missing because it is misspelt, a list short of bad items."""
    misspelt = set()
    for detail in details:
        if detail["type"] == "extra_forbidden":
            *parent, key = detail["loc"]
            misspelt.add((*parent, nearest(key, _keys_at(kind, parent))))
    for detail in details:
        location = detail["loc"]
        if detail["type"] == "missing" and location in misspelt:
            continue
        if detail["type"] == "too_short" and any(
            other["loc"][: len(location)] == location and other is not detail for other in details
        ):
            continue
        yield detail


def _issue(detail: ErrorDetails, raw: object, kind: Any) -> Issue:
    location, problem = detail["loc"], detail["type"]
    got = f", got {show(detail['input'])}"
    if location and location[-1] == "[key]":
        *_, key, _ = location
        return Issue(_real(location[:-1], raw), _of_key(detail, key), at_key=True)
    match problem:
        case "extra_forbidden":
            *parent, key = location
            message = f"unknown key{did_you_mean(key, _keys_at(kind, parent))}"
            return Issue(_real(location, raw), message, at_key=True)
        case "missing":
            return Issue(_real(location, raw)[:-1], f'the key "{location[-1]}" is missing', at_key=True)
        case "union_tag_not_found":
            key = detail["ctx"]["discriminator"].strip("'")
            return Issue(_real(location, raw), f'the key "{key}" is missing', at_key=True)
        case "union_tag_invalid":
            key = detail["ctx"]["discriminator"].strip("'")
            choices = _choices(detail["ctx"]["expected_tags"])
            return Issue((*_real(location, raw), key), _one_of(choices, detail["ctx"]["tag"]))
        case "literal_error":
            return Issue(_real(location, raw), _one_of(_choices(detail["ctx"]["expected"]), detail["input"]))
        case "value_error":
            return Issue(_real(location, raw), str(detail["ctx"]["error"]))
    expected = _EXPECTED.get(problem)
    message = f"expected {expected.format(**detail.get('ctx', {}))}{got}" if expected else detail["msg"]
    return Issue(_real(location, raw), message)


def _of_key(detail: ErrorDetails, key: object) -> str:
    if detail["type"] == "literal_error":
        choices = _choices(detail["ctx"]["expected"])
        return f"unknown key{did_you_mean(key, choices)}; expected {', '.join(choices)}"
    return str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"]


def _choices(listed: str) -> list[str]:
    return re.findall(r"'([^']*)'", listed)


def _one_of(choices: Sequence[str], got: object) -> str:
    meant = did_you_mean(got, choices) if isinstance(got, str) else ""
    return f"expected {_or(choices)}, got {show(got)}{meant}"


def _or(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _real(location: Sequence[str | int], raw: object) -> Location:
    """The location without the names of union members that pydantic puts between."""
    real: list[str | int] = []
    node, is_new = raw, True
    for i, part in enumerate(location):
        if is_new and i + 1 < len(location) and isinstance(node, Mapping) and node.get("kind") == part:
            is_new = False
            continue  # the member's name, even where the member has a key of the same name (kind: pool, pool: NAME)
        is_new = True
        match node:
            case Mapping() if part in node:
                node = node[part]
            case list() if isinstance(part, int):
                node = node[part]
            case _ if i + 1 < len(location) or (isinstance(part, int) and not isinstance(node, list)):
                continue  # an index into a list that the file does not have: one value stands for it
        real.append(part)
    return tuple(real)


def _keys_at(kind: Any, location: Sequence[str | int]) -> list[str]:
    """The keys a mapping at `location` of a value of type `kind` may have."""
    kinds = _alternatives(kind)
    for part in location:
        kinds = [inner for one in kinds for inner in _inside(one, part)]
    return [field.alias or name for one in kinds if _is_model(one) for name, field in one.model_fields.items()]


def _alternatives(kind: Any) -> list[Any]:
    """The plain types an annotation stands for: without Annotated, each member of a union."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return [inner for member in typing.get_args(kind) for inner in _alternatives(member)]
    return [kind]


def _inside(kind: Any, part: str | int) -> list[Any]:
    if _is_model(kind):
        for name, field in kind.model_fields.items():
            if part == (field.alias or name):
                return _alternatives(field.annotation)
        tag = kind.model_fields.get("kind")
        return [kind] if tag is not None and part in typing.get_args(tag.annotation) else []
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case builtin if builtin is dict:
            return _alternatives(arguments[1])
        case builtin if builtin is tuple:
            return _alternatives(arguments[0])
    return []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
