"""All providers against the simulator: what is sent once, and what every kind of fault is taken for."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest

from channels.departure import leaving_while
from channels.message import Channel, Email, Push, Sms
from channels.provider import Provider
from channels.simulators.faults import FaultPlan
from channels.simulators.http import Response, json_response
from channels.simulators.server import Simulator
from tests.channels.sending import PROVIDERS, Make, address_of, closed_port, send


@pytest.mark.parametrize("channel", PROVIDERS)
def test_what_is_accepted_is_accepted_once_under_its_key(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, channel: Channel
) -> None:
    provider = PROVIDERS[channel](base)
    messages = [outgoing(channel, key=f"x1/C{n}/0", address=address_of(channel, n)) for n in range(40)]

    results = send(provider, messages, now)

    assert isinstance(provider, Provider)
    assert provider.channel == channel
    assert [(r.key, r.outcome) for r in results] == [(m.key, "accepted") for m in messages]
    taken = {t.key: t for t in simulator.book.accepted}
    assert len(simulator.book.accepted) == 40
    assert all(taken[m.key].recipient == m.address.value for m in messages)
    assert all(taken[r.key].provider_id == r.provider_id for r in results)


@pytest.mark.parametrize("channel", PROVIDERS)
@pytest.mark.parametrize(
    ("fault", "outcome", "accepted"),
    [
        ("too_many", "transient", 0),
        ("error_500", "unknown", 0),
        ("error_502_html", "unknown", 0),
        ("error_503_accepted", "unknown", 1),
        ("unauthorised", "transient", 0),
        ("hang_before", "unknown", 0),
        ("hang_accepted", "unknown", 1),
        ("reset_before", "unknown", 0),
        ("reset_accepted", "unknown", 1),
        ("closed_accepted", "unknown", 1),
        ("html_accepted", "unknown", 1),
        ("late_accepted", "unknown", 1),
        ("slow_drip", "unknown", 1),
    ],
)
def test_every_fault_is_taken_for_what_it_is_and_nothing_is_sent_twice(
    simulator: Simulator,
    base: str,
    outgoing: Make,
    now: datetime,
    channel: Channel,
    fault: str,
    outcome: str,
    accepted: int,
) -> None:
    simulator.plan = FaultPlan(by_number={1: fault})

    [result] = send(PROVIDERS[channel](base), [outgoing(channel)], now)

    assert (result.outcome, len(simulator.requests)) == (outcome, 1)
    assert len(simulator.book.accepted) == accepted
    assert outgoing(channel).address.value not in str(result)
    assert result.action == ("halt" if fault == "unauthorised" else None)
    if fault == "too_many":
        assert result.retry_after_s == (10.0 if channel == "push" else 7.0)


@pytest.mark.parametrize(
    ("channel", "fault"),
    [("sms", "empty_accepted"), ("push", "empty_accepted"), ("sms", "cut_accepted"), ("push", "cut_accepted")],
)
def test_an_answer_without_its_content_is_in_doubt(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, channel: Channel, fault: str
) -> None:
    simulator.plan = FaultPlan(by_number={1: fault})

    [result] = send(PROVIDERS[channel](base), [outgoing(channel)], now)

    assert result.outcome == "unknown"
    assert len(simulator.book.accepted) == 1


@pytest.mark.parametrize("channel", PROVIDERS)
def test_a_request_that_cannot_leave_is_tried_later(outgoing: Make, now: datetime, channel: Channel) -> None:
    [result] = send(PROVIDERS[channel](closed_port()), [outgoing(channel)], now)

    assert (result.outcome, result.code) == ("transient", "connect")


@pytest.mark.parametrize("channel", PROVIDERS)
def test_a_provider_works_again_after_closing_in_another_event_loop(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, channel: Channel
) -> None:
    provider = PROVIDERS[channel](base)

    outcomes = [send(provider, [outgoing(channel, key=key)], now)[0].outcome for key in ("a", "b")]
    outcomes.append(asyncio.run(provider.send([outgoing(channel, key="c")], now=now))[0].outcome)
    outcomes += [send(provider, [outgoing(channel, key="d")], now)[0].outcome]

    assert outcomes == ["accepted"] * 4


@pytest.mark.parametrize("channel", PROVIDERS)
def test_nothing_to_send_sends_nothing(simulator: Simulator, base: str, now: datetime, channel: Channel) -> None:
    assert send(PROVIDERS[channel](base), [], now) == []
    assert simulator.requests == []


@pytest.mark.parametrize("channel", PROVIDERS)
def test_a_message_of_another_kind_is_refused_here(base: str, outgoing: Make, now: datetime, channel: Channel) -> None:
    wrong = Push("a", "b") if channel == "sms" else Sms("a")

    [result] = send(PROVIDERS[channel](base), [outgoing(channel, content=wrong)], now)

    assert (result.outcome, result.code) == ("permanent", "malformed")


@pytest.mark.parametrize("channel", PROVIDERS)
def test_a_server_error_says_when_to_come_back_and_its_rate_limit_does_not(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, channel: Channel
) -> None:
    later = str(int(now.timestamp()) + 3_600)
    part = {"sms": simulator.twilio, "email": simulator.sendgrid, "push": simulator.fcm}[channel]
    for headers, wait_s in (({"Retry-After": "30"}, 30.0), ({"X-RateLimit-Reset": later}, None)):
        part.refuse = lambda _, headers=headers: json_response(503, {}, headers)  # type: ignore[attr-defined]  # any answer

        [result] = send(PROVIDERS[channel](base), [outgoing(channel)], now)

        assert (result.outcome, result.code, result.retry_after_s) == ("unknown", "http_503", wait_s)


@pytest.mark.parametrize("channel", PROVIDERS)
def test_a_message_whose_time_is_over_by_its_turn_does_not_leave(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, channel: Channel
) -> None:
    texts = {"sms": Sms("other"), "email": Email("other", "<p>x</p>", "x"), "push": Push("other", "x")}
    early, late = outgoing(channel, key="early"), outgoing(channel, key="late", content=texts[channel])
    with leaving_while(lambda: True, lambda keys: "late" not in keys):
        results = send(PROVIDERS[channel](base), [early, late], now)

    assert [(r.outcome, r.code, r.action) for r in results] == [
        ("accepted", None, None),
        ("transient", "hours_over", None),
    ]
    assert [taken.key for taken in simulator.book.accepted] == ["early"]


def test_what_leaves_late_in_a_batch_is_given_less_time(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = count(step=60)
    monkeypatch.setattr("channels.departure.time", SimpleNamespace(monotonic=lambda: next(passed)))
    ends = now + timedelta(seconds=100)
    send(PROVIDERS["sms"](base), [outgoing("sms", key=f"k{n}", expires_at=ends) for n in range(3)], now)
    assert sorted(int(r.form["ValidityPeriod"]) for r in simulator.requests) == [1, 1, 40]
    simulator.requests.clear()
    send(PROVIDERS["push"](base), [outgoing("push", key=f"k{n}", expires_at=ends) for n in range(3)], now)
    lives = [json.loads(r.body)["message"]["android"]["ttl"] for r in simulator.requests]
    assert sorted(lives) == ["1s", "1s", "40s"]


@pytest.mark.parametrize("channel", PROVIDERS)
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b"\xff", b"null", b'"\\ud800"'])
def test_an_answer_that_is_none_leaves_its_message_in_doubt_and_stops_no_other(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, channel: Channel, status: int, body: bytes
) -> None:
    part = {"sms": simulator.twilio, "email": simulator.sendgrid, "push": simulator.fcm}[channel]
    part.refuse = lambda _: Response(status, body)  # type: ignore[attr-defined]  # any answer

    [result] = send(PROVIDERS[channel](base), [outgoing(channel)], now)

    assert result.outcome == "unknown"
