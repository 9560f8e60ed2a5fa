"""The simulator: what it refuses, its ledger, its controls, its signatures, and the official clients against it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from channels.simulators.__main__ import main
from channels.simulators.faults import FAULTS, Fault, FaultPlan
from channels.simulators.http import HttpServer, Request, Response
from channels.simulators.receipts import Receipt, ReceiptPlan, inbound_sms, sendgrid_receipts
from channels.simulators.server import Simulator, running
from channels.simulators.twilio import sign_callback

ACCOUNT, MESSAGE = "AC" + "0" * 32, "SM" + "9" * 32


def ask(
    url: str, document: Any = None, *, data: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    body = data if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


# --- the official clients -------------------------------------------------------------------------------------------


def test_the_official_twilio_client_works_against_it(simulator: Simulator, base: str) -> None:
    from twilio.base.exceptions import TwilioRestException
    from twilio.rest import Client

    client = Client(ACCOUNT, "token")
    client.api.base_url = base

    created = client.messages.create(to="+15005550006", from_="+15005550001", body="Hi")
    client.messages.create(to="+15005550007", messaging_service_sid="MG" + "1" * 32, body="Ho")

    assert created.sid == simulator.book.accepted[0].provider_id
    assert client.messages(created.sid).fetch().body == "Hi"
    assert [m.body for m in client.messages.list(to="+15005550006")] == ["Hi"]
    assert len(client.messages.list()) == 2
    with pytest.raises(TwilioRestException) as caught:
        client.messages(MESSAGE).fetch()
    assert caught.value.code == 20404


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"to": "1", "from_": "+1500", "body": "x"}, 21211),
        ({"to": "+15005550006", "body": "x"}, 21603),
        ({"to": "+15005550006", "from_": "+1500"}, 21602),
        ({"to": "+15005550006", "from_": "+1500", "body": "x" * 1_601}, 21617),
        ({"to": "+15005550009", "from_": "+1500", "body": "x"}, 21610),
    ],
)
def test_it_refuses_what_twilio_refuses(simulator: Simulator, base: str, fields: dict[str, str], code: int) -> None:
    from twilio.base.exceptions import TwilioRestException
    from twilio.rest import Client

    simulator.twilio.stopped.add("+15005550009")
    client = Client(ACCOUNT, "token")
    client.api.base_url = base

    with pytest.raises(TwilioRestException) as caught:
        client.messages.create(**fields)
    assert caught.value.code == code


def test_the_official_sendgrid_client_works_against_it(simulator: Simulator, base: str) -> None:
    from python_http_client.exceptions import BadRequestsError, UnauthorizedError
    from sendgrid import SendGridAPIClient

    good = {
        "personalizations": [{"to": [{"email": "a@b.example"}], "custom_args": {"message_key": "k"}}],
        "subject": "s",
    }

    response = SendGridAPIClient("SG.key", host=base).client.mail.send.post(request_body=good)

    assert (response.status_code, response.headers["X-Message-Id"]) == (202, simulator.book.accepted[0].provider_id)
    for bad in ({}, {"personalizations": []}, {"personalizations": [{"to": [{"email": "nobody"}]}]}):
        with pytest.raises(BadRequestsError):
            SendGridAPIClient("SG.key", host=base).client.mail.send.post(request_body=bad)
    with pytest.raises(UnauthorizedError):
        SendGridAPIClient("SG.other", host=base).client.mail.send.post(request_body=good)


def test_it_refuses_what_fcm_refuses(simulator: Simulator, base: str) -> None:
    simulator.fcm.gone.add("old")
    url, key = f"{base}/v1/projects/shop/messages:send", {"Authorization": "Bearer access"}

    assert ask(url, {"message": {"token": "new"}}, headers=key)[0] == 200
    assert ask(url, {"message": {"token": "old"}}, headers=key)[0] == 404
    assert ask(url, {"message": {}}, headers=key)[0] == 400
    assert ask(url, data=b"{", headers=key)[0] == 400
    assert ask(url, {"message": {"token": "new", "data": {"a": "x" * 9_000}}}, headers=key)[0] == 400
    assert ask(url, {"message": {"token": "new"}})[0] == 401
    assert ask(f"{base}/token", data=b"grant_type=x")[0] == 400
    assert ask(f"{base}/v4/nothing")[0] == 404


# --- ledger and controls --------------------------------------------------------------------------------------------


def test_the_controls_show_the_ledger_plan_faults_and_start_over(simulator: Simulator, base: str) -> None:
    url, key = f"{base}/v1/projects/shop/messages:send", {"Authorization": "Bearer access"}
    message = {"message": {"token": "t", "data": {"message_key": "k"}}}
    for _ in range(2):
        ask(url, message, headers=key)

    status, ledger = ask(f"{base}/__sim/ledger")
    assert (status, ledger["duplicates"], len(ledger["accepted"])) == (200, {"k": 2}, 2)
    assert ledger["accepted"][0]["at"] == "2026-11-22T10:00:00+00:00"
    assert [r["target"] for r in ask(f"{base}/__sim/requests")[1]["requests"]] == [
        "/v1/projects/shop/messages:send"
    ] * 2
    assert (
        ask(f"{base}/__sim/plan", {"seed": 1, "by_number": {"1": "error_500"}, "by_recipient": {"t": "too_many"}})[0]
        == 200
    )
    assert [ask(url, message, headers=key)[0] for _ in range(2)] == [500, 429]
    assert ask(f"{base}/__sim/plan", {"rates": {"nonsense": 1}})[0] == 400
    assert ask(f"{base}/__sim/reset", {})[0] == 200
    assert ask(f"{base}/__sim/ledger")[1] == {"accepted": [], "duplicates": {}, "withdrawn": [], "faults": {}}
    assert ask(f"{base}/__sim/nothing")[0] == 404
    assert ask(url, message, headers=key)[0] == 200


def test_the_same_seed_gives_the_same_faults() -> None:
    rates = {"too_many": 0.1, "error_500": 0.1, "hang_before": 0.05}

    def drawn(seed: int) -> list[Fault | None]:
        plan = FaultPlan(seed, rates)
        return [plan.choose("x") for _ in range(400)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 0.15 < sum(fault is not None for fault in drawn(1)) / 400 < 0.35
    assert all(fault is None or fault in FAULTS.values() for fault in drawn(1))


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown faults nonsense; there are callback_first"):
        FaultPlan(by_number={1: "nonsense"})


def test_callers_that_speak_no_http_or_leave_do_no_harm(simulator: Simulator, base: str) -> None:
    async def misbehave() -> None:
        port = int(base.rsplit(":", 1)[1])
        for data in (b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", b""):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            await writer.drain()
            writer.close()

    asyncio.run(misbehave())

    assert ask(f"{base}/__sim/ledger")[0] == 200


def test_it_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "channels.simulators", "--seed", "3", "--fault", "too_many=1.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base = process.stdout.readline().strip()
        try:
            assert ask(f"{base}/v1/projects/shop/messages:send", {"message": {"token": "t"}})[0] == 429
            assert ask(f"{base}/__sim/ledger")[1]["accepted"] == []
        finally:
            process.kill()


@pytest.mark.parametrize("fault", ["nonsense=0.5", "too_many=often"])
def test_a_wrong_option_is_refused(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--fault", fault])
    assert "error:" in capsys.readouterr().err


# --- signatures -----------------------------------------------------------------------------------------------------


def test_its_callbacks_pass_the_official_validator() -> None:
    from twilio.request_validator import RequestValidator

    url, fields = (
        "https://hooks.example/twilio?m=x1%2FC1%2F0",
        {"MessageSid": MESSAGE, "MessageStatus": "delivered", "Body": ""},
    )
    signature = sign_callback("token", url, fields)

    assert RequestValidator("token").validate(url, fields, signature)
    assert not RequestValidator("token").validate(url, {**fields, "MessageStatus": "failed"}, signature)
    assert not RequestValidator("other").validate(url, fields, signature)


def test_its_events_pass_the_official_verifier(simulator: Simulator, base: str) -> None:
    from sendgrid.helpers.eventwebhook import EventWebhook

    take_email(base, "k")
    verifier = EventWebhook(ask(f"{base}/__sim/keys")[1]["sendgrid_public_key"])

    [receipt] = sendgrid_receipts(simulator.book.accepted, url="https://h.example/", key=simulator.sendgrid.signing_key)

    text, signature = receipt.body.decode(), receipt.headers["X-Twilio-Email-Event-Webhook-Signature"]
    timestamp = receipt.headers["X-Twilio-Email-Event-Webhook-Timestamp"]
    assert verifier.verify_signature(text, signature, timestamp)
    assert not verifier.verify_signature(text + " ", signature, timestamp)
    events = json.loads(text)
    assert [(e["message_key"], e["event"]) for e in events] == [("k", "processed"), ("k", "delivered")]
    assert events[0]["sg_event_id"] != events[1]["sg_event_id"]


# --- receipts -------------------------------------------------------------------------------------------------------


def take_email(base: str, key: str) -> None:
    mail = {"personalizations": [{"to": [{"email": "a@b.example"}], "custom_args": {"message_key": key}}]}
    assert ask(f"{base}/v3/mail/send", mail, headers={"Authorization": "Bearer SG.key"})[0] in (200, 202)


def take_sms(base: str, callback: str | None) -> None:
    from twilio.rest import Client

    client = Client(ACCOUNT, "token")
    client.api.base_url = base
    extra = {} if callback is None else {"status_callback": callback}
    client.messages.create(to="+15005550006", from_="+15005550001", body="Hi", **extra)


class Listener:
    """A webhook receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Request] = []

    async def handle(self, request: Request) -> Response:
        self.got.append(request)
        return Response(404 if request.path == "/no" else 204)


