"""Local time: windows, quiet hours, clock changes, several candidate zones."""

from __future__ import annotations

import os
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import timing
from campaigns.timing import SEARCH_DAYS, Bounds, Slot, Window, allows, candidate_zones, next_slot

EVERY_DAY = frozenset(range(7))
MINUTE = timedelta(minutes=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(opens: str, closes: str, days: frozenset[int] = EVERY_DAY) -> Window:
    return Window(days, time.fromisoformat(opens), time.fromisoformat(closes))


def slot(opens: str, closes: str) -> Slot:
    return Slot(utc(opens), utc(closes))


def search_by_minutes(window: Window, zones: list[str], at: datetime, quiet: Window | None, days: int) -> Slot | None:
    """The slow way: ask the wall clock of every zone at every minute (for whole-minute `at` and windows)."""
    opens_at = None
    for step in range(days * 24 * 60):
        moment = at + step * MINUTE
        if allows(window, zones, at=moment, quiet=quiet):
            opens_at = opens_at or moment
        elif opens_at:
            return Slot(opens_at, moment)
    return Slot(opens_at, at + timedelta(days=days)) if opens_at else None


HARD_CASES = [
    # (what, zone, window, at, opens, closes)
    ("inside the window opens at once", "Europe/London", ("10:00", "19:00"), "2026-01-05T12:34", "2026-01-05T12:34", "2026-01-05T19:00"),
    ("the instant of closing is outside", "Europe/London", ("10:00", "19:00"), "2026-01-05T19:00", "2026-01-06T10:00", "2026-01-06T19:00"),
    ("the instant of opening is inside", "Europe/London", ("10:00", "19:00"), "2026-01-05T10:00", "2026-01-05T10:00", "2026-01-05T19:00"),
    ("summer time moves the window in UTC", "Europe/London", ("10:00", "19:00"), "2026-03-28T19:00", "2026-03-29T09:00", "2026-03-29T18:00"),
    ("a day of 23 hours: an all-day window is one hour shorter", "Europe/London", ("00:00", "23:59"), "2026-03-29T00:00", "2026-03-29T00:00", "2026-03-29T22:59"),
    ("a day of 25 hours: an all-day window is one hour longer", "Europe/London", ("00:00", "23:59"), "2026-10-24T23:00", "2026-10-24T23:00", "2026-10-25T23:59"),
    ("an opening inside the gap opens when the clock has jumped", "Europe/London", ("01:30", "04:00"), "2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T03:00"),
    ("a window wholly inside the gap comes the day after", "Europe/London", ("01:00", "02:00"), "2026-03-29T00:00", "2026-03-30T00:00", "2026-03-30T01:00"),
    ("a repeated hour counts twice when the window covers it", "Europe/London", ("01:00", "02:00"), "2026-10-24T12:00", "2026-10-25T00:00", "2026-10-25T02:00"),
    ("half of a repeated hour comes twice", "Europe/London", ("01:00", "01:30"), "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30"),
    ("overnight stays overnight", "Europe/London", ("22:00", "06:00"), "2026-01-05T12:00", "2026-01-05T22:00", "2026-01-06T06:00"),
    ("overnight, asked after midnight", "Europe/London", ("22:00", "06:00"), "2026-01-06T03:00", "2026-01-06T03:00", "2026-01-06T06:00"),
    ("until midnight", "Europe/London", ("18:00", "00:00"), "2026-01-05T12:00", "2026-01-05T18:00", "2026-01-06T00:00"),
    ("overnight across the spring change is an hour shorter", "America/New_York", ("22:00", "06:00"), "2026-03-07T20:00", "2026-03-08T03:00", "2026-03-08T10:00"),
    ("overnight across the autumn change is an hour longer", "America/New_York", ("22:00", "06:00"), "2026-10-31T20:00", "2026-11-01T02:00", "2026-11-01T11:00"),
    ("Lord Howe goes forward by half an hour", "Australia/Lord_Howe", ("02:15", "03:00"), "2026-10-03T12:00", "2026-10-03T15:30", "2026-10-03T16:00"),
    ("Lord Howe goes back by half an hour", "Australia/Lord_Howe", ("01:30", "02:00"), "2026-04-04T12:00", "2026-04-04T14:30", "2026-04-04T15:30"),
    ("Troll jumps two hours forward", "Antarctica/Troll", ("02:00", "03:00"), "2026-03-29T00:00", "2026-03-30T00:00", "2026-03-30T01:00"),
    ("Troll falls two hours back", "Antarctica/Troll", ("01:00", "03:00"), "2026-10-24T23:00", "2026-10-24T23:00", "2026-10-25T03:00"),
    ("Samoa left 30 December 2011 out", "Pacific/Apia", ("10:00", "12:00"), "2011-12-29T22:00", "2011-12-30T20:00", "2011-12-30T22:00"),
    ("Kwajalein left 21 August 1993 out", "Pacific/Kwajalein", ("10:00", "12:00"), "1993-08-21T00:00", "1993-08-21T22:00", "1993-08-22T00:00"),
    ("a zone that gave up changing its clocks", "America/Vancouver", ("10:00", "11:00"), "2026-12-01T00:00", "2026-12-01T17:00", "2026-12-01T18:00"),
    ("a quarter-hour zone", "Asia/Kathmandu", ("10:00", "11:00"), "2026-01-05T00:00", "2026-01-05T04:15", "2026-01-05T05:15"),
    ("fourteen hours ahead of UTC", "Pacific/Kiritimati", ("10:00", "11:00"), "2026-01-05T00:00", "2026-01-05T20:00", "2026-01-05T21:00"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "hours", "at", "opens", "closes"), [c[1:] for c in HARD_CASES], ids=[c[0] for c in HARD_CASES]
)
def test_the_slot_of_a_hard_case(zone: str, hours: tuple[str, str], at: str, opens: str, closes: str) -> None:
    assert next_slot(window(*hours), [zone], at=utc(at)) == slot(opens, closes)


def test_a_weekday_that_was_skipped_never_opens_its_window() -> None:
    friday = window("10:00", "12:00", frozenset({4}))

    assert next_slot(friday, ["Pacific/Apia"], at=utc("2011-12-29T12:00")) == slot(
        "2012-01-05T20:00", "2012-01-05T22:00"
    )


def test_an_overnight_window_belongs_to_the_day_it_opened_on() -> None:
    friday_night = window("22:00", "06:00", frozenset({4}))

    assert next_slot(friday_night, ["UTC"], at=utc("2026-01-10T03:00")) == slot("2026-01-10T03:00", "2026-01-10T06:00")
    assert next_slot(friday_night, ["UTC"], at=utc("2026-01-09T03:00")) == slot("2026-01-09T22:00", "2026-01-10T06:00")


def test_all_candidate_zones_must_allow_the_moment() -> None:
    coast_to_coast = ["America/New_York", "America/Chicago", "America/Los_Angeles"]

    assert next_slot(window("10:00", "19:00"), coast_to_coast, at=utc("2026-01-05T00:00")) == slot(
        "2026-01-05T18:00", "2026-01-06T00:00"
    )


def test_zones_that_never_agree_have_no_slot() -> None:
    assert (
        next_slot(window("10:00", "11:00"), ["Europe/London", "America/New_York"], at=utc("2026-01-05T00:00")) is None
    )


def test_without_a_zone_there_is_no_slot() -> None:
    assert next_slot(window("00:00", "00:00"), [], at=utc("2026-01-05T00:00")) is None
    assert not allows(window("00:00", "00:00"), [], at=utc("2026-01-05T00:00"))


def test_a_window_without_days_has_no_slot() -> None:
    assert next_slot(window("10:00", "11:00", frozenset()), ["UTC"], at=utc("2026-01-05T00:00")) is None


def test_quiet_hours_are_cut_out_of_the_window() -> None:
    quiet = window("21:00", "08:00")

    assert next_slot(window("07:00", "22:00"), ["UTC"], at=utc("2026-01-05T06:00"), quiet=quiet) == slot(
        "2026-01-05T08:00", "2026-01-05T21:00"
    )
    assert next_slot(window("22:00", "23:00"), ["UTC"], at=utc("2026-01-05T06:00"), quiet=quiet) is None


def test_quiet_hours_inside_the_window_leave_the_part_before_and_the_part_after() -> None:
    siesta = window("13:00", "15:00")

    assert next_slot(window("10:00", "19:00"), ["UTC"], at=utc("2026-01-05T09:00"), quiet=siesta) == slot(
        "2026-01-05T10:00", "2026-01-05T13:00"
    )
    assert next_slot(window("10:00", "19:00"), ["UTC"], at=utc("2026-01-05T13:00"), quiet=siesta) == slot(
        "2026-01-05T15:00", "2026-01-05T19:00"
    )


def test_quiet_days_may_differ_from_the_windows_days() -> None:
    sunday_rest = window("00:00", "00:00", frozenset({6}))

    assert next_slot(window("10:00", "12:00"), ["UTC"], at=utc("2026-01-10T12:00"), quiet=sunday_rest) == slot(
        "2026-01-12T10:00", "2026-01-12T12:00"
    )


def test_a_window_that_never_closes_is_cut_at_the_horizon() -> None:
    at = utc("2026-03-20T00:00")

    assert next_slot(window("00:00", "00:00"), ["Europe/London"], at=at) == Slot(at, at + timedelta(days=SEARCH_DAYS))


@pytest.mark.parametrize("day", range(7))
def test_a_slot_of_any_day_of_the_week_is_found_from_any_other(day: int) -> None:
    asked, monday = window("10:00", "12:00", frozenset({day})), utc("2026-03-16T12:00")
    opens = monday.replace(hour=10) + timedelta(days=day or 7)

    assert next_slot(asked, ["UTC"], at=monday) == Slot(opens, opens + timedelta(hours=2))


def test_a_slot_is_found_weeks_ahead() -> None:
    skipped = window("01:00", "01:30", frozenset({6}))  # on 29 March the clocks of London go from 01:00 to 02:00

    assert next_slot(skipped, ["Europe/London"], at=utc("2026-03-22T02:00")) == slot(
        "2026-04-05T00:00", "2026-04-05T00:30"
    )


@pytest.mark.parametrize("day", range(1, 7))
def test_a_slot_that_stays_open_for_days_is_found_whole(day: int) -> None:
    quiet, monday = window("00:00", "00:00", frozenset({day})), utc("2026-03-16T05:00")

    found = next_slot(window("00:00", "00:00"), ["UTC"], at=monday, quiet=quiet)

    assert found == Slot(monday, monday.replace(hour=0) + timedelta(days=day))


def test_a_slot_that_stays_open_for_weeks_is_found_whole() -> None:
    holidays = Bounds(closed=("FR",))  # from the day after Easter Monday to Labour Day

    assert next_slot(window("00:00", "00:00"), ["UTC"], at=utc("2026-04-07T00:00"), bounds=holidays) == slot(
        "2026-04-07T00:00", "2026-05-01T00:00"
    )


def test_a_moment_with_a_fraction_of_a_second_is_kept_exactly() -> None:
    at = utc("2026-01-05T12:00:00.123456")

    found = next_slot(window("10:00", "19:00"), ["UTC"], at=at)

    assert found is not None
    assert found.opens_at == at


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        next_slot(window("10:00", "19:00"), ["UTC"], at=datetime(2026, 1, 5))


def test_an_unknown_zone_name_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match="Mars/Olympus"):
        next_slot(window("10:00", "19:00"), ["Mars/Olympus"], at=utc("2026-01-05T00:00"))


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="Monday"):
        window("10:00", "11:00", frozenset({7}))
    with pytest.raises(ValueError, match="local time"):
        Window(EVERY_DAY, time(10, tzinfo=UTC), time(11))


