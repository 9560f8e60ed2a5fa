"""The public paths: signatures, sizes, hosts and headers; receipts and links end in the ledger."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from channels.message import CHANNELS
from channels.simulators.record import Book
from channels.simulators.sendgrid import SendGridSimulator, sign_events
from channels.simulators.twilio import sign_callback
from flows.settings import Settings, read_settings
from flows.steps.unsubscribe import unsubscribe_urls
from flows.wiring import Workspace, open_workspace
from tests.web.sent import CUSTOMERS, make_sent_shop
from warehouse.ledger.history import customer_history
from web.app import create_app
from web.receipts import EVENTS_LIMIT, FORM_LIMIT
from web.receiving import WithReceiving

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
PUBLIC = "https://news.shop.example"
TOKEN = "an auth token of tests"
SENDGRID = SendGridSimulator(Book(), lambda: NOW)


def settings_of(root: Path) -> Settings:
    overrides: dict[str, Any] = {
        "secret": "a key for tests only",
        "public_url": PUBLIC,
        "providers": {
            "twilio": {"auth_token": TOKEN},
            "sendgrid": {"webhook_public_key": SENDGRID.public_key()},
        },
    }
    return read_settings(root, overrides=overrides)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose texts have left to customers of three languages."""
    locales = ["en-GB", "en-GB", "zh-CN", "fr-FR"] + ["en-GB"] * (CUSTOMERS - 4)
    root = tmp_path_factory.mktemp("receiving") / "shop"
    text = "Hello. Reply STOP to end"
    return make_sent_shop(root, text, settings_of=settings_of, column=("locale", locales), now=NOW)


@pytest.fixture
def root(delivered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(delivered, tmp_path / "shop"))


@pytest.fixture
def client(root: Path) -> Iterator[TestClient]:
    settings = settings_of(root)
    with TestClient(WithReceiving(create_app(settings), settings, clock=lambda: NOW), base_url=PUBLIC) as opened:
        yield opened


@pytest.fixture
def ws(root: Path) -> Iterator[Workspace]:
    with open_workspace(settings_of(root)) as opened:
        yield opened


@pytest.fixture
def key(ws: Workspace) -> str:
    """The key of one message that has left."""
    return next(str(story.messages[0]["message_key"]) for n in range(12) if (story := history(ws, f"C{n}")).messages)


def history(ws: Workspace, customer: str) -> Any:
    with ws.ledger.read() as tx:
        return customer_history(tx, customer)


def reasons(ws: Workspace, customer: str) -> list[tuple[str, str]]:
    active = [row for row in history(ws, customer).suppressions if row["released_at"] is None]
    return sorted((str(row["channel"]), str(row["reason"])) for row in active)


def post_twilio(client: TestClient, path: str, fields: dict[str, str], *, signed: str | None = None) -> Any:
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": sign_callback(TOKEN, signed or f"{PUBLIC}{path}", fields),
    }
    return client.post(path, content=urlencode(fields), headers=headers)


def post_sendgrid(client: TestClient, events: Any, *, at: datetime = NOW) -> Any:
    body, stamp = json.dumps(events).encode(), str(int(at.timestamp()))
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": sign_events(SENDGRID.signing_key, stamp, body),
        "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
    }
    return client.post("/receipts/sendgrid/events", content=body, headers=headers)


def status_path(key: str) -> str:
    return "/receipts/twilio/status?" + urlencode({"m": key})


# --- Twilio ---------------------------------------------------------------------------------------------------------


def test_a_signed_status_reaches_the_message_and_its_customer(client: TestClient, ws: Workspace, key: str) -> None:
    customer = key.split("/")[1]
    assert post_twilio(client, status_path(key), {"MessageSid": "SM1", "MessageStatus": "delivered"}).status_code == 204
    assert history(ws, customer).messages[0]["state"] == "delivered"
    fields = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "30006"}
    assert post_twilio(client, status_path(key), fields).status_code == 204
    assert history(ws, customer).messages[0]["state"] == "failed"
    assert reasons(ws, customer) == [("sms", "bounce")]


