"""What makes a journey: the moment that begins it, what leaves a message out, and messages that come again."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from campaigns.units import Duration, PositiveDuration, show
from campaigns.words import Part

Signal = Literal["purchased", "redeemed", "visited", "opened", "clicked", "replied"]
"""What a customer may do after the assignment. The first three are found in the facts, the others in receipts."""

SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)
FROM_FACTS: Final[frozenset[str]] = frozenset({"purchased", "redeemed", "visited"})
FIRST_PURCHASE: Final = "first_purchase"
BIRTHDAY: Final = "birthday"

_EVENT: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"
_EVERYBODY_WHO_LEFT: Final = (
    '"unsubscribed" needs no condition: whoever unsubscribed gets nothing more on that channel anyway; leave it out'
)


def _parse_conditions(value: object) -> tuple[str, ...]:
    """One condition, or a list of them, each a text on one line."""
    items = value if isinstance(value, list | tuple) else [value]
    texts = [_parse_condition(item) for item in items]
    for text in texts:
        if texts.count(text) > 1:
            raise ValueError(f"{show(text)} is named twice")
    return tuple(texts)


def _parse_condition(item: object) -> str:
    if not isinstance(item, str) or not item.strip():
        raise ValueError(f"expected {', '.join(SIGNALS)} or a condition over the features, got {show(item)}")
    text = item.replace("\n", " ").strip()
    if text == "unsubscribed":
        raise ValueError(_EVERYBODY_WHO_LEFT)
    return text


def _parse_event(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(_EVENT, value, re.ASCII):
        raise ValueError(
            f"expected {FIRST_PURCHASE}, {BIRTHDAY}, or the name of an event of the facts such as complaint_resolved, "
            f"got {show(value)}"
        )
    return value


_CONDITION_SCHEMA: Final = {
    "type": "string",
    "minLength": 1,
    "examples": [*SIGNALS, "open_complaint", "recency_days < 7"],
}
Conditions = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_conditions),
    WithJsonSchema({"anyOf": [_CONDITION_SCHEMA, {"type": "array", "items": _CONDITION_SCHEMA, "minItems": 1}]}),
]
"""Any of them being true is enough."""
EventName = Annotated[
    str,
    BeforeValidator(_parse_event),
    WithJsonSchema(
        {"type": "string", "pattern": _EVENT, "examples": [FIRST_PURCHASE, BIRTHDAY, "complaint_resolved", "nps"]}
    ),
]


class Repeat(Part):
    """How often a message comes again, and what ends it."""

    every: PositiveDuration
    """How long after one message the next may leave."""
    at_most: int = Field(ge=2, le=50)
    """How many messages there are in all, the first one included. The plan and the budget count them all."""
    until: Conditions = Field(min_length=1)
    """What ends it for good: a signal (purchased, clicked, ...), a named segment or an expression; or a list, any."""


class Trigger(Part):
    """The moment in a customer's life at which the campaign begins for that customer."""

    event: EventName
    """first_purchase, birthday, or any event of the facts such as complaint_resolved; of several the last counts."""
    after: Duration = timedelta(0)
    """How long after the event the moment is."""
    before: Duration = timedelta(0)
    """How long before the birthday the moment is, in whole days."""
    look_back: PositiveDuration = timedelta(days=2)
    """Events may reach the facts so late and are still taken in; the first run goes back so far."""
