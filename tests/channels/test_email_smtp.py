"""E-mail over SMTP against a server of our own: what arrives, and what every answer and silence is taken for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from channels.departure import leaving_while
from channels.errors import ChannelError
from channels.message import Address, Email, Outgoing, Sms
from channels.provider import Provider, SendResult
from channels.providers.email_smtp import SmtpProvider, SmtpServer, message_id
from channels.simulators.smtp import SmtpSink, receiving
from channels.simulators.tls import make_certificate
from tests.channels.sending import Make, send

LINK = "<https://shop.example/u/" + "x" * 43 + ">"
HEADERS = {"List-Unsubscribe": LINK, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click", "To": "else@b.example"}


@pytest.fixture
def sink() -> SmtpSink:
    return SmtpSink()


@pytest.fixture
def port(sink: SmtpSink) -> Iterator[int]:
    with receiving(sink) as port:
        yield port


def smtp(port: int, **changes: Any) -> SmtpProvider:
    fields = {"port": port, "security": "none", "total_s": 5.0, "connections": 2, **changes}
    return SmtpProvider(SmtpServer("127.0.0.1", "news@shop.example", **fields))


def many(outgoing: Make, count: int) -> list[Outgoing]:
    return [outgoing("email", key=f"k{n}", address=Address("email", f"c{n}@b.example")) for n in range(count)]


def test_a_message_arrives_with_its_headers_and_both_parts(
    sink: SmtpSink, port: int, outgoing: Make, now: datetime
) -> None:
    content = Email("Grüße 你好", "<p>Hello <b>you</b> 你好</p>", ".dots\n..and 你好")
    provider = smtp(port, sender_name="Shop, the", reply_to="care@shop.example")

    [result] = send(provider, [outgoing("email", headers=HEADERS, content=content)], now)

    assert isinstance(provider, Provider)
    assert result == SendResult("x1/C1/0", "accepted", provider_id=message_id("x1/C1/0", "news@shop.example"))
    [mail] = sink.taken
    assert (mail.sender, mail.recipient) == ("news@shop.example", "ann@example.com")
    message = mail.message
    assert message["From"] == '"Shop, the" <news@shop.example>'
    assert (message["To"], message["Subject"]) == ("ann@example.com", "Grüße 你好")
    assert (message["Reply-To"], message["Message-ID"]) == ("care@shop.example", result.provider_id)
    assert message["List-Unsubscribe"] == LINK
    assert f"List-Unsubscribe: {LINK}\r\n".encode() in mail.data
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    plain, html = message.iter_parts()
    assert plain.get_content().replace("\r\n", "\n") == ".dots\n..and 你好\n"
    assert html.get_content().strip() == "<p>Hello <b>you</b> 你好</p>"
    assert mail.data.isascii()


def test_connections_are_kept_and_few(sink: SmtpSink, port: int, outgoing: Make, now: datetime) -> None:
    results = send(smtp(port), many(outgoing, 30), now)

    assert [(r.key, r.outcome) for r in results] == [(f"k{n}", "accepted") for n in range(30)]
    assert sorted(mail.recipient for mail in sink.taken) == sorted(f"c{n}@b.example" for n in range(30))
    assert sink.connections <= 2


def test_a_connection_that_went_stale_is_replaced(sink: SmtpSink, port: int, outgoing: Make, now: datetime) -> None:
    provider = smtp(port)

    async def run() -> list[SendResult]:
        first = await provider.send(many(outgoing, 1), now=now)
        sink.hang_up()
        second = await provider.send(many(outgoing, 1), now=now)
        await provider.close()
        return [*first, *second]

    assert [result.outcome for result in asyncio.run(run())] == ["accepted", "accepted"]
    assert (len(sink.taken), sink.connections) == (2, 2)


def test_it_works_again_in_another_event_loop(sink: SmtpSink, port: int, outgoing: Make, now: datetime) -> None:
    provider = smtp(port)

    outcomes = [asyncio.run(provider.send(many(outgoing, 1), now=now))[0].outcome for _ in range(2)]

    assert outcomes == ["accepted"] * 2
    assert send(provider, [], now) == []


@pytest.mark.parametrize(
    ("step", "answer", "outcome", "code", "action"),
    [
        ("at_rcpt", "550 5.1.1 ann@example.com nobody of that name", "permanent", "550 5.1.1", "suppress"),
        ("at_rcpt", "550 5.7.1 we do not like you", "permanent", "550 5.7.1", None),
        ("at_rcpt", "550 no", "permanent", "550", None),
        ("at_rcpt", "450 4.2.0 greylisted", "transient", "450 4.2.0", None),
        ("at_rcpt", "drop", "transient", "disconnected", None),
        ("at_data", "451 4.3.0 later", "transient", "451 4.3.0", None),
        ("at_data", "554 5.6.0 never", "permanent", "554 5.6.0", None),
        ("at_data", "drop", "unknown", "disconnected", None),
        ("after_data", "452 4.3.1 full", "transient", "452 4.3.1", None),
        ("after_data", "554 5.7.1 spam", "permanent", "554 5.7.1", None),
        ("after_data", "299 odd", "unknown", "299", None),
        ("after_data", "drop", "unknown", "disconnected", None),
        ("after_data", "taken drop", "unknown", "disconnected", None),
    ],
)
def test_every_answer_has_its_meaning(
    sink: SmtpSink,
    port: int,
    outgoing: Make,
    now: datetime,
    step: str,
    answer: str,
    outcome: str,
    code: str,
    action: str | None,
) -> None:
    setattr(sink, step, {"ann@example.com": answer})

    results = send(smtp(port, connections=1), [outgoing("email"), *many(outgoing, 1)], now)

    assert (results[0].outcome, results[0].code, results[0].action) == (outcome, code, action)
    assert "ann@" not in repr(results[0])
    assert results[1].outcome == "accepted"
    assert len(sink.taken) == 1 + (answer == "taken drop")


@pytest.mark.parametrize(("step", "outcome"), [("at_rcpt", "transient"), ("after_data", "unknown")])
def test_a_server_that_says_nothing_is_left_in_time(
    sink: SmtpSink, port: int, outgoing: Make, now: datetime, step: str, outcome: str
) -> None:
    setattr(sink, step, {"ann@example.com": "hang"})

    [result] = send(smtp(port, total_s=0.3), [outgoing("email")], now)

    assert (result.outcome, result.code) == (outcome, "timeout")


@pytest.mark.parametrize(
    ("field", "answer", "code", "action"),
    [
        ("at_mail", "550 5.7.1 not your sender", "550 5.7.1", "halt"),
        ("at_mail", "421 4.7.0 too much", "421 4.7.0", None),
        ("greeting", "554 5.7.1 go away", "554", None),
    ],
)
def test_a_server_that_does_not_want_us_is_tried_later(
    sink: SmtpSink, port: int, outgoing: Make, now: datetime, field: str, answer: str, code: str, action: str | None
) -> None:
    setattr(sink, field, answer)

    [result] = send(smtp(port), [outgoing("email")], now)

    assert (result.outcome, result.code, result.action) == ("transient", code, action)
    assert sink.taken == []


def test_a_server_that_is_not_there_is_tried_later(outgoing: Make, now: datetime) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    [result] = send(smtp(port), [outgoing("email")], now)

    assert (result.outcome, result.code) == ("transient", "connect")


def test_mail_and_password_go_over_an_encrypted_connection(outgoing: Make, now: datetime) -> None:
    certificate = make_certificate(now)
    sink = SmtpSink(certificate, {"shop": "secret"})
    safe: dict[str, Any] = {"security": "starttls", "username": "shop", "trust": certificate.client_context()}
    with receiving(sink) as port:
        [good] = send(smtp(port, password="secret", **safe), [outgoing("email")], now)
        [wrong] = send(smtp(port, password="guess", **safe), [outgoing("email")], now)
        [stranger] = send(smtp(port, security="starttls"), [outgoing("email")], now)

    assert (good.outcome, sink.taken[0].is_encrypted, sink.taken[0].username) == ("accepted", True, "shop")
    assert (wrong.outcome, wrong.code, wrong.action) == ("transient", "535", "halt")
    assert (stranger.outcome, stranger.code, stranger.action) == ("transient", "tls", "halt")
    assert len(sink.taken) == 1
    assert "secret" not in repr(smtp(1, password="secret").server)


def test_a_server_without_starttls_gets_nothing(sink: SmtpSink, port: int, outgoing: Make, now: datetime) -> None:
    [result] = send(smtp(port, security="starttls"), [outgoing("email")], now)

    assert (result.outcome, result.code, result.action) == ("transient", "tls", "halt")
    assert sink.taken == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"address": Address("email", "a@b.example> SIZE=1\r\nRCPT TO:<c@d.example")}, "bad_address"),
        ({"address": Address("email", "ann")}, "bad_address"),
        ({"content": Sms("x")}, "malformed"),
        ({"content": Email("a\r\nBcc: x@b.example", "<p>", "x")}, "malformed"),
        ({"headers": {"X-A": "a\nBcc: x@b.example"}}, "malformed"),
    ],
)
def test_what_cannot_be_mail_never_leaves(
    sink: SmtpSink, port: int, outgoing: Make, now: datetime, changes: dict[str, Any], code: str
) -> None:
    [result] = send(smtp(port), [outgoing("email", **changes)], now)

    assert (result.outcome, result.code) == ("permanent", code)
    assert (sink.taken, sink.connections) == ([], 0)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ChannelError, match="security"):
        SmtpServer("h", "a@b.example", security="maybe")
    with pytest.raises(ChannelError, match="sender"):
        SmtpServer("h", "a\r\n@b.example")


def test_a_mail_whose_time_is_over_by_its_turn_does_not_leave(
    sink: SmtpSink, port: int, outgoing: Make, now: datetime
) -> None:
    with leaving_while(lambda: True, lambda keys: "k1" not in keys):
        results = send(smtp(port, connections=1), many(outgoing, 3), now)

    assert [(r.outcome, r.code) for r in results] == [
        ("accepted", None),
        ("transient", "hours_over"),
        ("accepted", None),
    ]
    assert len(sink.taken) == 2
