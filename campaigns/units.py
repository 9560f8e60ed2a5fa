"""The quantities a campaign file writes as text: shares, differences, durations, money, clock times, caps.

Each has a parser from text (ValueError says what was expected) and an annotated type for the model, which carries the
same rule to the JSON schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, WithJsonSchema

_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_SHARE: Final = rf"^({_NUMBER}) ?%$"
_DIFFERENCE: Final = rf"^(-?{_NUMBER}) ?(pp|%|[A-Z]{{3}})?$"
DURATION_PATTERN: Final = rf"^({_NUMBER}) (minute|hour|day|week)s?$"
_MONEY: Final = rf"^({_NUMBER}) ([A-Z]{{3}})$"
_CLOCK: Final = r"^([01][0-9]|2[0-3]):([0-5][0-9])$"
CAP_PATTERN: Final = rf"^([1-9][0-9]{{0,5}}) per (day|week|{_NUMBER} (?:minute|hour|day|week)s?)$"

_SECONDS: Final[Mapping[str, int]] = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
LONGEST: Final = timedelta(days=3650)
"""The longest duration a file may name."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better or worse: `absolute` in the metric's unit (0.015 for "1.5pp"), or `relative` to control's value.

    `unit` is "pp", "%", a currency, or "" for a plain number such as orders per customer.
    """

    value: float
    kind: Literal["absolute", "relative"]
    unit: str

    def __str__(self) -> str:
        shown = self.value * 100 if self.unit in ("pp", "%") else self.value
        return f"{shown:.10g}{' ' if self.unit not in ('pp', '%', '') else ''}{self.unit}"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in major units of a currency (ISO 4217 code)."""

    amount: Decimal
    currency: str

    def __bool__(self) -> bool:
        return bool(self.amount)

    def __mul__(self, factor: Decimal | int) -> Money:
        return Money(self.amount * factor, self.currency)

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} {self.currency}"


@dataclass(frozen=True, slots=True)
class FrequencyCap:
    """At most `messages` within any rolling window of length `within`, or in a calendar day or week of the customer."""

    messages: int
    within: timedelta
    period: Literal["day", "week"] | None = None


def parse_share(value: object) -> float:
    """ "20%" as 0.2. Raises ValueError unless it is a text of 0 to 100 with a percent sign."""
    match = _match(_SHARE, value, 'a share in quotes or plain such as 20%, "7.5%"')
    share = Decimal(match[1]) / 100
    if share > 1:
        raise ValueError(f"expected a share of at most 100%, got {value}")
    return float(share)


def parse_difference(value: object) -> Difference:
    """ "1.5pp" (percentage points), "10%" (of control's value), "0.50 EUR" or 0.05 (in the metric's unit)."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return Difference(float(value), "absolute", "")
    match = _match(_DIFFERENCE, value, "a difference such as 1.5pp, 10%, 0.50 EUR or 0.05")
    unit = match[2] or ""
    number = Decimal(match[1])
    if unit in ("pp", "%"):
        return Difference(float(number / 100), "relative" if unit == "%" else "absolute", unit)
    return Difference(float(number), "absolute", unit)


def parse_duration(value: object) -> timedelta:
    """ "30 days", "20 hours", "1.5 weeks", "90 minutes". Months and years differ in length and are refused."""
    if isinstance(value, str) and re.search(r"\b(month|quarter|year)s?$", value):
        raise ValueError(f'expected a duration in days, because months differ in length: "90 days", got "{value}"')
    match = _match(DURATION_PATTERN, value, "a duration such as 30 days, 20 hours, 2 weeks or 90 minutes")
    duration = timedelta(seconds=float(Decimal(match[1]) * _SECONDS[match[2]]))
    if duration > LONGEST:
        raise ValueError(f'expected a duration of at most {LONGEST.days} days, got "{value}"')
    return duration


def parse_money(value: object) -> Money:
    """ "10 EUR" or "2500.50 EUR". Raises ValueError on symbols, thousands separators and negative amounts."""
    match = _match(_MONEY, value, "an amount with its currency such as 10 EUR (no symbol, no thousands separator)")
    return Money(Decimal(match[1]), match[2])


def parse_clock_time(value: object) -> time:
    """ "09:30" as a time of day. Raises ValueError on anything but HH:MM from 00:00 to 23:59."""
    match = _match(_CLOCK, value, 'a clock time from "00:00" to "23:59", two digits each')
    return time(int(match[1]), int(match[2]))


def parse_cap(value: object) -> FrequencyCap:
    """ "2 per 7 days": at most 2 within any 7 days. "1 per day", "3 per week": in a calendar day or week."""
    match = _match(CAP_PATTERN, value, 'a cap such as "2 per 7 days" (any 7 days) or "1 per day" (a calendar day)')
    if match[2] in ("day", "week"):
        return FrequencyCap(int(match[1]), timedelta(days=1 if match[2] == "day" else 7), _period(match[2]))
    within = parse_duration(match[2])
    if not within:
        raise ValueError(f'expected a cap over a longer time than none, such as "2 per 7 days", got "{value}"')
    return FrequencyCap(int(match[1]), within)


def _period(word: str) -> Literal["day", "week"]:
    return "day" if word == "day" else "week"


def _match(pattern: str, value: object, expected: str) -> re.Match[str]:
    match = re.match(pattern, value, re.ASCII) if isinstance(value, str) else None
    if match is None or match.end() != len(str(value)):
        raise ValueError(f"expected {expected}, got {show(value)}")
    return match


def show(value: object) -> str:
    """A value as the file's author would recognise it, shortened."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return str(value)


def above_zero(parse: Callable[[object], Any], what: str) -> Callable[[object], Any]:
    """The same parser, which refuses nothing at all (0%, 0 days)."""

    def parse_above_zero(value: object) -> Any:
        parsed = parse(value)
        if not parsed:
            raise ValueError(f"expected {what} above 0, got {show(value)}")
        return parsed

    return parse_above_zero


def _text(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


_DURATION_SCHEMA: Final = _text(DURATION_PATTERN, "30 days", "20 hours", "90 minutes")

Share = Annotated[float, BeforeValidator(parse_share), _text(_SHARE, "20%", "7.5%")]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), _DURATION_SCHEMA]
PositiveDuration = Annotated[timedelta, BeforeValidator(above_zero(parse_duration, "a duration")), _DURATION_SCHEMA]
AMOUNT_SCHEMA: Final = _text(_MONEY, "10 EUR", "2500 EUR")
Amount = Annotated[Money, BeforeValidator(parse_money), AMOUNT_SCHEMA]
ClockTime = Annotated[time, BeforeValidator(parse_clock_time), _text(_CLOCK, "10:00", "19:00")]
Cap = Annotated[FrequencyCap, BeforeValidator(parse_cap), _text(CAP_PATTERN, "2 per 7 days", "1 per day")]
Effect = Annotated[
    Difference,
    BeforeValidator(parse_difference),
    WithJsonSchema({"type": ["string", "number"], "pattern": _DIFFERENCE, "examples": ["1.5pp", "10%", "0.50 EUR"]}),
]
