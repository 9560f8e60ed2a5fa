"""What must fit together in the timing of a campaign, of its arms and of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from typing import Any, Final

from campaigns.problems import Location
from campaigns.timing import Window
from campaigns.timing_terms import BEST_HOUR, Timing
from campaigns.units import parse_clock_time
from campaigns.validation import Issue

_ANY_DAY: Final = frozenset(range(7))
_MONDAY: Final = date(2026, 3, 2)


def check_timing(raw: Mapping[str, Any]) -> Iterator[Issue]:
    """Every issue between the timing keys of one campaign file; each level inherits from the one above."""
    for location, own, whole in _levels(raw):
        yield from _check_at(location, own, whole)
        yield from _check_spread(location, own, whole)


def _levels(raw: Mapping[str, Any]) -> Iterator[tuple[Location, Mapping[str, Any], Mapping[str, Any]]]:
    """Each timing of the file: where it stands, what it says itself, and what holds there in all."""
    campaign = _mapping(raw.get("timing"))
    yield ("timing",), campaign, campaign
    for name, arm in _mapping(raw.get("arms")).items():
        of_arm = _mapping(_mapping(arm).get("timing"))
        yield ("arms", name, "timing"), of_arm, {**campaign, **of_arm}
        steps = _mapping(arm).get("steps")
        for i, step in enumerate(steps if isinstance(steps, list) else []):
            own = _mapping(_mapping(step).get("timing"))
            yield ("arms", name, "steps", i, "timing"), own, {**campaign, **of_arm, **own}


def _check_at(location: Location, own: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[Issue]:
    at, window = _clock(whole.get("at")), _window(whole.get("window"))
    if at is not None and window is not None and not window.holds(datetime.combine(_MONDAY, at)):
        message = (
            f'at "{at:%H:%M}" lies outside the window from {window.opens:%H:%M} to {window.closes:%H:%M}: '
            "move one of them"
        )
        if "at" in own or "window" in own:
            yield Issue((*location, "at" if "at" in own else "window"), message)
    if "explore" in own and whole.get("at") != BEST_HOUR:
        yield Issue((*location, "explore"), "has a meaning only with at: best_hour; remove it", at_key=True)


def _check_spread(location: Location, own: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[Issue]:
    if whole.get("spread") == "even" and whole.get("at") is not None and ("spread" in own or "at" in own):
        message = "even spreads messages over the window, and at puts them at one moment of it: remove one of them"
        yield Issue((*location, "spread" if "spread" in own else "at"), message)


def _window(value: object) -> Window | None:
    """The window's hours on any day; without one the default; None where it does not parse."""
    if value is None:
        default = Timing().window
        return Window(_ANY_DAY, default.opens, default.closes)
    hours = _mapping(value)
    opens, closes = _clock(hours.get("from")), _clock(hours.get("to"))
    return Window(_ANY_DAY, opens, closes) if opens is not None and closes is not None else None


def _clock(value: object) -> time | None:
    try:
        return parse_clock_time(value)
    except ValueError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
