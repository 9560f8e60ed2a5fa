"""Every zone of the wheel, every clock change of two years: no minute outside the window is permitted, and none is lost.

The oracle knows nothing of slots: it reads the wheel's own files, asks the wall clock at every minute, and decides by
weekday and minute of the day alone.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from campaigns.timing import Window, allows, next_slot

EVERY_DAY = frozenset(range(7))
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
MINUTE, AROUND = timedelta(minutes=1), timedelta(hours=36)
WINDOWS = (
    Window(EVERY_DAY, time(8), time(21)),
    Window(frozenset({0, 2, 4, 6}), time(10), time(19)),
    Window(EVERY_DAY, time(22), time(6)),
    Window(frozenset({5, 6}), time(21, 30), time(2, 45)),
    Window(EVERY_DAY, time(1, 15), time(3, 15)),
)
Change = tuple[datetime, int, int]
"""The first minute of an offset, the offset before and after, in minutes."""


@lru_cache(maxsize=1024)
def clock(name: str) -> ZoneInfo:
    """A zone read from the wheel by the oracle itself."""
    with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def offset(zone: ZoneInfo, at: datetime) -> int:
    found = at.astimezone(zone).utcoffset()
    assert found is not None
    return round(found.total_seconds())


def changes(zone: ZoneInfo) -> tuple[Change, ...]:
    """Every change of the two years, looked for by the hour and then by the minute."""
    found, at, before = [], START, offset(zone, START)
    while at < END:
        later = at + timedelta(hours=12)
        if offset(zone, later) != before:
            minute = next(at + k * MINUTE for k in range(721) if offset(zone, at + k * MINUTE) != before)
            found.append((minute, before, offset(zone, minute)))
            before, later = found[-1][2], minute
        at = later
    return tuple(found)


@pytest.fixture(scope="module")
def alike() -> dict[tuple[Change, ...], list[str]]:
    """The zones of the wheel by their changes: zones that change alike are asked minute by minute once."""
    names = files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    by_bytes: dict[bytes, list[str]] = defaultdict(list)
    for name in names:
        if name != "Factory":
            by_bytes[files("tzdata.zoneinfo").joinpath(*name.split("/")).read_bytes()].append(name)
    found: dict[tuple[Change, ...], list[str]] = defaultdict(list)
    for same in by_bytes.values():
        found[changes(clock(same[0]))] += same
    return dict(found)


def permitted_by_the_wall_clock(window: Window, minutes: np.ndarray, weekdays: np.ndarray) -> np.ndarray:
    """Which minutes lie in the window: by weekday and minute of the day, as the wall clock shows them."""
    opens, closes = (clock.hour * 60 + clock.minute for clock in (window.opens, window.closes))
    today = np.isin(weekdays, sorted(window.days))
    yesterday = np.isin((weekdays - 1) % 7, sorted(window.days))
    if opens < closes:
        return today & (minutes >= opens) & (minutes < closes)
    return (today & (minutes >= opens)) | (yesterday & (minutes < closes))


def permitted_by_slots(window: Window, zone: str, start: datetime, n: int) -> np.ndarray:
    """Which of the n minutes from `start` lie in a slot, slot after slot."""
    found = np.zeros(n, dtype=bool)
    at, end = start, start + n * MINUTE
    while (slot := next_slot(window, [zone], at=at)) is not None and slot.opens_at < end:
        first, last = (slot.opens_at - start) / MINUTE, (min(slot.closes_at, end) - start) / MINUTE
        assert first == int(first)
        assert last == int(last)
        found[int(first) : int(last)] = True
        at = slot.closes_at
    return found


def test_around_every_clock_change_the_permitted_minutes_are_those_of_the_wall_clock(
    alike: dict[tuple[Change, ...], list[str]],
) -> None:
    assert sum(map(len, alike.values())) > 590
    n = 2 * (AROUND // MINUTE)
    asked = 0
    for zone_changes, names in alike.items():
        zone = clock(names[0])
        for changed_at, _, _ in zone_changes or [(datetime(2026, 3, 29, tzinfo=UTC), 0, 0)]:
            start = changed_at - AROUND
            local = [(start + k * MINUTE).astimezone(zone) for k in range(n)]
            minutes = np.array([at.hour * 60 + at.minute for at in local])
            weekdays = np.array([at.weekday() for at in local])
            for window in WINDOWS:
                wanted = permitted_by_the_wall_clock(window, minutes, weekdays)
                found = permitted_by_slots(window, names[0], start, n)
                wrong = np.flatnonzero(wanted != found)
                assert not wrong.size, f"{names[0]} {window} {local[int(wrong[0])]}"
                for edge in np.flatnonzero(np.diff(wanted)):
                    for k in (int(edge), int(edge) + 1):
                        assert allows(window, [names[0]], at=start + k * MINUTE) == wanted[k]
            asked += 1
    assert asked > 100


def test_zones_that_change_alike_get_the_same_slots(alike: dict[tuple[Change, ...], list[str]]) -> None:
    """So what holds for the first of them, minute by minute, holds for every zone of the wheel."""
    offsets = {name: offset(clock(name), START) for names in alike.values() for name in names}
    for zone_changes, names in alike.items():
        same = [name for name in names if offsets[name] == offsets[names[0]]]
        assert same == names or not zone_changes  # zones without changes differ in their offset alone
        for changed_at, _, _ in zone_changes[:1]:
            for window in WINDOWS[1:3]:
                slots = {next_slot(window, [name], at=changed_at - timedelta(hours=20)) for name in same}
                assert len(slots) == 1


@pytest.mark.parametrize("zone", ["Europe/London", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu", "UTC"])
def test_an_overnight_window_is_never_swapped_for_the_day(zone: str) -> None:
    """A peer reads 22:00 to 06:00 as 06:00 to 22:00."""
    for day in (datetime(2026, 3, 3), datetime(2026, 7, 3)):
        noon, night = (day.replace(hour=hour, tzinfo=clock(zone)).astimezone(UTC) for hour in (12, 23))
        assert not allows(WINDOWS[2], [zone], at=noon)
        assert allows(WINDOWS[2], [zone], at=night)
        slot = next_slot(WINDOWS[2], [zone], at=noon)
        assert slot is not None
        assert slot.opens_at.astimezone(clock(zone)).time() == time(22)
        assert slot.closes_at.astimezone(clock(zone)).time() == time(6)


def test_a_zone_is_never_taken_for_its_offset_of_today() -> None:
    """A peer keeps a fixed offset: after the change it sends an hour off."""
    window = Window(EVERY_DAY, time(10), time(11))
    opens = {
        month: next_slot(window, ["America/New_York"], at=datetime(2026, month, 15, tzinfo=UTC)) for month in (1, 7)
    }
    assert [slot.opens_at.hour for slot in opens.values() if slot] == [15, 14]
