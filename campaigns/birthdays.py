"""Birthdays on the calendar: which dates of birth fall on which days, and when a day begins where somebody lives."""

from __future__ import annotations

from calendar import isleap
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from campaigns.timing import zone_of

_LEAP_DAY = 229
_DAY_AFTER = (3, 1)


def birthdays_between(first: date, last: date) -> dict[int, list[date]]:
    """The birthdays on the days first..last: month * 100 + day of the birth -> the days, in order.

    Who was born on 29 February has it on 1 March in years without that day, as days_to_birthday counts.
    """
    found: dict[int, list[date]] = {}
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        found.setdefault(day.month * 100 + day.day, []).append(day)
        if (day.month, day.day) == _DAY_AFTER and not isleap(day.year):
            found.setdefault(_LEAP_DAY, []).append(day)
    return found


@lru_cache(maxsize=16_384)
def day_begins(day: date, zones: Sequence[str]) -> datetime:
    """The first instant at which it is `day` in every one of the zones (aware UTC).

    Where the clock skips midnight the day begins with the first hour it shows. Raises KeyError for an unknown zone.
    """
    midnights = [datetime.combine(day, time(), zone_of(name)).astimezone(UTC) for name in zones]
    return max(midnights)