def test_candidate_zones_prefer_the_profile_and_fall_back_to_the_country() -> None:
    assert candidate_zones("Europe/Paris", "US") == ("Europe/Paris",)
    assert candidate_zones(None, "gb") == ("Europe/London",)
    assert candidate_zones("", " fr ") == ("Europe/Paris",)
    assert candidate_zones("Not/AZone", "GB") == ("Europe/London",)
    assert candidate_zones("../../etc/passwd", None) == ()
    assert candidate_zones("Factory", None) == ()
    assert candidate_zones(None, "XX") == ()
    assert candidate_zones(None, None) == ()


def test_a_large_country_has_all_its_zones() -> None:
    american = candidate_zones(None, "US")

    assert len(american) == 29
    assert {"America/New_York", "Pacific/Honolulu", "America/Anchorage"} <= set(american)


def test_every_zone_of_every_country_is_known() -> None:
    for zones in timing.zones_by_country().values():
        assert all(timing.is_zone(name) for name in zones)


def test_the_process_reads_the_wheel_when_told() -> None:
    old = zoneinfo.TZPATH
    try:
        timing.use_wheel_tzdata()
        timing.use_wheel_tzdata()
        assert zoneinfo.TZPATH == ()
        assert ZoneInfo("America/Vancouver").utcoffset(datetime(2026, 12, 1)) == timedelta(hours=-7)
    finally:
        zoneinfo.reset_tzpath(old)
        ZoneInfo.clear_cache()


