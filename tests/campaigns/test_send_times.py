"""Send times: slots chained over an arm's steps, within law and quiet hours, at a clock time or a best hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from campaigns.send_times import ANY_HOUR, Recipients, SendLimits, SendTime, StepTiming, plan_send_times
from campaigns.spread import Spread
from campaigns.timing import Window
from campaigns.whereabouts import Whereabouts

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = Window(frozenset(range(7)), time(10), time(19))
NOW = StepTiming(timedelta(0), DAY, "next_window", timedelta(days=2))
LATER = replace(NOW, after=timedelta(days=4))
HOUR = timedelta(hours=1)


def times(
    *steps: StepTiming,
    zones: tuple[str, ...] = ("UTC",),
    place: str = "",
    channel: str = "email",
    hour: int = ANY_HOUR,
    ends: datetime | None = None,
    quiet: Window | None = None,
    as_of: datetime = AT,
) -> tuple[SendTime, ...] | None:
    recipients = Recipients(Whereabouts(zones, place), (channel,) * len(steps), (hour,) * len(steps))
    return plan_send_times(steps, recipients, SendLimits(as_of, quiet, ends))


def first(*steps: StepTiming, **where: object) -> SendTime:
    planned = times(*steps, **where)  # type: ignore[arg-type]  # the keywords of times
    assert planned is not None
    return planned[0]


def test_a_steps_delay_runs_from_the_moment_the_step_before_it_may_leave() -> None:
    planned = times(NOW, LATER)
    assert planned is not None
    assert [t.not_before for t in planned] == [AT + HOUR, AT + timedelta(days=4, hours=1)]


def test_a_late_message_is_skipped_at_the_end_of_its_window_or_lives_for_its_lateness() -> None:
    planned = times(replace(NOW, if_late="skip"), NOW)
    assert planned is not None
    skipped, patient = planned
    assert skipped.expires_at == skipped.closes_at == AT + 10 * HOUR
    assert patient.expires_at == patient.not_before + timedelta(days=2)


def test_no_message_outlives_its_offer() -> None:
    planned = times(NOW, ends=AT + 3 * HOUR)
    assert planned is not None
    assert planned[0].expires_at == planned[0].closes_at == AT + 3 * HOUR
    assert times(NOW, LATER, ends=AT + timedelta(days=2)) is None


@pytest.mark.parametrize("if_late", ["skip", "next_window", "send"])
def test_however_late_messages_are_treated_none_expires_after_its_offer(if_late: str) -> None:
    step = replace(NOW, if_late=if_late, max_lateness=timedelta(days=30))
    for hours in (2, 9, 30, 60):
        assert first(step, ends=AT + hours * HOUR).expires_at <= AT + hours * HOUR


def test_without_a_zone_there_is_no_moment() -> None:
    assert times(NOW, zones=()) is None


def test_several_candidate_zones_must_all_allow_the_moment() -> None:
    planned = first(NOW, zones=("America/New_York", "America/Los_Angeles"))
    assert planned.not_before == datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
    assert planned.closes_at == datetime(2026, 3, 3, 0, 0, tzinfo=UTC)


def test_a_window_wider_than_the_law_is_cut_to_it_and_only_on_the_channel_the_law_is_about() -> None:
    always = replace(NOW, window=Window(frozenset(range(7)), time(0), time(0)))
    night = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)  # 22:00 in Chicago, Sunday
    texas = {"zones": ("America/Chicago",), "place": "US-TX", "as_of": night}
    text, mail = first(always, channel="sms", **texas), first(always, channel="email", **texas)
    assert (text.not_before, text.closes_at) == (
        datetime(2026, 3, 2, 15, 0, tzinfo=UTC),  # Monday from 9:00 in Texas, not from 8:00 as federal law says
        datetime(2026, 3, 3, 3, 0, tzinfo=UTC),
    )
    assert mail.not_before == night


def test_the_company_s_quiet_hours_narrow_the_law_further() -> None:
    quiet = Window(frozenset(range(7)), time(18), time(11))
    always = replace(NOW, window=Window(frozenset(range(7)), time(0), time(0)))
    found = first(always, zones=("America/Chicago",), place="US-TX", channel="sms", quiet=quiet)
    assert (found.not_before, found.closes_at) == (
        datetime(2026, 3, 2, 17, 0, tzinfo=UTC),
        datetime(2026, 3, 3, 0, 0, tzinfo=UTC),
    )


def test_nothing_leaves_on_a_public_holiday_where_the_pack_or_the_campaign_says_so() -> None:
    eve = datetime(2026, 7, 13, 20, 0, tzinfo=UTC)
    paris = {"zones": ("Europe/Paris",), "place": "FR", "as_of": eve}
    text = first(NOW, channel="sms", **paris)
    assert text.not_before == datetime(2026, 7, 15, 8, 0, tzinfo=UTC)  # 14 July is a holiday
    assert first(NOW, channel="email", **paris).not_before == datetime(2026, 7, 14, 8, 0, tzinfo=UTC)
    waits = replace(NOW, holidays_off=True)
    assert first(waits, channel="email", **paris).not_before == datetime(2026, 7, 15, 8, 0, tzinfo=UTC)


def test_at_a_clock_time_a_message_waits_for_it_and_may_leave_until_the_window_closes() -> None:
    step = replace(NOW, at=time(15, 30))
    found = first(step)
    assert (found.not_before, found.closes_at) == (AT + 6.5 * HOUR, AT + 10 * HOUR)
    assert first(step, as_of=AT + 7 * HOUR).not_before == AT + 30.5 * HOUR


def test_a_clock_time_that_a_change_skips_comes_on_the_next_day() -> None:
    step = replace(NOW, at=time(2, 30), window=Window(frozenset(range(7)), time(1), time(5)))
    new_york = {"zones": ("America/New_York",), "as_of": datetime(2026, 3, 8, 5, 0, tzinfo=UTC)}
    assert first(step, **new_york).not_before == datetime(2026, 3, 9, 6, 30, tzinfo=UTC)


def test_at_the_best_hour_a_message_begins_within_it_and_may_leave_until_the_window_closes() -> None:
    found = first(replace(NOW, at="best_hour"), hour=14)
    assert (found.not_before, found.until, found.closes_at) == (AT + 5 * HOUR, AT + 6 * HOUR, AT + 10 * HOUR)


@pytest.mark.parametrize(("hour", "instead"), [(7, 10), (9, 10), (19, 18), (22, 18), (3, 10)])
def test_a_best_hour_outside_the_window_gives_way_to_the_nearest_inside(hour: int, instead: int) -> None:
    found = first(replace(NOW, at="best_hour"), hour=hour)
    assert found.not_before.hour == instead


def test_without_a_best_hour_a_message_begins_anywhere_in_the_window() -> None:
    found = first(replace(NOW, at="best_hour"))
    assert found.not_before == AT + HOUR
    assert AT + 9.5 * HOUR < found.until < found.closes_at


def test_zones_that_never_share_the_hour_get_the_window_they_share() -> None:
    step = replace(NOW, at=time(10, 30))
    zones = ("America/New_York", "America/Los_Angeles")
    assert first(step, zones=zones).not_before == first(NOW, zones=zones).not_before


def test_an_even_spread_ends_short_of_the_window_s_close() -> None:
    found = first(replace(NOW, spread=Spread()))
    assert found.not_before == AT + HOUR
    assert found.until == found.closes_at - timedelta(minutes=5)
    assert first(NOW).until == first(NOW).not_before
