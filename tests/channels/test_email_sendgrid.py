"""E-mail by SendGrid against the simulator: who travels with whom, what every answer means, and what the logs say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from html import escape
from typing import Any

import pytest

from channels.errors import ChannelError
from channels.message import Address, Email, Outgoing, SharedEmail
from channels.provider import SendResult
from channels.providers.email_sendgrid import SendGridAccount, mail_body, request_id
from channels.simulators.faults import FaultPlan
from channels.simulators.http import Request, Response, json_response
from channels.simulators.server import Simulator
from tests.channels.sending import ROOMY, Answered, Make, address_of, closed_port, find, send, sendgrid


def test_messages_of_one_content_travel_together_and_nobody_sees_the_others(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    messages = [
        outgoing(
            "email",
            key=f"k{n}",
            address=address_of("email", n),
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
        outgoing("email", key="c", address=address_of("email", 1)),
    ]

    assert {r.outcome for r in send(sendgrid(base), messages, now)} == {"accepted"}
    assert sorted(len(r.json()["personalizations"]) for r in simulator.requests) == [1, 2]


def test_those_a_refusal_names_fail_and_the_others_are_sent(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    simulator.sendgrid.refused = {"c3@example.com", "c5@example.com"}
    messages = [outgoing("email", key=f"k{n}", address=address_of("email", n)) for n in range(8)]

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
    messages = [outgoing("email", key=f"k{n}", address=address_of("email", n)) for n in range(7)]

    assert {r.outcome for r in send(sendgrid(base), messages, now)} == {"accepted"}
    assert len(simulator.book.accepted) == 7


def test_endless_refusals_end(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    simulator.sendgrid.refuse = lambda _: json_response(400, {"errors": [{"field": "personalizations.0.to.0.email"}]})  # type: ignore[method-assign]  # always the first

    results = send(
        sendgrid(base), [outgoing("email", key=f"k{n}", address=address_of("email", n)) for n in range(20)], now
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
        (400, {"errors": [{"message": "x", "field": "asm.group_id"}]}, "transient", "400", "halt"),
        (400, {"errors": [{"message": "x", "field": "reply_to.email"}]}, "transient", "400", "halt"),
        (400, {"errors": [{"message": "x", "field": "content.0.value"}]}, "permanent", "400", None),
        (400, {"errors": [{"message": "x", "field": "personalizations"}]}, "permanent", "400", None),
        (404, {"errors": [{"message": "Not Found", "field": None}]}, "transient", "404", "halt"),
        (413, {"errors": [{"message": "x"}]}, "permanent", "413", None),
        (400, {"errors": "x"}, "unknown", "http_400", None),
        (400, "x", "unknown", "http_400", None),
        (301, {}, "unknown", "http_301", None),
        (200, {"odd": 1}, "unknown", "malformed_answer", None),
    ],
)
def test_every_answer_of_sendgrid_has_its_meaning(
    answered: Answered, status: int, body: object, outcome: str, code: str | None, action: str | None
) -> None:
    result = answered("email", status, body)

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


def shared(keys: Sequence[str], outgoing: Make, name: Callable[[str], str] = str) -> list[Outgoing]:
    """Messages of one text, made as the renderer makes them."""
    text = SharedEmail("Hi *retain-t000x", "<p>Hi *retain-h000x</p>", "Hi *retain-w000x")
    messages = []
    for number, key in enumerate(keys):
        value = name(key)
        values = {"*retain-t000x": value, "*retain-h000x": escape(value), "*retain-w000x": value}
        content = Email(f"Hi {value}", f"<p>Hi {escape(value)}</p>", f"Hi {value}", text, values)
        messages.append(outgoing("email", key=key, address=address_of("email", number), content=content))
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