def test_the_operating_systems_time_zones_change_no_decision(tmp_path: object) -> None:
    """The same questions under the system's zone files and under none at all get the same answers."""
    script = (
        "from campaigns.timing import *; from datetime import *\n"
        "w = Window(frozenset(range(7)), time(10), time(11))\n"
        "for z in ('America/Vancouver', 'America/Havana', 'Africa/Casablanca', 'America/Winnipeg'):\n"
        "    print(z, next_slot(w, [z], at=datetime(2026, 12, 1, tzinfo=UTC)))\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **extra}, check=True, capture_output=True, text=True
        ).stdout
        for extra in ({"PYTHONTZPATH": "/usr/share/zoneinfo"}, {"PYTHONTZPATH": ""})
    }

    assert len(answers) == 1
    assert "opens_at=datetime.datetime(2026, 12, 1, 17, 0" in answers.pop()


def test_the_version_of_the_rules_is_known() -> None:
    assert timing.tzdata_version()[:2] == "20"


def test_no_zone_changes_twice_within_two_days() -> None:
    """What the search by whole days relies on, read from the rules by the standard library's pure-Python reader."""
    from importlib.resources import files
    from zoneinfo import _zoneinfo

    since = utc("1990-01-01T00:00").timestamp()
    for name in sorted(timing._zone_names()):
        with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
            table = [t for t in _zoneinfo.ZoneInfo.from_file(file, key=name)._trans_utc if t >= since]
        assert all(later - earlier > 2 * 86_400 for earlier, later in pairwise(table)), name