def test_a_wrong_signature_changes_nothing(client: TestClient, ws: Workspace, key: str) -> None:
    before = history(ws, key.split("/")[1])
    fields = {"MessageSid": "SM1", "MessageStatus": "failed", "ErrorCode": "21610"}
    answers = [
        post_twilio(client, status_path(key), fields, signed=f"{PUBLIC}/receipts/twilio/status"),
        post_twilio(client, status_path(key), fields, signed=f"http://127.0.0.1{status_path(key)}"),
        client.post(status_path(key), content=urlencode(fields)),
        client.post("/receipts/twilio/inbound", content=b"From=%2B15005550001&Body=STOP&MessageSid=SM1"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert history(ws, key.split("/")[1]) == before


def test_a_receipt_of_a_message_that_is_not_ours_is_taken_and_forgotten(client: TestClient) -> None:
    assert (
        post_twilio(client, status_path("x:1/C1/1"), {"MessageSid": "SM1", "MessageStatus": "sent"}).status_code == 204
    )
    assert post_twilio(client, status_path("x"), {"MessageSid": "SM1", "MessageStatus": "odd"}).status_code == 204
    assert post_twilio(client, status_path("x"), {"MessageStatus": "sent"}).status_code == 400


def test_stop_ends_the_sms_of_whoever_has_the_number_and_start_takes_it_back(client: TestClient, ws: Workspace) -> None:
    def say(text: str, sid: str) -> Any:
        return post_twilio(
            client, "/receipts/twilio/inbound", {"MessageSid": sid, "From": "+15005550003", "Body": text}
        )

    assert say("Stop, please!", "SM1").text.endswith("<Response />")
    assert reasons(ws, "C3") == [("sms", "stop")]
    say("START", "SM2")
    assert reasons(ws, "C3") == []
    say("Stop, please!", "SM1")  # Twilio repeats itself
    assert reasons(ws, "C3") == []
    say("退订", "SM3")
    say("START", "SM2")
    assert reasons(ws, "C3") == [("sms", "stop")]
    assert say("thanks", "SM4").status_code == 200


def test_help_is_answered_with_who_writes(client: TestClient) -> None:
    fields = {"MessageSid": "SM1", "From": "+15005550003", "Body": "HELP"}
    answer = post_twilio(client, "/receipts/twilio/inbound", fields)
    assert answer.headers["content-type"].startswith("application/xml")
    assert "<Message>Northwind Coffee" in answer.text
    fields["OptOutType"] = "HELP"
    assert "<Message>" not in post_twilio(client, "/receipts/twilio/inbound", fields).text


def test_an_unknown_number_is_noted_by_a_keyed_hash_only(
    client: TestClient, caplog: pytest.LogCaptureFixture, root: Path
) -> None:
    with caplog.at_level(logging.DEBUG):
        for number in ("+19995550000", "+15005550003"):
            fields = {"MessageSid": f"SM{number[1:5]}", "From": number, "Body": "STOP"}
            assert post_twilio(client, "/receipts/twilio/inbound", fields).status_code == 200
    assert "a number no customer has; the number is kept as an HMAC" in caplog.text
    assert "9995550000" not in caplog.text
    assert "5005550003" not in caplog.text
    ledger = b"".join(path.read_bytes() for path in (root / "data").glob("ledger.db*"))
    assert b"5005550003" not in ledger
    assert b"9995550000" not in ledger


# --- SendGrid -------------------------------------------------------------------------------------------------------


def test_signed_events_are_recorded_once(client: TestClient, ws: Workspace, key: str) -> None:
    basics = {"message_key": key, "sg_message_id": "M1.recvd-1", "timestamp": int(NOW.timestamp())}
    events = [
        {**basics, "event": "delivered", "sg_event_id": "E1"},
        {**basics, "event": "spamreport", "sg_event_id": "E2"},
        {**basics, "event": "group_resubscribe", "sg_event_id": "E3"},
        {"event": "open", "sg_event_id": "E4"},
    ]
    first, second = post_sendgrid(client, events), post_sendgrid(client, events)
    assert first.json() == {"applied": 1, "known": 1, "unknown": 1, "suppressed": 1, "silent": 1}
    assert second.json() == {"applied": 0, "known": 2, "unknown": 1, "suppressed": 0, "silent": 1}
    assert reasons(ws, key.split("/")[1]) == [("email", "complaint")]


def test_old_unsigned_and_broken_events_change_nothing(client: TestClient, ws: Workspace, key: str) -> None:
    events = [{"message_key": key, "event": "spamreport", "sg_event_id": "E1"}]
    assert post_sendgrid(client, events, at=NOW - timedelta(seconds=301)).status_code == 403
    assert client.post("/receipts/sendgrid/events", content=json.dumps(events)).status_code == 403
    assert post_sendgrid(client, {"no": "list"}).status_code == 400
    assert reasons(ws, key.split("/")[1]) == []


# --- unsubscribe links ----------------------------------------------------------------------------------------------


@pytest.fixture
def link(ws: Workspace) -> str:
    """The path of C1's link for e-mails."""
    return unsubscribe_urls(ws, [("C1", "email")])["C1", "email"].removeprefix(PUBLIC)


def test_one_click_without_cookies_unsubscribes_and_looking_does_not(
    client: TestClient, ws: Workspace, link: str
) -> None:
    page = client.get(link)
    assert (page.status_code, reasons(ws, "C1")) == (200, [])
    assert "Stop e-mails" in page.text
    answer = client.post(link, data={"List-Unsubscribe": "One-Click"})
    assert (answer.status_code, reasons(ws, "C1")) == (200, [("email", "unsubscribe")])
    assert "no more e-mails" in answer.text
    assert client.post(link, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert reasons(ws, "C1") == [("email", "unsubscribe")]
    assert "Stop e-mails" not in client.get(link).text
    assert "set-cookie" not in answer.headers


def test_the_page_speaks_the_customers_language_else_the_browsers(client: TestClient, ws: Workspace) -> None:
    pairs = [("C1", "email"), ("C2", "email"), ("C3", "email")]
    english, chinese, french = (unsubscribe_urls(ws, [pair])[pair].removeprefix(PUBLIC) for pair in pairs)
    wish = {"Accept-Language": "fr-FR, zh-CN;q=0.8, en;q=0.1"}
    assert '<html lang="en">' in client.get(english, headers=wish).text
    page = client.get(chinese).text
    assert '<html lang="zh">' in page
    assert "停止接收电子邮件" in page
    assert '<html lang="zh">' in client.get(french, headers=wish).text  # there are no words in French
    assert '<html lang="en">' in client.get(french).text
    assert "您不会再收到我们的电子邮件。" in client.post(chinese, data={"List-Unsubscribe": "One-Click"}).text
    assert reasons(ws, "C2") == [("email", "unsubscribe")]
    assert "没有这个链接" in client.get("/u/" + "A" * 32, headers={"Accept-Language": "zh"}).text


def test_one_click_works_as_multipart_too(client: TestClient, ws: Workspace, link: str) -> None:
    assert client.post(link, files={"List-Unsubscribe": (None, "One-Click")}).status_code == 200
    assert reasons(ws, "C1") == [("email", "unsubscribe")]


@pytest.mark.parametrize("body", ["", "List-Unsubscribe=no", "x=1", "List-Unsubscribe=One-Click&List-Unsubscribe=x"])
def test_a_post_that_does_not_say_what_to_do_changes_nothing(
    client: TestClient, ws: Workspace, link: str, body: str
) -> None:
    answer = client.post(link, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (answer.status_code, reasons(ws, "C1")) == (400, [])


def test_a_link_with_a_wrong_character_opens_nothing(client: TestClient, ws: Workspace, link: str) -> None:
    wrong = link[:-1] + ("A" if link[-1] != "A" else "B")
    for path in (wrong, "/u/x", "/u/" + "A" * 32, link + "A"):
        assert client.get(path).status_code == 403
        assert client.post(path, data={"List-Unsubscribe": "One-Click"}).status_code == 403
    assert reasons(ws, "C1") == []


def test_the_form_sets_every_channel_and_takes_back_only_its_own_wishes(
    client: TestClient, ws: Workspace, link: str
) -> None:
    client.post(link, data={"preferences": "1", "channel": ["sms"]})
    assert reasons(ws, "C1") == [("email", "unsubscribe"), ("push", "unsubscribe")]
    fields = {"MessageSid": "SM1", "From": "+15005550001", "Body": "STOP"}
    post_twilio(client, "/receipts/twilio/inbound", fields)
    page = client.post(link, data={"preferences": "1", "channel": list(CHANNELS)})
    assert reasons(ws, "C1") == [("sms", "stop")]
    assert "you answered STOP" in page.text
    client.post(link, data={"preferences": "1"})
    assert reasons(ws, "C1") == [("email", "unsubscribe"), ("push", "unsubscribe"), ("sms", "stop")]


def test_an_old_key_still_opens_its_links(root: Path, link: str) -> None:
    settings = read_settings(
        root, overrides={"secret": "a new key", "old_secrets": ["a key for tests only"], "public_url": PUBLIC}
    )
    with TestClient(WithReceiving(create_app(settings), settings, clock=lambda: NOW), base_url=PUBLIC) as client:
        assert client.get(link).status_code == 200
    forgetful = read_settings(root, overrides={"secret": "a new key", "public_url": PUBLIC})
    with TestClient(WithReceiving(create_app(forgetful), forgetful, clock=lambda: NOW), base_url=PUBLIC) as client:
        assert client.get(link).status_code == 403


# --- the house's rules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("/receipts/twilio/status", FORM_LIMIT),
        ("/receipts/twilio/inbound", FORM_LIMIT),
        ("/receipts/sendgrid/events", EVENTS_LIMIT),
        ("/u/x", 16 * 1024),
    ],
)
def test_bodies_above_the_limit_are_refused_announced_or_not(client: TestClient, path: str, size: int) -> None:
    assert client.post(path, content=b"x" * (size + 1)).status_code == 413
    assert client.post(path, content=iter([b"x" * size, b"x"])).status_code == 413
    assert client.post(path, content=b"x" * size).status_code != 413


def test_every_answer_is_uncached_and_runs_nothing(client: TestClient, link: str) -> None:
    for answer in (client.get(link), client.get("/u/x"), client.post("/receipts/twilio/status")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "form-action 'self'" in policy
        assert "script" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "<script" not in answer.text


def test_public_hosts_see_public_paths_only(client: TestClient, link: str) -> None:
    assert client.get("/").status_code == 400
    assert client.get("/experiments/back:1").status_code == 400
    assert client.get("/", headers={"Host": "127.0.0.1"}).status_code == 200
    assert client.get(link, headers={"Host": "evil.example"}).status_code == 400


def test_the_public_paths_are_described(client: TestClient) -> None:
    described = client.get("/receipts/openapi.json").json()
    assert sorted(described["paths"]) == [
        "/l/{token}",
        "/receipts/sendgrid/events",
        "/receipts/twilio/inbound",
        "/receipts/twilio/status",
        "/u/{token}",
    ]
    assert "Recorded" in described["components"]["schemas"]
    assert "403" in described["paths"]["/receipts/twilio/status"]["post"]["responses"]
    assert {"302", "404"} <= described["paths"]["/l/{token}"]["get"]["responses"].keys()


def test_without_a_public_address_no_signature_is_believed(root: Path) -> None:
    settings = read_settings(root, overrides={"secret": "a key", "providers": {"twilio": {"auth_token": TOKEN}}})
    with TestClient(WithReceiving(create_app(settings), settings), base_url="http://localhost") as client:
        fields = {"MessageSid": "SM1", "MessageStatus": "sent"}
        answer = post_twilio(
            client, "/receipts/twilio/status", fields, signed="http://localhost/receipts/twilio/status"
        )
        assert answer.status_code == 403
        assert "public_url" in answer.json()["detail"]


def test_what_nobody_expected_is_told_without_its_values(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> Callable[..., Any]:
        raise RuntimeError("+15005550003")

    monkeypatch.setattr("web.receipts.receive_inbound", fail)
    fields = {"MessageSid": "SM1", "From": "+15005550003", "Body": "STOP"}
    answer = post_twilio(client, "/receipts/twilio/inbound", fields)
    assert answer.status_code == 500
    assert "unexpected RuntimeError" in caplog.text
    assert "5005550003" not in caplog.text + answer.text
