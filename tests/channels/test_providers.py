"""The providers against the simulator: what is sent, and what every kind of answer is taken for."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from html import escape
from typing import Any

import pytest

from channels.errors import ChannelError
from channels.message import Address, Channel, Email, Outgoing, Push, SharedEmail, Sms
from channels.provider import Provider, SendResult
from channels.providers.email_sendgrid import SendGridAccount, SendGridProvider, mail_body, request_id
from channels.providers.push_fcm import FcmProject, FcmProvider, FixedToken, ServiceAccountToken
from channels.providers.sms_twilio import TwilioAccount, TwilioProvider
from channels.simulators.faults import FaultPlan
from channels.simulators.http import Request, Response, json_response
from channels.simulators.server import Simulator, running
from channels.wire import NotSent, Wire, WireLimits

Make = Callable[..., Outgoing]
TIGHT = WireLimits(connections=16, total_s=1.0, connect_s=0.9)  # shorter than the simulator is late
ROOMY = WireLimits(connections=16, total_s=30.0, connect_s=10.0)


@pytest.fixture
def simulator(now: datetime) -> Simulator:
    return Simulator(clock=lambda: now)


@pytest.fixture
def base(simulator: Simulator) -> Iterator[str]:
    with running(simulator) as address:
        yield address


def twilio(base: str, **changes: str | None) -> TwilioProvider:
    fields = {
        "messaging_service_sid": "MG" + "1" * 32,
        "status_callback": "https://hooks.example/twilio",
        "base_url": base,
        **changes,
    }
    return TwilioProvider(TwilioAccount("AC" + "0" * 32, **{"auth_token": "token", **fields}), wire=Wire(TIGHT))  # type: ignore[arg-type]  # all of them are texts


def sendgrid(base: str, *, limits: WireLimits = TIGHT, **changes: object) -> SendGridProvider:
    fields: dict[str, object] = {"api_key": "SG.key", "sender": "news@shop.example", "base_url": base, **changes}
    return SendGridProvider(SendGridAccount(**fields), wire=Wire(limits))  # type: ignore[arg-type]  # named as the fields are


def fcm(base: str, token: str = "access") -> FcmProvider:
    return FcmProvider(FcmProject("shop", FixedToken(token), base_url=base), wire=Wire(TIGHT))


PROVIDERS: dict[Channel, Callable[[str], Provider]] = {"sms": twilio, "email": sendgrid, "push": fcm}


def send(provider: Provider, messages: Sequence[Outgoing], now: datetime) -> list[SendResult]:
    async def run() -> list[SendResult]:
        try:
            return await provider.send(messages, now=now)
        finally:
            await provider.close()

    return asyncio.run(run())


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", PROVIDERS)
def test_what_is_accepted_is_accepted_once_under_its_key(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, channel: Channel
) -> None:
    provider = PROVIDERS[channel](base)
    messages = [outgoing(channel, key=f"x1/C{n}/0", address=_address(channel, n)) for n in range(40)]

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


def _address(channel: Channel, n: int) -> Address:
    return Address(channel, {"sms": f"+1500555{n:04d}", "email": f"c{n}@example.com", "push": f"token-{n}"}[channel])


# --- Twilio ---------------------------------------------------------------------------------------------------------


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
    simulator: Simulator,
    base: str,
    outgoing: Make,
    now: datetime,
    status: int,
    body: object,
    outcome: str,
    code: str | None,
    action: str | None,
) -> None:
    simulator.twilio.refuse = lambda _: json_response(status, body)  # type: ignore[method-assign]  # any answer of Twilio's

    [result] = send(twilio(base), [outgoing("sms")], now)

    assert (result.outcome, result.code, result.action) == (outcome, code, action)


def test_an_accepted_sms_in_doubt_is_found_again(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    simulator.plan = FaultPlan(by_number={1: "hang_accepted", 3: "reset_before"})
    provider = twilio(base)
    message, other = outgoing("sms"), outgoing("sms", content=Sms("something else"))

    async def ask(wanted: Outgoing, since: datetime, others: Collection[str] = ()) -> SendResult | None:
        try:
            return await provider.find(wanted, since=since, others=others)
        finally:
            await provider.close()

    assert send(provider, [message], now)[0].outcome == "unknown"
    assert asyncio.run(ask(message, now)) == SendResult(
        "x1/C1/0", "accepted", provider_id=simulator.book.accepted[0].provider_id
    )
    smart = outgoing("sms", content=Sms("Hello\u2009你好…"))  # as Smart Encoding may have been given it
    assert asyncio.run(ask(smart, now)) is not None
    assert asyncio.run(ask(other, now, [simulator.book.accepted[0].provider_id])) is None
    assert asyncio.run(ask(message, now + timedelta(minutes=1))) is None
    simulator.twilio.auth_token = "another"
    with pytest.raises(ChannelError, match="cannot be asked") as caught:
        asyncio.run(ask(message, now))
    assert "+1500" not in str(caught.value)


def test_another_text_to_the_number_leaves_the_doubt(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    """The template was mended after the attempt: what Twilio took reads differently from what would be sent now."""
    provider = twilio(base)
    mended = outgoing("sms", content=Sms("Hello again 你好"))

    async def ask(others: Collection[str]) -> SendResult | None:
        try:
            return await provider.find(mended, since=now, others=others)
        finally:
            await provider.close()

    send(provider, [outgoing("sms")], now)
    result = asyncio.run(ask(()))
    assert result is not None
    assert (result.outcome, result.code) == ("unknown", "other_text")
    assert asyncio.run(ask([simulator.book.accepted[0].provider_id])) is None


def test_a_list_that_is_cut_off_does_not_say_that_nothing_was_taken(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    provider = twilio(base)
    others = [outgoing("sms", key=f"k{n}", content=Sms(f"number {n}")) for n in range(50)]

    async def ask() -> SendResult | None:
        await provider.send(others, now=now)
        known = [taken.provider_id for taken in simulator.book.accepted]
        found = await provider.find(outgoing("sms"), since=now, others=known)
        await provider.close()
        return found

    result = asyncio.run(ask())

    assert result is not None
    assert (result.outcome, result.code) == ("unknown", "too_many")


def test_a_twilio_account_needs_one_sender_and_shows_no_token() -> None:
    with pytest.raises(ChannelError, match="either messaging_service_sid or sender"):
        TwilioAccount("AC1", "secret")
    with pytest.raises(ChannelError, match="not both"):
        TwilioAccount("AC1", "secret", messaging_service_sid="MG1", sender="+1")
    assert "secret" not in repr(TwilioAccount("AC1", "secret", sender="+1"))


# --- SendGrid -------------------------------------------------------------------------------------------------------


def test_messages_of_one_content_travel_together_and_nobody_sees_the_others(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    messages = [
        outgoing(
            "email",
            key=f"k{n}",
            address=_address("email", n),
            headers={"List-Unsubscribe": f"<https://u.example/{n}>", "Subject": "no"},
        )
        for n in range(2_100)
    ]
    messages += [outgoing("email", key="other", content=Email("Other", "<p>o</p>", "o"))]

    provider = sendgrid(base, limits=ROOMY, reply_to="care@shop.example", asm_group_id=7, sender_name="Shop")
    results = send(provider, messages, now)

    assert {r.outcome for r in results} == {"accepted"}
    assert [r.key for r in results] == [m.key for m in messages]
    assert sorted(len(r.json()["personalizations"]) for r in simulator.requests) == [1, 100, 1_000, 1_000]
    assert {taken.details["recipients"] for taken in simulator.book.accepted} == {1}
    body = next(r.json() for r in simulator.requests if len(r.json()["personalizations"]) == 100)
    first = body["personalizations"][0]
    assert first["headers"] == {"List-Unsubscribe": "<https://u.example/2000>"}
    assert first["custom_args"] == {
        "message_key": "k2000",
        "request_id": request_id(f"k{n}" for n in range(2_000, 2_100)),
    }
    assert (body["from"], body["reply_to"], body["asm"]) == (
        {"email": "news@shop.example", "name": "Shop"},
        {"email": "care@shop.example"},
        {"group_id": 7},
    )
    assert body["tracking_settings"] == {"subscription_tracking": {"enable": False}}
    assert [part["type"] for part in body["content"]] == ["text/plain", "text/html"]


def test_one_address_twice_goes_into_two_requests(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    messages = [
        outgoing("email", key="a"),
        outgoing("email", key="b", address=Address("email", "ANN@example.com")),
        outgoing("email", key="c", address=_address("email", 1)),
    ]

    assert {r.outcome for r in send(sendgrid(base), messages, now)} == {"accepted"}
    assert sorted(len(r.json()["personalizations"]) for r in simulator.requests) == [1, 2]


def test_those_a_refusal_names_fail_and_the_others_are_sent(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    simulator.sendgrid.refused = {"c3@example.com", "c5@example.com"}
    messages = [outgoing("email", key=f"k{n}", address=_address("email", n)) for n in range(8)]

    results = send(sendgrid(base), messages, now)

    assert [r.outcome for r in results] == ["permanent" if n in (3, 5) else "accepted" for n in range(8)]
    assert len(simulator.book.accepted) == 6
    assert len(simulator.requests) == 2


def test_when_all_are_named_nothing_is_left_to_send(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    simulator.sendgrid.refused = {"ann@example.com"}

    [result] = send(sendgrid(base), [outgoing("email")], now)

    assert (result.outcome, len(simulator.requests)) == ("permanent", 1)


def test_a_request_that_is_too_large_is_halved(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    def small_only(request: Request) -> Response | None:
        return (
            json_response(413, {"errors": [{"message": "too large"}]})
            if len(request.json()["personalizations"]) > 2
            else None
        )

    simulator.sendgrid.refuse = small_only  # type: ignore[method-assign]  # a server with a small limit
    messages = [outgoing("email", key=f"k{n}", address=_address("email", n)) for n in range(7)]

    assert {r.outcome for r in send(sendgrid(base), messages, now)} == {"accepted"}
    assert len(simulator.book.accepted) == 7


def test_endless_refusals_end(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    simulator.sendgrid.refuse = lambda _: json_response(400, {"errors": [{"field": "personalizations.0.to.0.email"}]})  # type: ignore[method-assign]  # always the first

    results = send(
        sendgrid(base), [outgoing("email", key=f"k{n}", address=_address("email", n)) for n in range(20)], now
    )

    assert [r.outcome for r in results] == ["permanent"] * 10 + ["transient"] * 10
    assert len(simulator.requests) == 10


@pytest.mark.parametrize(
    "address", ["", "ann", "ann@", "ann@example", "a@b.example, c@d.example", "<a@b.example>", "a b@c.example"]
)
def test_an_address_that_is_none_is_refused_before_it_leaves(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, address: str
) -> None:
    results = send(
        sendgrid(base), [outgoing("email", address=Address("email", address)), outgoing("email", key="b")], now
    )

    assert [(r.outcome, r.code) for r in results] == [("permanent", "bad_address"), ("accepted", None)]


def test_a_line_break_in_a_header_never_leaves(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    messages = [
        outgoing("email", headers={"X-A": "a\r\nBcc: b@example.com"}),
        outgoing("email", key="b", content=Email("a\nb", "<p>", "x")),
    ]

    assert [(r.outcome, r.code) for r in send(sendgrid(base), messages, now)] == [("permanent", "malformed")] * 2
    assert simulator.requests == []


@pytest.mark.parametrize(
    ("status", "body", "outcome", "code", "action"),
    [
        (400, {"errors": [{"message": "x", "field": "from.email"}]}, "transient", "400", "halt"),
        (403, {"errors": [{"message": "x", "field": "from"}]}, "transient", "403", "halt"),
        (400, {"errors": [{"message": "x", "field": None}]}, "permanent", "400", None),
        (413, {"errors": [{"message": "x"}]}, "permanent", "413", None),
        (400, {"errors": "x"}, "unknown", "http_400", None),
        (400, "x", "unknown", "http_400", None),
        (301, {}, "unknown", "http_301", None),
        (200, {"odd": 1}, "unknown", "malformed_answer", None),
    ],
)
def test_every_answer_of_sendgrid_has_its_meaning(
    simulator: Simulator,
    base: str,
    outgoing: Make,
    now: datetime,
    status: int,
    body: object,
    outcome: str,
    code: str | None,
    action: str | None,
) -> None:
    simulator.sendgrid.refuse = lambda _: json_response(status, body)  # type: ignore[method-assign]  # any answer of SendGrid's

    [result] = send(sendgrid(base), [outgoing("email")], now)

    assert (result.outcome, result.code, result.action) == (outcome, code, action)


def test_the_sandbox_takes_everything_and_sends_nothing(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    assert send(sendgrid(base, sandbox=True), [outgoing("email")], now)[0].outcome == "accepted"
    assert simulator.book.accepted == []


def test_the_request_id_is_the_same_for_the_same_keys(outgoing: Make) -> None:
    account = SendGridAccount("secret", "news@shop.example")

    assert mail_body(account, [outgoing("email")]) == mail_body(account, [outgoing("email")])
    assert request_id(["a", "b"]) != request_id(["a", "c"])
    assert "secret" not in repr(account)


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


def shared(keys: Sequence[str], outgoing: Make, name: Callable[[str], str] = str) -> list[Outgoing]:
    """Messages of one text, made as the renderer makes them."""
    text = SharedEmail("Hi *retain-t000x", "<p>Hi *retain-h000x</p>", "Hi *retain-w000x")
    messages = []
    for number, key in enumerate(keys):
        value = name(key)
        values = {"*retain-t000x": value, "*retain-h000x": escape(value), "*retain-w000x": value}
        content = Email(f"Hi {value}", f"<p>Hi {escape(value)}</p>", f"Hi {value}", text, values)
        messages.append(outgoing("email", key=key, address=_address("email", number), content=content))
    return messages


def read(body: dict[str, Any], place: int) -> Email:
    """What SendGrid makes of a request for one of its recipients."""
    parts = [body["subject"], body["content"][1]["value"], body["content"][0]["value"]]
    for tag, value in body["personalizations"][place].get("substitutions", {}).items():
        parts = [part.replace(tag, value) for part in parts]
    return Email(*parts)


def test_emails_of_one_text_travel_together_with_what_differs(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    messages = shared([f"k<{n}>&" for n in range(1_203)], outgoing)

    assert {r.outcome for r in send(sendgrid(base), messages, now)} == {"accepted"}

    bodies = sorted((request.json() for request in simulator.requests), key=lambda body: len(body["personalizations"]))
    assert [len(body["personalizations"]) for body in bodies] == [203, 1_000]
    assert [read(bodies[1], place) for place in range(1_000)] == [message.content for message in messages[:1_000]]
    assert {taken.body for taken in simulator.book.accepted} == {f"Hi k<{n}>&" for n in range(1_203)}


def test_values_too_large_for_substitutions_give_a_body_of_its_own(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    messages = shared(["a", "b", "c"], outgoing, lambda key: key * (5_000 if key == "b" else 1))

    assert {r.outcome for r in send(sendgrid(base), messages, now)} == {"accepted"}

    sizes = sorted((len(request.json()["personalizations"]), read(request.json(), 0)) for request in simulator.requests)
    assert [size for size, _ in sizes] == [1, 2]
    assert sizes[0][1] == messages[1].content
    assert "substitutions" not in simulator.requests[-1].json()["personalizations"][0]


def test_a_recipient_is_written_as_the_official_helper_writes_one(outgoing: Make) -> None:
    from sendgrid.helpers import mail as helpers

    account, headers = SendGridAccount("k", "news@shop.example"), {"X-A": "1", "Reply-To": "never"}
    [message] = shared(["k"], outgoing)
    message = replace(message, headers=headers)

    one = helpers.Personalization()
    one.add_to(helpers.To("c0@example.com"))
    one.add_header(helpers.Header("X-A", "1"))
    for tag, value in message.content.values.items():  # type: ignore[union-attr]  # an e-mail
        one.add_substitution(helpers.Substitution(tag, value))
    one.add_custom_arg(helpers.CustomArg("message_key", "k"))
    one.add_custom_arg(helpers.CustomArg("request_id", request_id(["k"])))
    assert mail_body(account, [message])["personalizations"] == [one.get()]


def find(provider: SendGridProvider, message: Outgoing, since: datetime) -> SendResult | None:
    async def run() -> SendResult | None:
        try:
            return await provider.find(message, since=since)
        finally:
            await provider.close()

    return asyncio.run(run())


def test_what_is_in_doubt_is_found_in_the_logs_by_its_key(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    provider = sendgrid(base, email_logs=True)
    simulator.plan = FaultPlan(by_number={2: "reset_accepted"})
    messages = [outgoing("email", key=key) for key in ("first", "lost")]

    outcomes = [send(provider, [message], now)[0].outcome for message in messages]

    assert (outcomes, provider.capability) == (["accepted", "unknown"], "Q")
    assert sendgrid(base).capability == "N"
    assert find(provider, messages[1], now) == SendResult(
        "lost", "accepted", provider_id=simulator.book.accepted[1].details["sg_message_id"]
    )
    assert find(provider, outgoing("email", key="never"), now) is None
    assert find(provider, messages[1], now + timedelta(minutes=1)) is None
    assert len(simulator.book.accepted) == 2


def test_logs_that_cannot_be_read_are_an_error_without_an_address(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    for account in (sendgrid(base, api_key="SG.other"), sendgrid(closed_port())):
        with pytest.raises(ChannelError, match="cannot be asked") as caught:
            find(account, outgoing("email"), now)
        assert "ann@" not in str(caught.value)
    for answer in ([], {}, {"messages": 1}):
        simulator.sendgrid.accept = lambda _, answer=answer: json_response(200, answer)  # type: ignore[misc]  # any answer of SendGrid's
        with pytest.raises(ChannelError, match="cannot be asked"):
            find(sendgrid(base), outgoing("email"), now)


def test_a_log_that_is_cut_off_or_odd_does_not_say_that_nothing_was_taken(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    entries: list[object] = ["x", {}, {"sg_message_id": ""}]
    simulator.sendgrid.accept = lambda _: json_response(200, {"messages": entries})  # type: ignore[method-assign]  # any answer of SendGrid's

    assert find(sendgrid(base), outgoing("email"), now) is None
    entries *= 40
    result = find(sendgrid(base), outgoing("email"), now)

    assert result is not None
    assert (result.outcome, result.code) == ("unknown", "too_many")


# --- FCM ------------------------------------------------------------------------------------------------------------


def test_a_notification_carries_key_tag_and_life(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    send(fcm(base), [outgoing("push", expires_at=now + timedelta(hours=1))], now)

    message = simulator.requests[0].json()["message"]
    tag = message["android"]["notification"]["tag"]
    assert message["token"] == "token-1"
    assert message["notification"] == {"title": "Hello", "body": "你好"}
    assert message["data"] == {"code": "BACK10", "message_key": "x1/C1/0"}
    assert message["android"]["ttl"] == "3600s"
    assert message["apns"]["headers"] == {"apns-collapse-id": tag, "apns-expiration": str(int(now.timestamp()) + 3_600)}
    assert message["webpush"] == {"headers": {"TTL": "3600", "Topic": tag}, "notification": {"tag": tag}}


def test_an_expired_notification_stays(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    [result] = send(fcm(base), [outgoing("push", expires_at=now)], now)

    assert (result.outcome, result.code) == ("permanent", "expired")
    assert simulator.requests == []


def test_a_removed_app_is_to_be_suppressed(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    simulator.fcm.gone.add("token-1")

    [result] = send(fcm(base), [outgoing("push")], now)

    assert (result.outcome, result.code, result.action) == ("permanent", "UNREGISTERED", "suppress")


@pytest.mark.parametrize(
    ("status", "body", "outcome", "code", "action"),
    [
        (
            400,
            {"error": {"status": "INVALID_ARGUMENT", "details": ["x", {"a": 1}]}},
            "permanent",
            "INVALID_ARGUMENT",
            None,
        ),
        (
            403,
            {"error": {"status": "PERMISSION_DENIED", "details": [{"errorCode": "SENDER_ID_MISMATCH"}]}},
            "permanent",
            "SENDER_ID_MISMATCH",
            "suppress",
        ),
        (403, {"error": {"status": "PERMISSION_DENIED"}}, "transient", "PERMISSION_DENIED", "halt"),
        (
            429,
            {"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"errorCode": "QUOTA_EXCEEDED"}]}},
            "transient",
            "QUOTA_EXCEEDED",
            None,
        ),
        (404, {"error": "x"}, "unknown", "http_404", None),
        (404, {"error": {"status": 5}}, "unknown", "http_404", None),
        (400, [], "unknown", "http_400", None),
        (302, {}, "unknown", "http_302", None),
        (200, {"name": "x"}, "unknown", "malformed_answer", None),
        (201, {}, "unknown", "http_201", None),
    ],
)
def test_every_answer_of_fcm_has_its_meaning(
    simulator: Simulator,
    base: str,
    outgoing: Make,
    now: datetime,
    status: int,
    body: object,
    outcome: str,
    code: str | None,
    action: str | None,
) -> None:
    simulator.fcm.refuse = lambda _: json_response(status, body)  # type: ignore[method-assign]  # any answer of FCM's

    [result] = send(fcm(base), [outgoing("push")], now)

    assert (result.outcome, result.code, result.action) == (outcome, code, action)


@pytest.fixture(scope="module")
def private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def test_a_service_account_gets_a_token_and_keeps_it_until_it_nears_its_end(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, private_key: str
) -> None:
    wire = Wire(TIGHT)
    source = ServiceAccountToken(
        {"client_email": "a@b.example", "private_key": private_key, "token_uri": f"{base}/token"}, wire=wire
    )
    provider = FcmProvider(FcmProject("shop", source, base_url=base), wire=wire)

    for minutes, key in [(0, "a"), (58, "b"), (60, "c")]:
        assert send(provider, [outgoing("push", key=key)], now + timedelta(minutes=minutes))[0].outcome == "accepted"

    asked = [request for request in simulator.requests if request.path == "/token"]
    assert len(asked) == 2
    import jwt

    claims = jwt.decode(asked[0].form["assertion"], options={"verify_signature": False})
    assert (claims["iss"], claims["iat"], claims["exp"] - claims["iat"]) == ("a@b.example", int(now.timestamp()), 3_600)


def test_without_a_token_nothing_leaves_and_the_project_halts(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, private_key: str
) -> None:
    wire = Wire(TIGHT)
    source = ServiceAccountToken(
        {"client_email": "a@b.example", "private_key": private_key, "token_uri": f"{base}/nothing"}, wire=wire
    )

    [result] = send(FcmProvider(FcmProject("shop", source, base_url=base), wire=wire), [outgoing("push")], now)

    assert (result.outcome, result.code, result.action) == ("transient", "no_token", "halt")
    with pytest.raises(NotSent):
        asyncio.run(source.token(now=now))
    assert simulator.book.accepted == []


def test_results_are_plain_and_hold_no_address(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    simulator.twilio.refuse = lambda _: json_response(
        400, {"code": 21211, "message": "The 'To' number +15005550006 is not valid"}
    )  # type: ignore[method-assign]  # its message names the number

    [result] = send(twilio(base), [outgoing("sms")], now)

    assert "15005550006" not in repr(result)
    assert json.dumps(result.reason)
