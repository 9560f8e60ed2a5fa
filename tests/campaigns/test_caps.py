"""Calendar caps: the customer's own day and week, in every zone, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from campaigns.caps import LONGEST, in_period, next_period, zones_of
from campaigns.timing import use_wheel_tzdata

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def wheel() -> None:
    use_wheel_tzdata()


def test_a_day_of_25_hours_is_one_day_and_one_of_23_too() -> None:
    zone = "America/New_York"
    begins = datetime(2026, 11, 1, 4, 0, tzinfo=UTC)  # midnight in New York; the clocks go back at 06:00 UTC
    assert next_period(begins, "day", zone) - begins == 25 * HOUR
    assert in_period(begins, begins + 25 * HOUR - timedelta(seconds=1), "day", zone)
    assert not in_period(begins, begins + 25 * HOUR, "day", zone)
    spring = datetime(2026, 3, 8, 5, 0, tzinfo=UTC)
    assert next_period(spring, "day", zone) - spring == 23 * HOUR
    assert next_period(spring, "week", zone) == datetime(2026, 3, 9, 4, 0, tzinfo=UTC)


def test_a_week_begins_on_monday_in_the_customers_own_zone() -> None:
    sunday = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert not in_period(sunday, sunday + 12 * HOUR, "week", "UTC")
    assert in_period(sunday, sunday + 12 * HOUR, "week", "America/New_York")  # still Sunday there
    assert next_period(sunday, "week", "Asia/Tokyo") == datetime(2026, 3, 1, 15, 0, tzinfo=UTC)


def test_a_day_whose_midnight_is_skipped_begins_with_the_first_minute_that_it_has() -> None:
    zone = "Africa/Cairo"  # 2026-04-24: clocks go from 00:00 to 01:00
    before = datetime(2026, 4, 23, 12, 0, tzinfo=UTC)
    begins = next_period(before, "day", zone)
    assert begins.astimezone(ZoneInfo(zone)).strftime("%d %H:%M") == "24 01:00"
    assert not in_period(before, begins, "day", zone)
    assert in_period(before, begins - timedelta(seconds=1), "day", zone)


def test_every_day_of_every_zone_ends_where_the_next_begins() -> None:
    """Every zone of the wheel, around every change of its clocks in two years: no gap, no overlap, never too long."""
    seen = 0
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        day = datetime(2026, 1, 1, 12, tzinfo=UTC)
        while day.year < 2028:
            if (day - 2 * 24 * HOUR).astimezone(zone).utcoffset() != (day + 24 * HOUR).astimezone(zone).utcoffset():
                ends = next_period(day, "day", name)
                last, first = (at.astimezone(zone).date() for at in (ends - timedelta(seconds=1), ends))
                assert (last, first) == (day.astimezone(zone).date(), last + timedelta(days=1)), (name, day)
                assert next_period(ends, "day", name) - ends <= LONGEST["day"]
                assert next_period(ends, "week", name) - ends <= LONGEST["week"]
                seen += 1
            day += 24 * HOUR
    assert seen > 1000


def test_a_message_without_zone_is_counted_in_utc() -> None:
    assert list(zones_of("")) == ["UTC"]
    assert list(zones_of("Europe/London,Europe/Paris")) == ["Europe/London", "Europe/Paris"]
    assert date(2026, 3, 2).weekday() == 0
