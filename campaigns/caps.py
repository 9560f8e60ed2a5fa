"""Calendar caps: the local day or week of a customer, whatever the clocks do in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

Period = Literal["day", "week"]
"""A calendar day from midnight to midnight, or a week from Monday's midnight, in the customer's own zone."""

LONGEST: Final = {"day": timedelta(hours=26), "week": timedelta(days=7, hours=2)}
"""No period lasts longer, whatever the clocks do (checked over all zones by tests/campaigns/test_caps.py)."""
_DAYS: Final = {"day": 1, "week": 7}


def in_period(at: datetime, now: datetime, period: Period, zone: str) -> bool:
    """Whether `at` falls into the same local day, or local week, as `now`."""
    return _first_day(at, period, zone) == _first_day(now, period, zone)


def next_period(now: datetime, period: Period, zone: str) -> datetime:
    """The instant at which the local day or week after that of `now` begins; a day may have 23 or 25 hours.

    Where midnight does not exist the day begins with the first instant that it has; where it comes twice, with the
    later one that is after `now`.
    """
    place = _zone(zone)
    begins = _first_day(now, period, zone) + timedelta(days=_DAYS[period])
    midnights = (datetime.combine(begins, time(0), place).replace(fold=fold) for fold in (0, 1))
    return next((m for m in (m.astimezone(now.tzinfo) for m in midnights) if m > now), now + LONGEST[period])


def zones_of(named: str) -> Sequence[str]:
    """The zones of a message as its row names them, joined by commas; UTC for a message without any."""
    return named.split(",") if named else ("UTC",)


def _first_day(at: datetime, period: Period, zone: str) -> date:
    day = at.astimezone(_zone(zone)).date()
    return day if period == "day" else day - timedelta(days=day.weekday())


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
