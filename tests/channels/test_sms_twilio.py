"""SMS by Twilio against the simulator: what is asked, what every answer means, and what is found again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from channels.errors import ChannelError
from channels.message import Address, Sms
from channels.provider import SendResult
from channels.providers.sms_twilio import TwilioAccount
from channels.simulators.faults import FaultPlan
from channels.simulators.http import json_response
from channels.simulators.server import Simulator
from tests.channels.sending import Answered, Make, find, send, twilio


def test_an_sms_request_says_all_it_must(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    send(twilio(base), [outgoing("sms", key="x1/C 1/0", expires_at=now + timedelta(hours=2))], now)

    [request] = simulator.requests
    assert request.form == {
        "To": "+15005550006",
        "Body": "Hello 你好",
        "MessagingServiceSid": "MG" + "1" * 32,
        "StatusCallback": "https://hooks.example/twilio?m=x1%2FC%201%2F0",
        "ValidityPeriod": "7200",
    }


def test_the_validity_never_passes_the_longest_and_an_expired_sms_stays(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    provider = twilio(base, messaging_service_sid=None, sender="+15005550001", status_callback="https://h.example/?a=1")

    results = send(
        provider, [outgoing("sms", expires_at=now + timedelta(days=3)), outgoing("sms", key="b", expires_at=now)], now
    )

    assert [(r.outcome, r.code) for r in results] == [("accepted", None), ("permanent", "expired")]
    [request] = simulator.requests
    assert (request.form["ValidityPeriod"], request.form["From"]) == ("36000", "+15005550001")
    assert request.form["StatusCallback"] == "https://h.example/?a=1&m=x1%2FC1%2F0"


@pytest.mark.parametrize("number", ["", "15005550006", "+0150055500", "+1 500 555", "+15005550006,+15005550007"])
def test_a_number_that_is_none_is_refused_before_it_leaves(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, number: str
) -> None:
    [result] = send(twilio(base), [outgoing("sms", address=Address("sms", number))], now)

    assert (result.outcome, result.code) == ("permanent", "bad_address")
    assert simulator.requests == []


@pytest.mark.parametrize("body", ["", "x" * 1_601])
def test_an_sms_that_is_empty_or_too_long_is_refused_before_it_leaves(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, body: str
) -> None:
    [result] = send(twilio(base), [outgoing("sms", content=Sms(body))], now)

    assert (result.outcome, result.code) == ("permanent", "malformed")
    assert simulator.requests == []


def test_who_said_stop_is_to_be_suppressed(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    simulator.twilio.stopped.add("+15005550006")

    [result] = send(twilio(base), [outgoing("sms")], now)

    assert (result.outcome, result.code, result.action) == ("permanent", "21610", "suppress")


@pytest.mark.parametrize(
    ("status", "body", "outcome", "code", "action"),
    [
        (400, {"code": 21614}, "permanent", "21614", "suppress"),
        (400, {"code": 21617}, "permanent", "21617", None),
        (400, {"code": 21606}, "transient", "21606", "halt"),
        (400, {"code": 21609}, "transient", "21609", "halt"),
        (400, {"code": 21703}, "transient", "21703", "halt"),
        (404, {"code": 20404}, "transient", "20404", "halt"),
        (400, {"code": 21702}, "transient", "21702", None),
        (400, {"code": 21612}, "permanent", "21612", None),
        (403, {"code": 21408}, "permanent", "21408", None),
        (400, {"code": 30001}, "transient", "30001", None),
        (403, {"code": 21610}, "permanent", "21610", "suppress"),
        (403, {}, "transient", "403", "halt"),
        (400, {}, "unknown", "http_400", None),
        (400, {"code": True}, "unknown", "http_400", None),
        (400, [], "unknown", "http_400", None),
        (302, {}, "unknown", "http_302", None),
        (201, {"sid": "SMshort"}, "unknown", "malformed_answer", None),
        (201, {"sid": "SM" + "a" * 32}, "accepted", None, None),
        (422, {"type": "a", "title": "b", "status": 422, "code": 21617}, "permanent", "21617", None),
    ],
)
def test_every_answer_of_twilio_has_its_meaning(
    answered: Answered, status: int, body: object, outcome: str, code: str | None, action: str | None
) -> None:
    result = answered("sms", status, body)

    assert (result.outcome, result.code, result.action) == (outcome, code, action)


def test_an_accepted_sms_in_doubt_is_found_again(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    simulator.plan = FaultPlan(by_number={1: "hang_accepted", 3: "reset_before"})
    provider = twilio(base)
    message, other = outgoing("sms"), outgoing("sms", content=Sms("something else"))

    assert send(provider, [message], now)[0].outcome == "unknown"
    assert find(provider, message, now) == SendResult(
        "x1/C1/0", "accepted", provider_id=simulator.book.accepted[0].provider_id
    )
    smart = outgoing("sms", content=Sms("Hello\u2009你好…"))  # as Smart Encoding may have been given it
    assert find(provider, smart, now) is not None
    assert find(provider, other, now, [simulator.book.accepted[0].provider_id]) is None
    assert find(provider, message, now + timedelta(minutes=1)) is None
    simulator.twilio.auth_token = "another"
    with pytest.raises(ChannelError, match="cannot be asked") as caught:
        find(provider, message, now)
    assert "+1500" not in str(caught.value)


def test_another_text_to_the_number_leaves_the_doubt(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    """The template was mended after the attempt: what Twilio took reads differently from what would be sent now."""
    provider = twilio(base)
    mended = outgoing("sms", content=Sms("Hello again 你好"))

    send(provider, [outgoing("sms")], now)
    result = find(provider, mended, now)
    assert result is not None
    assert (result.outcome, result.code) == ("unknown", "other_text")
    assert find(provider, mended, now, [simulator.book.accepted[0].provider_id]) is None


def test_a_list_that_is_cut_off_does_not_say_that_nothing_was_taken(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    provider = twilio(base)
    others = [outgoing("sms", key=f"k{n}", content=Sms(f"number {n}")) for n in range(50)]

    send(provider, others, now)
    result = find(provider, outgoing("sms"), now, [taken.provider_id for taken in simulator.book.accepted])

    assert result is not None
    assert (result.outcome, result.code) == ("unknown", "too_many")


def test_a_twilio_account_needs_one_sender_and_shows_no_token() -> None:
    with pytest.raises(ChannelError, match="either messaging_service_sid or sender"):
        TwilioAccount("AC1", "secret")
    with pytest.raises(ChannelError, match="not both"):
        TwilioAccount("AC1", "secret", messaging_service_sid="MG1", sender="+1")
    assert "secret" not in repr(TwilioAccount("AC1", "secret", sender="+1"))


def test_a_create_request_is_the_one_the_official_client_makes(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    from twilio.rest import Client

    official = Client("AC" + "0" * 32, "token")
    official.api.base_url = base
    official.messages.create(
        to="+15005550006",
        body="Hello 你好",
        messaging_service_sid="MG" + "1" * 32,
        status_callback="https://hooks.example/twilio?m=x1%2FC1%2F0",
        validity_period=60,
    )
    send(twilio(base), [outgoing("sms", expires_at=now + timedelta(seconds=60))], now)

    theirs, ours = simulator.requests
    assert (ours.method, ours.target, ours.form) == (theirs.method, theirs.target, theirs.form)
    for name in ("authorization", "content-type", "user-agent", "x-twilio-client", "accept"):
        assert ours.headers.get(name) == theirs.headers.get(name)


def test_results_are_plain_and_hold_no_address(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    simulator.twilio.refuse = lambda _: json_response(
        400, {"code": 21211, "message": "The 'To' number +15005550006 is not valid"}
    )  # type: ignore[method-assign]  # its message names the number

    [result] = send(twilio(base), [outgoing("sms")], now)

    assert "15005550006" not in repr(result)
    assert json.dumps(result.reason)