zone_names = st.sampled_from(sorted(timing._zone_names()))
clocks = st.integers(0, 24 * 60 - 1).map(lambda m: time(m // 60, m % 60))
windows = st.builds(Window, st.frozensets(st.integers(0, 6), min_size=1), clocks, clocks)
moments = st.integers(0, 2 * 365 * 24 * 60).map(lambda m: utc("2026-01-01T00:00") + m * MINUTE)


@given(windows, st.lists(zone_names, min_size=1, max_size=3), moments, st.none() | windows)
@settings(max_examples=60, deadline=None)
def test_the_slot_is_the_one_found_by_asking_every_minute(
    asked: Window, zones: list[str], at: datetime, quiet: Window | None
) -> None:
    found = next_slot(asked, zones, at=at, quiet=quiet)
    slow = search_by_minutes(asked, zones, at, quiet, days=3)

    if slow is None:
        assert found is None or found.opens_at >= at + timedelta(days=3)
    elif slow.closes_at == at + timedelta(days=3):
        assert found is not None
        assert found.opens_at == slow.opens_at
        assert found.closes_at >= slow.closes_at
    else:
        assert found == slow


def changes_of_2026() -> list[tuple[str, datetime]]:
    found = []
    for name in sorted(timing._zone_names()):
        found += [(name, timing._instant(at)) for at, _ in timing._changes(name, 2026)[1:]]
    return found


def test_every_clock_change_of_2026_is_survived_to_the_minute() -> None:
    """393 changes in 2026 (measured with tzdata 2026f): around each, the slot equals the minute-by-minute search."""
    changes = changes_of_2026()
    assert len(changes) > 300
    seen: set[tuple[datetime, str]] = set()
    for name, at in changes:
        local = (at - MINUTE).astimezone(timing._zone(name))
        if (at, str(local.utcoffset())) in seen:
            continue  # another name of the same rules
        seen.add((at, str(local.utcoffset())))
        clock = (local + timedelta(minutes=31)).time()
        narrow = Window(EVERY_DAY, clock, (local + timedelta(minutes=61)).time())
        start = at - timedelta(minutes=90)
        assert next_slot(narrow, [name], at=start) == search_by_minutes(narrow, [name], start, None, days=2), name


DECIDE = """
import zoneinfo
from datetime import UTC, datetime, time, timedelta
from campaigns.timing import Window, next_slot, use_wheel_tzdata
if {forced}:
    use_wheel_tzdata()
window = Window(frozenset(range(7)), time(10), time(11))
for zone in ("America/Vancouver", "Europe/London", "Asia/Kathmandu"):
    at = datetime(2026, 12, 1, tzinfo=UTC)
    print(zone, next_slot(window, [zone], at=at), at.astimezone(zoneinfo.ZoneInfo(zone)))
"""


def test_a_doctored_copy_of_the_zones_on_the_machine_changes_nothing_once_the_wheel_is_forced(tmp_path: Path) -> None:
    """Vancouver's file is Tokyo's: our slots never look there, and with the wheel forced neither does anybody else."""
    from importlib.resources import files

    tokyo = files("tzdata.zoneinfo").joinpath("Asia", "Tokyo").read_bytes()
    for name in ("America/Vancouver", "Europe/London", "Asia/Kathmandu"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(tokyo)

    def answers(path: str, *, forced: bool) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", DECIDE.format(forced=forced)],
            env={**os.environ, "PYTHONTZPATH": path},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()

    wheel = answers("", forced=True)
    assert wheel == answers("/usr/share/zoneinfo", forced=True) == answers(str(tmp_path), forced=True)
    doctored = answers(str(tmp_path), forced=False)
    assert all("+09:00" in line for line in doctored)  # what zoneinfo itself reads there
    assert [line.rpartition(" 2026-")[0] for line in doctored] == [line.rpartition(" 2026-")[0] for line in wheel]
