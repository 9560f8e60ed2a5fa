"""What must fit together in a journey: its trigger, its conditions, its fallbacks and what comes again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from campaigns.journey_terms import BIRTHDAY
from campaigns.problems import Location
from campaigns.units import parse_duration, show
from campaigns.validation import Issue

_NEEDS_CHANNEL: Final[Mapping[str, tuple[str, ...]]] = {"opened": ("email",), "replied": ("sms",)}
"""Signals that only one channel has; any channel has links to click."""
_NEEDS_MESSAGE: Final = frozenset({"opened", "clicked", "replied"})
_LONGEST_BEFORE: Final = timedelta(days=180)


def check_journeys(raw: Mapping[str, Any]) -> Iterator[Issue]:
    """Every issue of the trigger and of the steps of one campaign file, read from its plain values."""
    audience = _mapping(raw.get("audience"))
    yield from _check_audience(audience, is_given="audience" in raw)
    for name, arm in _mapping(raw.get("arms")).items():
        listed = _mapping(arm).get("steps")
        steps: list[Any] = listed if isinstance(listed, list) else []
        for i, step in enumerate(steps):
            location: Location = ("arms", name, "steps", i)
            earlier = [_channels(_mapping(other)) for other in steps[:i]]
            yield from _check_step(_mapping(step), earlier, location, has_offer="offer" in _mapping(arm))


def conditions_of(raw: object) -> Iterator[tuple[Location, str]]:
    """Every condition that the steps of a file name, with its place; whatever is no text is left to the model."""
    for name, arm in _mapping(_mapping(raw).get("arms")).items():
        steps = _mapping(arm).get("steps")
        for i, step in enumerate(steps if isinstance(steps, list) else []):
            place: Location = ("arms", name, "steps", i)
            named = [
                *_each(_mapping(step).get("unless"), (*place, "unless")),
                *_each(_mapping(_mapping(step).get("repeat")).get("until"), (*place, "repeat", "until")),
            ]
            yield from ((where, text) for where, text in named if isinstance(text, str) and text.strip())


def _check_audience(audience: Mapping[str, Any], *, is_given: bool) -> Iterator[Issue]:
    if is_given and "segment" not in audience and "trigger" not in audience:
        message = 'whom is it for? name a segment ("segment: lapsing"), or a moment that brings customers in (trigger)'
        yield Issue(("audience",), message, at_key=True)
    trigger = _mapping(audience.get("trigger"))
    place = ("audience", "trigger", "before")
    if "before" in trigger and "after" in trigger:
        yield Issue(place, "give after or before, not both", at_key=True)
    elif "before" in trigger and trigger.get("event") != BIRTHDAY:
        message = f"nobody knows of {show(trigger.get('event'))} before it happens; only {BIRTHDAY} can have it"
        yield Issue(place, message, at_key=True)
    if trigger.get("event") == BIRTHDAY:
        for key in ("before", "after"):
            yield from _check_days(trigger.get(key), ("audience", "trigger", key))


def _check_days(value: object, location: Location) -> Iterator[Issue]:
    """A birthday is a day of the calendar: what counts from it are whole days, fewer than half a year."""
    length = _duration(value)
    if length is None:
        return
    if length % timedelta(days=1):
        yield Issue(location, f'a birthday is a day; expected whole days such as "3 days", got {show(value)}')
    elif length > _LONGEST_BEFORE:
        yield Issue(location, f"expected at most {_LONGEST_BEFORE.days} days, got {show(value)}")


def _check_step(
    step: Mapping[str, Any], earlier: Sequence[frozenset[str]], location: Location, *, has_offer: bool
) -> Iterator[Issue]:
    if "fallback_after" in step and not step.get("fallback"):
        message = "there is no channel to fall back to; name one: fallback: [email]"
        yield Issue((*location, "fallback_after"), message, at_key=True)
    repeat = _mapping(step.get("repeat"))
    for key, value, sent in (
        ("unless", step.get("unless"), list(earlier)),
        ("until", repeat.get("until"), [*earlier, _channels(step)]),
    ):
        place = (*location, key) if key == "unless" else (*location, "repeat", key)
        if key == "unless" and repeat:
            sent = [*sent, _channels(step)]
        for where, condition in _each(value, place):
            yield from _check_condition(condition, sent, where, has_offer=has_offer)


def _check_condition(
    condition: object, sent: Sequence[frozenset[str]], location: Location, *, has_offer: bool
) -> Iterator[Issue]:
    """A signal must be possible by then: something was sent that can be opened, clicked, answered or redeemed."""
    if condition == "redeemed" and not has_offer:
        yield Issue(location, "the arm makes no offer, so nothing can be redeemed")
    if not isinstance(condition, str) or condition not in _NEEDS_MESSAGE:
        return
    able = _NEEDS_CHANNEL.get(condition)
    if not sent:
        yield Issue(location, f"nothing has been sent before the first message, so nobody can have {condition}")
    elif able is not None and not any(channels & set(able) for channels in sent):
        yield Issue(location, f"no message before it goes by {' or '.join(able)}, so nobody can have {condition}")


def _each(value: object, location: Location) -> Iterator[tuple[Location, object]]:
    if isinstance(value, list):
        yield from (((*location, i), item) for i, item in enumerate(value))
    elif value is not None:
        yield location, value


def _channels(step: Mapping[str, Any]) -> frozenset[str]:
    fallback = step.get("fallback")
    names = [step.get("channel"), *(fallback if isinstance(fallback, list) else [])]
    return frozenset(name for name in names if isinstance(name, str))


def _duration(value: object) -> timedelta | None:
    try:
        return parse_duration(value)
    except ValueError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
