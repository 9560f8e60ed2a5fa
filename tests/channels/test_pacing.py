"""Pace: rates, rests and second tries, on a clock the test turns."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.pacing import BACKOFF_CAP_S, Breaker, TokenBucket, backoff_s


@given(
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 5)), min_size=1, max_size=200),
    st.sampled_from([1.0, 10.0, 333.0]),
)
def test_no_second_ever_sees_more_than_the_rate_and_its_burst(arrivals: list[tuple[float, int]], rate: float) -> None:
    bucket, now, sent = TokenBucket(rate), 0.0, []
    for gap, weight in arrivals:
        now += gap
        sent.append((now + bucket.reserve(weight, now_s=now), weight))

    for start, _ in sent:
        inside = [weight for at, weight in sent if start <= at < start + 1.0]
        assert sum(inside) <= rate * 1.05 + max(inside) + 1e-6


def test_a_busy_bucket_reaches_its_rate() -> None:
    bucket = TokenBucket(100.0)

    waits = [bucket.reserve(1, now_s=0.0) for _ in range(1_000)]

    assert waits[0] == 0.0
    assert waits[-1] == pytest.approx(9.94)


def test_a_pause_holds_everybody_and_a_shorter_one_shortens_nothing() -> None:
    bucket = TokenBucket(100.0)
    bucket.pause(7.0, now_s=100.0)
    bucket.pause(1.0, now_s=100.0)

    assert bucket.reserve(1, now_s=101.0) == pytest.approx(6.0)


def test_a_rate_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(0.0)


def test_a_breaker_opens_when_half_of_the_attempts_fail() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.record("accepted", now_s=0.0)
        breaker.record("permanent", now_s=0.0)
    for number in range(19):
        breaker.record("unknown", now_s=0.0)
        assert breaker.admits(now_s=0.0), number

    breaker.record("transient", now_s=0.0)

    assert not breaker.admits(now_s=0.0)
    assert breaker.state == "open"
    assert breaker.reason == "20 of the last 40 attempts failed"


def test_old_attempts_are_forgotten() -> None:
    breaker = Breaker()
    for _ in range(500):
        breaker.record("accepted", now_s=0.0)
    for _ in range(25):
        breaker.record("unknown", now_s=0.0)

    assert not breaker.admits(now_s=0.0)


def test_a_few_failures_alone_do_not_open_it() -> None:
    breaker = Breaker()
    for _ in range(19):
        breaker.record("unknown", now_s=0.0)

    assert breaker.admits(now_s=0.0)


def test_an_open_breaker_lets_one_probe_through_and_its_success_closes_it() -> None:
    breaker = Breaker(rest_s=30.0)
    breaker.trip("20003", now_s=0.0)

    assert not breaker.admits(now_s=29.9)
    assert [breaker.admits(now_s=30.0) for _ in range(50)].count(True) == 1
    assert breaker.state == "probing"
    breaker.record("accepted", now_s=31.0)
    assert breaker.state == "closed"
    assert breaker.reason is None
    assert all(breaker.admits(now_s=31.0) for _ in range(50))


def test_a_failed_probe_doubles_the_rest() -> None:
    breaker = Breaker(rest_s=30.0, longest_rest_s=100.0)
    breaker.trip("20003", now_s=0.0)
    now, rests = 0.0, []
    for _ in range(4):
        start = now
        while not breaker.admits(now_s=now):
            now += 1.0
        rests.append(now - start)
        breaker.record("unknown", now_s=now)

    assert rests == [30.0, 60.0, 100.0, 100.0]
    assert breaker.reason == "20003"


def test_a_probe_that_never_reports_makes_room_for_another() -> None:
    breaker = Breaker(rest_s=30.0)
    breaker.trip("20003", now_s=0.0)

    assert breaker.admits(now_s=30.0)
    assert not breaker.admits(now_s=59.0)
    assert breaker.admits(now_s=60.0)


def test_results_that_arrive_late_do_not_close_an_open_breaker() -> None:
    breaker = Breaker()
    breaker.trip("20003", now_s=0.0)
    breaker.record("accepted", now_s=1.0)

    assert breaker.state == "open"


@given(st.integers(1, 1_000), st.integers(0, 2**32), st.none() | st.floats(0, 900))
def test_the_second_try_keeps_between_floor_and_cap(attempt: int, seed: int, retry_after: float | None) -> None:
    wait = backoff_s(attempt, rng=random.Random(seed), retry_after_s=retry_after)

    assert (retry_after or 0.0) <= wait <= max(BACKOFF_CAP_S, (retry_after or 0.0) * 1.2)
    assert attempt > 1 or wait <= max(2.0, (retry_after or 0.0) * 1.2)