@pytest.fixture
def listener() -> Iterator[tuple[Listener, str]]:
    listening = Listener()
    loop = asyncio.new_event_loop()
    server = HttpServer(listening.handle)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield listening, f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_it_sends_signed_receipts_of_all_it_accepted(base: str, listener: tuple[Listener, str]) -> None:
    from twilio.request_validator import RequestValidator

    heard, address = listener
    take_sms(base, "https://hooks.example/twilio?m=k1")
    take_sms(base, None)
    for number in range(3):
        take_email(base, f"e{number}")

    answer = ask(
        f"{base}/__sim/emit", {"rewrite": {"https://hooks.example": address}, "sendgrid_url": f"{address}/sendgrid"}
    )

    assert answer == (200, {"sent": 3, "taken": 3, "next": 5})
    first, second, events = heard.got
    assert [first.form["MessageStatus"], second.form["MessageStatus"]] == ["sent", "delivered"]
    assert first.target == "/twilio?m=k1"
    signature = first.headers["x-twilio-signature"]
    assert RequestValidator("token").validate("https://hooks.example/twilio?m=k1", first.form, signature)
    assert len(events.json()) == 6
    take_sms(base, "https://hooks.example/twilio?m=k2")
    take_sms(base, "https://hooks.example/twilio?m=k3")
    again = ask(f"{base}/__sim/emit", {"from": 5, "most": 1, "rewrite": {"https://hooks.example": address}})
    assert again == (200, {"sent": 2, "taken": 2, "next": 6})
    assert heard.got[3].target == "/twilio?m=k2"


