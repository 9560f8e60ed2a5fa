"""The keys of timing: at, explore, spread, on_holidays; what does not fit together is refused at its place."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from campaigns.spread import Spread
from campaigns.timing_checks import check_timing
from campaigns.timing_terms import Timing, TimingChange

WINDOW = {"from": "10:00", "to": "19:00"}


def read(**raw: Any) -> Timing:
    return TypeAdapter(Timing).validate_python(raw)


def issues(timing: Any = None, *, arm: Any = None, step: Any = None) -> dict[tuple[str | int, ...], str]:
    raw = {"timing": timing, "arms": {"a": {"timing": arm, "steps": [{"timing": step}]}}}
    return {issue.location: issue.message for issue in check_timing(raw)}


def test_the_keys_mean_what_they_say() -> None:
    timing = read(at="10:30", spread="500 per hour", on_holidays="wait", window=WINDOW)
    assert (timing.at, timing.on_holidays) == (time(10, 30), "wait")
    assert timing.spread == Spread(timedelta(seconds=7.2))
    assert read(at="best_hour", explore="20%").explore == 0.2
    assert read(spread="even").spread == Spread(None)


def test_without_them_messages_leave_as_soon_as_the_window_opens_on_holidays_too() -> None:
    timing = read()
    assert (timing.at, timing.spread, timing.on_holidays, timing.explore) == (None, None, "send", 0.1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("at", "noon", 'expected best_hour or a clock time such as "10:30", got "noon"'),
        ("at", 1030, "expected best_hour or a clock time"),
        ("spread", "100 a day", 'expected "even" or a rate such as "500 per hour"'),
        ("on_holidays", "skip", "Input should be 'send' or 'wait'"),
        ("explore", "120%", "at most 100%"),
    ],
)
@pytest.mark.parametrize("kind", [Timing, TimingChange])
def test_other_values_are_refused(kind: Any, key: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        TypeAdapter(kind).validate_python({key: value})


def test_a_clock_time_outside_its_window_is_said_where_it_stands() -> None:
    assert issues({"at": "09:59", "window": WINDOW}) == {
        ("timing", "at"): 'at "09:59" lies outside the window from 10:00 to 19:00: move one of them'
    }
    assert issues({"at": "10:00", "window": WINDOW}) == issues({"at": "09:00"}) == {}
    assert list(issues({"at": "20:00"})) == [("timing", "at")]  # the default window ends at 20:00
    assert list(issues({"at": "12:00", "window": WINDOW}, arm={"window": {"from": "13:00", "to": "19:00"}})) == [
        ("arms", "a", "timing", "window")
    ]
    assert list(issues({"window": WINDOW}, step={"at": "03:00"})) == [("arms", "a", "steps", 0, "timing", "at")]


def test_a_clock_time_in_an_overnight_window_fits_on_both_sides_of_midnight() -> None:
    night = {"from": "22:00", "to": "06:00"}
    assert issues({"at": "23:00", "window": night}) == issues({"at": "05:00", "window": night}) == {}
    assert list(issues({"at": "12:00", "window": night})) == [("timing", "at")]


def test_explore_and_even_need_what_they_are_about() -> None:
    assert "only with at: best_hour" in issues({"explore": "10%"})[("timing", "explore")]
    assert issues({"explore": "10%", "at": "best_hour"}) == {}
    assert "remove one of them" in issues({"spread": "even", "at": "10:30"})[("timing", "spread")]
    assert "remove one of them" in issues({"spread": "even"}, arm={"at": "best_hour"})[("arms", "a", "timing", "at")]
    assert issues({"spread": "500 per hour", "at": "best_hour"}) == {}


def test_what_does_not_parse_is_left_to_the_model() -> None:
    assert issues("soon") == issues({"at": 7, "window": 8}) == issues({"window": {"from": 1}}, arm=[], step=3) == {}


def test_the_schema_for_editors_says_the_same() -> None:
    validator = Draft202012Validator(TypeAdapter(Timing).json_schema(by_alias=True))
    assert validator.is_valid({"at": "best_hour", "spread": "even", "explore": "10%", "on_holidays": "wait"})
    assert validator.is_valid({"at": "09:30", "spread": "20 per minute"})
    assert not validator.is_valid({"at": "9:30"})
    assert not validator.is_valid({"spread": "0 per hour"})
