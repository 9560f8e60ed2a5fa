"""The small words of a campaign file: names, days, zones, cron lines; each parsed once, with its JSON schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from campaigns.nearest import did_you_mean
from campaigns.units import show
from experiments.metrics import METRICS

Channel = Literal["sms", "email", "push"]
Status = Literal["draft", "active", "paused", "archived"]
IfLate = Literal["skip", "next_window", "send"]
CapScope = Literal["all", "sms", "email", "push", "topic"]

DEFAULT_TOPIC: Final = "marketing"
"""What a campaign is about that does not say."""
EVERY_TOPIC: Final = "all"
"""Stands for all topics in a consent or an opt-out; no campaign may be about it."""
CONTROL: Final = "control"
"""The name of the arm that gets nothing."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Part(BaseModel):
    """A mapping of the file: no unknown keys, no guessed types, unchangeable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)


def as_tuple(value: object) -> tuple[object, ...]:
    """A list of the file as a tuple."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list, got {show(value)}")
    return tuple(value)


def _parse_slug(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", value) or len(value) > 64:
        raise ValueError(
            f"expected lower-case letters, digits and single dashes such as winback-90d, got {show(value)}"
        )
    return value


def _parse_topic(value: object) -> str:
    if value == EVERY_TOPIC:
        raise ValueError(f'expected one topic such as {DEFAULT_TOPIC}; "{EVERY_TOPIC}" stands for every topic at once')
    return _parse_slug(value)


def _parse_template(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", value):
        raise ValueError(
            f"expected the name of a template without its ending, such as winback_reminder, got {show(value)}"
        )
    return value


def _parse_cron(value: object) -> str:
    hint = 'expected five cron fields such as "0 9 * * 1" (minute, hour, day, month, weekday)'
    if not isinstance(value, str) or len(value.split()) != 5:
        raise ValueError(f"{hint}, got {show(value)}")
    try:
        next(CronSim(value, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"{hint}, got {show(value)}: {error}") from None
    except StopIteration:
        raise ValueError(f"{show(value)} never comes; {hint}") from None
    return value


def _parse_time_zone(value: object) -> str:
    try:
        return ZoneInfo(str(value)).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        meant = did_you_mean(value, available_timezones())
        raise ValueError(f"expected a time zone such as Europe/London, got {show(value)}{meant}") from None


def _parse_days(value: object) -> frozenset[int]:
    names = as_tuple(value)
    for name in names:
        if name not in DAYS:
            raise ValueError(f"expected days from {', '.join(DAYS)}, got {show(name)}{did_you_mean(name, DAYS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError("expected at least one day, each named once")
    return frozenset(DAYS.index(str(name)) for name in names)


def for_all(value: object) -> object:
    """One value stands for all channels together; a mapping says it per channel."""
    return value if isinstance(value, Mapping) else {"all": value}


def one_or_more(value: object) -> object:
    """One value stands for a list of itself."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def either(pattern: str, *examples: object, several: bool = False) -> WithJsonSchema:
    one: dict[str, object] = {"type": "string", "pattern": pattern}
    if several:
        one = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    by_scope = {
        "type": "object",
        "properties": dict.fromkeys(get_args(CapScope), one),
        "additionalProperties": False,
        "minProperties": 1,
    }
    return WithJsonSchema({"anyOf": [one, by_scope], "examples": list(examples)})


Slug = Annotated[
    str,
    BeforeValidator(_parse_slug),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 64}),
]
Topic = Annotated[
    str,
    BeforeValidator(_parse_topic),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "not": {"const": "all"}}),
]
TemplateName = Annotated[
    str, BeforeValidator(_parse_template), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9_]*$"})
]
MetricName = Annotated[
    str,
    WithJsonSchema({"type": "string", "enum": [name for name in sorted(METRICS) if METRICS[name].kind != "survival"]}),
]
"""Checked by `campaigns.checks`, which knows what each metric can be used for."""
ReportedMetric = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(METRICS)})]
"""A metric that is shown: survival among them. Checked like the others."""
FeatureName = Annotated[str, WithJsonSchema({"type": "string", "examples": ["tier", "value_tier", "churn_risk"]})]
"""Checked by `campaigns.checks` against the catalogue and the company's own columns."""
Cron = Annotated[
    str, BeforeValidator(_parse_cron), WithJsonSchema({"type": "string", "examples": ["0 9 * * 1", "30 8 * * *"]})
]
TimeZone = Annotated[
    str, BeforeValidator(_parse_time_zone), WithJsonSchema({"type": "string", "examples": ["Europe/London"]})
]
Days = Annotated[
    frozenset[int],
    BeforeValidator(_parse_days),
    WithJsonSchema({"type": "array", "items": {"enum": list(DAYS)}, "minItems": 1, "uniqueItems": True}),
]