def test_receipts_get_lost_doubled_and_out_of_order_in_the_same_way_again() -> None:
    receipts = [Receipt(f"http://127.0.0.1/{number}", {}, b"") for number in range(1_000)]
    plan = ReceiptPlan(seed=3, lost=0.1, doubled=0.05, reordered=0.05)

    arriving = plan.disturb(receipts)

    assert arriving == plan.disturb(receipts) != ReceiptPlan(seed=4, lost=0.1).disturb(receipts)
    counts = Counter(receipt.url for receipt in arriving)
    assert 50 < 1_000 - len(counts) < 150
    assert 20 < sum(count == 2 for count in counts.values()) < 80
    assert ReceiptPlan().disturb(receipts) == receipts
    assert [r.url for r in arriving] != sorted((r.url for r in arriving), key=lambda url: int(url.rsplit("/", 1)[1]))


def test_receipts_leave_for_this_machine_only(base: str, listener: tuple[Listener, str]) -> None:
    heard, address = listener
    take_sms(base, "https://hooks.example/twilio")

    assert ask(f"{base}/__sim/emit", {})[0] == 400
    assert ask(f"{base}/__sim/emit", {"plan": {"nonsense": 1}})[0] == 400
    assert ask(f"{base}/__sim/emit", {"rewrite": {"https://hooks.example": "http://127.0.0.1:1"}})[0] == 502
    assert heard.got == []
    assert ask(f"{base}/__sim/emit", {"rewrite": {"https://hooks.example/twilio": f"{address}/no"}}) == (
        200,
        {"sent": 2, "taken": 0, "next": 1},
    )


def test_an_inbound_sms_is_signed_too() -> None:
    from twilio.request_validator import RequestValidator

    receipt = inbound_sms(
        url="https://h.example/in", auth_token="token", sender="+15005550006", to="+15005550001", text="退订"
    )

    fields = Request("POST", "/in", {}, receipt.body).form
    assert fields["Body"] == "退订"
    assert RequestValidator("token").validate(receipt.url, fields, receipt.headers["X-Twilio-Signature"])


# --- what is scheduled, https, brown-outs, receipts that are early --------------------------------------------------


