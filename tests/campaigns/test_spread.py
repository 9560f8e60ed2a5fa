"""Spreading: evenly by hash, or at a rate that no minute exceeds; delays and offers are kept all the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.arm_times import ArmTimes, Members, arm_times, place_messages
from campaigns.errors import CampaignError
from campaigns.send_times import ANY_HOUR, SendLimits, StepTiming
from campaigns.spread import Spread, Ticks, last_start, parse_spread
from campaigns.timing import Window
from campaigns.whereabouts import Whereabouts, Zones
from experiments.assign import fractions

MONDAY = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STEP = StepTiming(timedelta(0), Window(frozenset(range(7)), time(10), time(19)), "next_window", timedelta(days=2))
US = timedelta(microseconds=1)
PLACES = (Whereabouts(("Europe/London",)), Whereabouts(("Europe/Paris",)), Whereabouts(("America/New_York",)))


def laid_out(
    *arms: tuple[StepTiming, ...],
    n: int = 600,
    ends: datetime | None = None,
    hours: int = ANY_HOUR,
) -> list[Members]:
    """So many customers of three zones in each arm, laid out."""
    zones = Zones(PLACES, np.arange(n, dtype=np.intp) % 3, {})
    mail, hour = np.full(n, "email", dtype=object), np.full(n, hours, dtype=np.int64)
    members = []
    for number, steps in enumerate(arms):
        times: ArmTimes = arm_times(
            f"arm{number}", steps, zones, [(mail, hour)] * len(steps), SendLimits(MONDAY, None, ends)
        )
        shares = np.asarray(fractions("salt", [f"{number}-{i}" for i in range(n)]))
        members.append(Members(times, np.arange(n, dtype=np.intp), shares))
    place_messages(members)
    return members


def local_clocks(members: Members, step: int = 0) -> list[datetime]:
    from zoneinfo import ZoneInfo

    at = members.placed[step].not_before
    return [
        (EPOCH + int(moment) * US).astimezone(ZoneInfo(PLACES[row % 3].zones[0]))
        for row, moment in zip(members.rows, at, strict=True)
    ]


def per_minute(*moments: np.ndarray) -> Counter[int]:
    return Counter((np.concatenate(moments) // 60_000_000).tolist())


def test_without_a_spread_everybody_begins_when_the_window_opens() -> None:
    [members] = laid_out((STEP,))
    assert {at.time() for at in local_clocks(members)} == {time(10)}


def test_an_even_spread_fills_the_window_evenly_in_every_zone_and_nothing_leaves_it() -> None:
    n = 9_000
    [members] = laid_out((replace(STEP, spread=Spread()),), n=n)
    clocks = local_clocks(members)
    assert all(time(10) <= at.time() < time(18, 55) for at in clocks)
    by_hour = Counter(at.hour for at in clocks)
    assert set(by_hour) == set(range(10, 19))
    # binomial with n = 9,000 and p = 60/535: five standard deviations are 150
    assert all(abs(by_hour[hour] - n * 60 / 535) < 150 for hour in range(10, 18))


def test_a_customer_keeps_its_place_in_the_window_whoever_else_takes_part() -> None:
    spread = (replace(STEP, spread=Spread()),)
    [few], [many] = laid_out(spread, n=30), laid_out(spread, n=600)
    assert (few.placed[0].not_before == many.placed[0].not_before[:30]).all()


@pytest.mark.parametrize(
    ("rate", "n", "most"), [("500 per hour", 3_000, 9), ("5 per minute", 4_000, 5), ("60 per hour", 300, 1)]
)
def test_at_a_rate_no_minute_holds_more_messages_than_the_rate_whatever_the_arm_and_zone(
    rate: str, n: int, most: int
) -> None:
    step = replace(STEP, spread=parse_spread(rate))
    members = laid_out((step,), (step,), n=n)
    counts = per_minute(*(one.placed[0].not_before for one in members))
    assert max(counts.values()) <= most
    assert sum(counts.values()) == 2 * n
    for one in members:
        assert all(time(10) <= at.time() < time(19) for at in local_clocks(one))
        assert (one.placed[0].not_before < one.placed[0].closes_at).all()


def test_a_rate_delays_both_arms_alike() -> None:
    step = replace(STEP, spread=parse_spread("100 per hour"))
    first, second = laid_out((step,), (step,), n=1_500)
    means = [one.placed[0].not_before.mean() / 3.6e9 for one in (first, second)]  # hours
    assert abs(means[0] - means[1]) < 3  # of some 80: the arms take turns by hash


def test_what_finds_no_place_today_goes_on_in_the_next_window() -> None:
    [members] = laid_out((replace(STEP, spread=parse_spread("60 per hour")),), n=2_000)
    days = {at.date() for at in local_clocks(members)}
    assert len(days) > 2
    assert (members.placed[0].expires_at > members.placed[0].not_before).all()


def test_a_rate_too_slow_for_the_offer_is_refused_before_anything_is_planned() -> None:
    step = replace(STEP, spread=parse_spread("10 per hour"))
    with pytest.raises(CampaignError, match="no moment before its offer ends; nothing is planned; raise the rate"):
        laid_out((step,), n=2_000, ends=MONDAY + timedelta(days=5))


@pytest.mark.parametrize("spread", ["even", "50 per hour"])
def test_a_step_never_leaves_before_its_delay_after_the_step_before_is_over(spread: str) -> None:
    first = replace(STEP, spread=parse_spread(spread))
    steps = (first, replace(first, after=timedelta(hours=2)), replace(STEP, after=timedelta(days=1)))
    [members] = laid_out(steps, n=900)
    moments = [one.not_before for one in members.placed]
    assert ((moments[1] - moments[0]) >= timedelta(hours=2) // US).all()
    assert ((moments[2] - moments[1]) >= timedelta(days=1) // US).all()
    for number in range(3):
        assert all(time(10) <= at.time() < time(19) for at in local_clocks(members, number))


def test_messages_at_a_best_hour_are_spread_within_that_hour() -> None:
    [members] = laid_out((replace(STEP, at="best_hour"),), hours=14)
    clocks = local_clocks(members)
    assert {at.hour for at in clocks} == {14}
    assert len({at.minute for at in clocks}) > 50


@given(st.lists(st.integers(0, 1_000_000), max_size=60), st.integers(1, 5_000))
def test_ticks_are_given_once_and_never_before_they_are_asked_for(starts: list[int], step: int) -> None:
    ticks = Ticks(timedelta(microseconds=step))
    taken = [ticks.take(start, 2_000_000) for start in starts]
    given_out = [tick for tick in taken if tick is not None]
    assert len(set(given_out)) == len(given_out)
    assert all(tick >= start for tick, start in zip(taken, starts, strict=True) if tick is not None)
    assert ticks.take(5, 5) is None


def test_the_last_start_leaves_time_to_send() -> None:
    hour = 3_600_000_000
    assert last_start(0, 9 * hour) == 9 * hour - 300_000_000
    assert last_start(0, 600) == 540


@pytest.mark.parametrize("text", ["", "evenly", "0 per hour", "5 per week", "-1 per day", "5/hour", 500, None])
def test_other_spreads_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match='expected "even" or a rate such as "500 per hour"'):
        parse_spread(text)
