"""Schedules: when a campaign is due in its own time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from campaigns.schedule import due_at

DAY = timedelta(days=1)


def test_the_latest_instant_of_the_last_day_counts() -> None:
    now = datetime(2026, 3, 3, 5, 30, tzinfo=UTC)
    assert due_at("0 9 * * 1", "Europe/London", now=now, within=DAY) == datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    assert due_at("0 */6 * * *", "UTC", now=now, within=DAY) == datetime(2026, 3, 3, 0, 0, tzinfo=UTC)


def test_nothing_is_due_on_other_days() -> None:
    assert due_at("0 9 * * 1", "Europe/London", now=datetime(2026, 3, 5, 5, 30, tzinfo=UTC), within=DAY) is None


def test_the_instant_itself_is_due_and_the_one_a_day_before_is_not_due_again() -> None:
    nine = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    assert due_at("0 9 * * *", "UTC", now=nine, within=DAY) == nine


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (datetime(2026, 3, 29, 12, 0, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),  # 02:30 does not exist
        (datetime(2026, 10, 25, 12, 0, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # 02:30 comes twice
    ],
)
def test_clock_changes_neither_lose_nor_double_a_run(now: datetime, due: datetime) -> None:
    assert due_at("30 2 * * *", "Europe/Berlin", now=now, within=timedelta(hours=20)) == due
