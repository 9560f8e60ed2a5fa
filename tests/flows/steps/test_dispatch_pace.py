"""Pace: pieces, waits, rests and probes of one worker, in a time of its own, over a ledger of each kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from channels.departure import running_clock
from channels.message import Address, Channel, Outgoing, Sms
from channels.provider import SendResult
from flows.steps.dispatch_pace import LEASE_S, Account, Pace, accounts_of
from flows.wiring import Workspace
from tests.warehouse.ledger.ledgers import ledger, postgres_ledger, postgres_ledger_url, sqlite_ledger, sqlite_template
from warehouse.ledger.engine import Ledger

from .conftest import Time

__all__ = ["ledger", "postgres_ledger", "postgres_ledger_url", "sqlite_ledger", "sqlite_template"]

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def message(n: int, text: str = "hi", channel: Channel = "sms") -> Outgoing:
    return Outgoing(f"x:1/C{n}/1", channel, f"C{n}", Address(channel, "+15005550006"), Sms(text))


def pace_of(ledger: Ledger, time: Time, worker: str = "w1", **rates: float | None) -> Pace:
    accounts = {channel: Account(f"{channel}:twilio", rate) for channel, rate in rates.items()}
    return Pace(ledger, worker, accounts, clock=time, sleep=time.sleep)


def said(messages: list[Outgoing], outcome: str, **more: object) -> list[SendResult]:
    return [SendResult(m.key, outcome, **more) for m in messages]  # type: ignore[arg-type]


def test_a_paced_channel_sends_a_quarter_of_a_seconds_worth_at_a_time_by_segments(ledger: Ledger) -> None:
    time = Time(START)
    pace = pace_of(ledger, time, sms=40.0, email=None)
    long = "x" * 200  # two segments
    sizes = [len(piece) for piece, _ in pace.slices("sms", [message(n, long) for n in range(50)])]
    assert sizes == [5] * 10
    assert time.gone_s == pytest.approx(9 * LEASE_S, abs=0.06)
    assert [len(piece) for piece, _ in pace.slices("email", [message(n) for n in range(50)])] == [50]


def test_a_message_heavier_than_its_share_still_leaves(ledger: Ledger) -> None:
    time = Time(START)
    pace = pace_of(ledger, time, sms=0.5)
    assert [len(piece) for piece, _ in pace.slices("sms", [message(n) for n in range(3)])] == [1, 1, 1]
    assert time.gone_s == pytest.approx(4.0, abs=0.1)


def test_two_workers_share_one_rate(ledger: Ledger) -> None:
    time = Time(START)
    one, other = (pace_of(ledger, time, worker, sms=40.0) for worker in ("w1", "w2"))
    for pace in (one, other, one, other):
        list(pace.slices("sms", [message(n) for n in range(40)]))
    assert time.gone_s == pytest.approx(4.0 - LEASE_S, abs=0.1)


def test_an_account_that_fails_rests_for_every_worker_and_is_tried_with_one_message(ledger: Ledger) -> None:
    time = Time(START)
    pace, other = pace_of(ledger, time, sms=None), pace_of(ledger, time, "w2", sms=None)
    messages = [message(n) for n in range(30)]
    for piece, _ in pace.slices("sms", messages):
        pace.learn("sms", said(piece, "unknown", code="timeout"))
    for worker in (pace, other):
        assert list(worker.slices("sms", messages)) == []
        assert worker.room() == {}
        assert worker.resting() == {"sms": "20 of the last 20 attempts failed"}
    time.sleep(31)
    assert pace.room() == other.room() == {"sms": 1}  # no more than what it is tried with
    pieces = []
    for piece, _ in pace.slices("sms", messages):
        pieces.append(len(piece))
        if len(pieces) == 1:
            assert list(other.slices("sms", messages)) == []
            assert other.room() == {}
        pace.learn("sms", said(piece, "accepted"))
    assert pieces == [1, 29]
    assert pace.resting() == other.resting() == {}
    assert pace.room() == other.room() == {"sms": None}


def test_an_account_rests_no_longer_than_its_rest(ledger: Ledger) -> None:
    """Nothing is due: nobody tries it, and nobody calls it resting for ever."""
    time = Time(START)
    pace = pace_of(ledger, time, sms=None)
    pace.learn("sms", said([message(0)], "transient", code="20003", reason="the account", action="halt"))
    assert pace.resting() == {"sms": "20003: the account"}
    time.sleep(31)
    assert pace.resting() == {}
    assert pace.room() == {"sms": 1}


def test_a_probe_whose_message_may_not_leave_is_made_with_the_next(ledger: Ledger) -> None:
    time = Time(START)
    pace = pace_of(ledger, time, sms=None)
    pace.learn("sms", said([message(0)], "transient", code="20003", reason="the account", action="halt"))
    time.sleep(31)
    tried = []
    for piece, _ in pace.slices("sms", [message(n) for n in range(5)]):
        tried.append([m.key for m in piece])
        if len(tried) == 2:  # the first was suppressed meanwhile: nothing was sent, nothing is learned
            pace.learn("sms", said(piece, "accepted"))
    assert [len(keys) for keys in tried] == [1, 1, 3]


def test_a_retry_after_holds_the_whole_account_for_every_worker(ledger: Ledger) -> None:
    time = Time(START)
    pace, other = pace_of(ledger, time, sms=100.0), pace_of(ledger, time, "w2", sms=100.0)
    pace.learn("sms", said([message(0)], "transient", code="429", retry_after_s=7.0))
    assert other.resting() == {"sms": "the provider asked to be left alone until 2026-03-02 09:00:07 UTC"}
    assert [waited for _, waited in other.slices("sms", [message(1)])] == [pytest.approx(7.0)]


def test_a_long_retry_after_sends_the_messages_back(ledger: Ledger) -> None:
    time = Time(START)
    pace = pace_of(ledger, time, sms=None, email=None)
    pace.learn("sms", said([message(0)], "transient", code="429", retry_after_s=700.0))
    assert list(pace.slices("sms", [message(1)])) == []
    assert pace.room() == {"email": None}
    assert time.gone_s == 0.0


def test_a_pause_reaches_the_worker_that_waits_for_its_turn(ledger: Ledger) -> None:
    """It has its tokens already when another worker is told to come back later: it uses them no sooner."""
    time = Time(START)
    other = pace_of(ledger, time, "w2", sms=4.0)

    class Interrupted(Time):
        def sleep(self, seconds: float) -> None:
            if not told:
                told.append(True)
                other.learn("sms", said([message(0)], "transient", code="429", retry_after_s=5.0))
            super().sleep(seconds)
            time.now = self.now

    told: list[bool] = []
    pace = pace_of(ledger, Interrupted(START), sms=4.0)
    waits = [waited for _, waited in pace.slices("sms", [message(1), message(2)])]
    assert waits == [0.0, pytest.approx(5.0, abs=0.3)]


def test_a_clock_that_ran_far_ahead_holds_nobody_up(ledger: Ledger) -> None:
    ahead, time = Time(START), Time(START)
    ahead.sleep(86_400)
    pace_of(ledger, ahead, sms=1.0).learn("sms", said([message(0)], "transient", code="429", retry_after_s=900.0))
    assert pace_of(ledger, time, sms=1.0).room() == {"sms": 60}


def test_every_channel_has_the_account_that_the_settings_name(shop: Callable[..., Workspace]) -> None:
    ws = shop(providers={"sms": "twilio", "twilio": {"rate_per_s": 10.0}})
    accounts = accounts_of(ws.settings)
    assert accounts["sms"] == Account("sms:twilio", 10.0)
    assert accounts["email"] == Account("email:local", None)


def test_a_run_at_another_instant_has_a_clock_that_goes_on_from_there() -> None:
    clock = running_clock(START)
    first = clock()
    assert START <= first <= clock() < START + timedelta(minutes=5)
