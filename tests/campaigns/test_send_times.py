"""Send times: slots chained over an arm's steps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from campaigns.send_times import SendTime, StepTiming, plan_send_times
from campaigns.timing import Window

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = Window(frozenset(range(7)), time(10), time(19))
NOW = StepTiming(timedelta(0), DAY, "next_window", timedelta(days=2))
LATER = replace(NOW, after=timedelta(days=4))


def times(
    *steps: StepTiming, zones: tuple[str, ...] = ("UTC",), ends: datetime | None = None
) -> tuple[SendTime, ...] | None:
    return plan_send_times(steps, zones, as_of=AT, quiet=None, offer_ends_at=ends)


def test_a_steps_delay_runs_from_the_moment_the_step_before_it_may_leave() -> None:
    planned = times(NOW, LATER)
    assert planned is not None
    assert [t.not_before for t in planned] == [AT + timedelta(hours=1), AT + timedelta(days=4, hours=1)]


def test_a_late_message_is_skipped_at_the_end_of_its_window_or_lives_for_its_lateness() -> None:
    planned = times(replace(NOW, if_late="skip"), NOW)
    assert planned is not None
    skipped, patient = planned
    assert skipped.expires_at == skipped.closes_at == AT + timedelta(hours=10)
    assert patient.expires_at == patient.not_before + timedelta(days=2)


def test_no_message_outlives_its_offer() -> None:
    planned = times(NOW, ends=AT + timedelta(hours=3))
    assert planned is not None
    assert planned[0].expires_at == planned[0].closes_at == AT + timedelta(hours=3)
    assert times(NOW, LATER, ends=AT + timedelta(days=2)) is None


def test_without_a_zone_there_is_no_moment() -> None:
    assert times(NOW, zones=()) is None


def test_several_candidate_zones_must_all_allow_the_moment() -> None:
    planned = times(NOW, zones=("America/New_York", "America/Los_Angeles"))
    assert planned is not None
    assert planned[0].not_before == datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
    assert planned[0].closes_at == datetime(2026, 3, 3, 0, 0, tzinfo=UTC)