def test_what_twilio_has_scheduled_can_be_taken_back(simulator: Simulator, base: str, now: datetime) -> None:
    from twilio.base.exceptions import TwilioRestException
    from twilio.rest import Client

    client = Client(ACCOUNT, "token")
    client.api.base_url = base
    fields = {"body": "x", "schedule_type": "fixed", "send_at": now + timedelta(hours=1)}

    later = client.messages.create(to="+15005550006", messaging_service_sid="MG" + "1" * 32, **fields)
    at_once = client.messages.create(to="+15005550007", from_="+15005550001", body="x")

    assert (later.status, at_once.status) == ("scheduled", "queued")
    assert client.messages(later.sid).update(status="canceled").status == "canceled"
    assert [taken.recipient for taken in simulator.book.accepted] == ["+15005550007"]
    assert [taken.recipient for taken in simulator.book.withdrawn] == ["+15005550006"]
    with pytest.raises(TwilioRestException):
        client.messages(at_once.sid).update(status="canceled")


def test_a_batch_of_sendgrids_can_be_taken_back(simulator: Simulator, base: str) -> None:
    key = {"Authorization": "Bearer SG.key"}
    status, batch = ask(f"{base}/v3/mail/batch", {}, headers=key)
    mail = {"personalizations": [{"to": [{"email": "a@b.example"}]}], "subject": "s"}
    ask(f"{base}/v3/mail/send", {**mail, **batch}, headers=key)
    ask(f"{base}/v3/mail/send", mail, headers=key)

    assert status == 201
    assert ask(f"{base}/v3/user/scheduled_sends", {**batch, "status": "cancel"}, headers=key)[0] == 201
    assert (len(simulator.book.accepted), len(simulator.book.withdrawn)) == (1, 1)
    for wrong in ({}, {**batch, "status": "resume"}):
        assert ask(f"{base}/v3/user/scheduled_sends", wrong, headers=key)[0] == 400


def test_sendgrids_logs_are_asked_with_a_query(simulator: Simulator, base: str) -> None:
    key = {"Authorization": "Bearer SG.key"}

    assert ask(f"{base}/v3/logs", {"query": "everything"}, headers=key)[0] == 400
    assert ask(f"{base}/v3/logs/unknown", headers=key)[0] == 404


def test_it_speaks_https_with_a_certificate_that_must_be_trusted_first(now: datetime) -> None:
    simulator = Simulator(clock=lambda: now, with_tls=True)
    with running(simulator) as base:
        assert base.startswith("https://127.0.0.1:")
        assert simulator.certificate is not None
        trusting = simulator.certificate.client_context()
        with urllib.request.urlopen(f"{base}/__sim/keys", timeout=10, context=trusting) as response:
            assert json.loads(response.read())["certificate"] == simulator.certificate.certificate_pem
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"{base}/__sim/keys", timeout=10)


def test_a_brown_out_ends_after_so_many_requests() -> None:
    plan = FaultPlan.from_json({"brown_outs": {"3": 4}})

    faults = [plan.choose("x") for _ in range(8)]

    assert [fault is None for fault in faults] == [True, True, False, False, False, False, True, True]
    assert Counter(fault.accepts for fault in faults if fault is not None) == {True: 2, False: 2}


@pytest.mark.parametrize("fault", ["callback_first", "callback_only"])
def test_a_receipt_may_come_before_the_answer_or_instead_of_it(
    simulator: Simulator, base: str, listener: tuple[Listener, str], fault: str
) -> None:
    heard, address = listener
    plan = {"by_number": {"1": fault}, "rewrite": {"https://hooks.example": address}}
    assert ask(f"{base}/__sim/plan", plan)[0] == 200

    if fault == "callback_only":
        with pytest.raises(OSError, match=r"reset|abort"):
            take_sms(base, "https://hooks.example/twilio?m=k")
    else:
        take_sms(base, "https://hooks.example/twilio?m=k")

    assert [request.form["MessageStatus"] for request in heard.got] == ["sent", "delivered"]
    assert len(simulator.book.accepted) == 1


def test_a_receipt_that_nobody_takes_is_lost_and_the_answer_comes(simulator: Simulator, base: str) -> None:
    plan = {"by_number": {"1": "callback_first"}, "rewrite": {"https://hooks.example": "http://127.0.0.1:1"}}
    assert ask(f"{base}/__sim/plan", plan)[0] == 200

    take_sms(base, "https://hooks.example/twilio?m=k")

    assert len(simulator.book.accepted) == 1
