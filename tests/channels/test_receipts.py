"""Receipts and inbound messages: signatures as the providers make them, and what each event says."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from channels.errors import ChannelError
from channels.opt_out_words import HELP, START, STOP, read_wish
from channels.receipts import (
    BadSignature,
    MalformedReceipt,
    WebhookRequest,
    reply_twiml,
    sendgrid_receipts,
    suppress_reason,
    twilio_inbound,
    twilio_receipt,
    verify_sendgrid,
    verify_twilio,
)
from channels.simulators.record import Book
from channels.simulators.sendgrid import SendGridSimulator, sign_events
from channels.simulators.twilio import sign_callback

URL = "https://news.shop.example/receipts/twilio/status?m=back%3A1%2FC1%2F0"
FIELDS = {"MessageSid": "SM1", "MessageStatus": "delivered", "ErrorCode": "", "To": "+15005550006"}
SIM = SendGridSimulator(Book(), lambda: datetime(2026, 11, 22, tzinfo=UTC))


# --- Twilio ---------------------------------------------------------------------------------------------------------


def signed_form(fields: dict[str, str] | None = None, *, url: str = URL, token: str = "token") -> WebhookRequest:
    given = FIELDS if fields is None else fields
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-twilio-signature": sign_callback(token, url, given),
    }
    return WebhookRequest(url, headers, urlencode(given).encode())


def signed_json(document: Any, *, with_hash: bool = True) -> WebhookRequest:
    body = json.dumps(document).encode()
    url = URL + (f"&bodySHA256={hashlib.sha256(body).hexdigest()}" if with_hash else "")
    headers = {"content-type": "application/json; charset=utf-8", "x-twilio-signature": sign_callback("token", url, {})}
    return WebhookRequest(url, headers, body)


def test_a_signed_form_is_believed_blank_fields_included() -> None:
    assert verify_twilio(signed_form(), auth_token="token") == FIELDS


def test_the_address_may_name_its_port_or_not() -> None:
    with_port = URL.replace(".example/", ".example:443/")
    request = signed_form(url=with_port)
    assert verify_twilio(WebhookRequest(URL, request.headers, request.body), auth_token="token") == FIELDS


def test_what_somebody_decoded_on_the_way_is_encoded_again() -> None:
    request = signed_form()
    decoded = URL.replace("%3A", ":").replace("%2F", "/")
    assert verify_twilio(WebhookRequest(decoded, request.headers, request.body), auth_token="token") == FIELDS


@pytest.mark.parametrize(
    "change",
    [
        {"url": URL.replace("C1", "C2")},
        {"url": URL.replace("https", "http")},
        {"body": urlencode({**FIELDS, "MessageStatus": "failed"}).encode()},
        {"body": urlencode(FIELDS).replace("ErrorCode=&", "").encode()},
        {"body": b"\xff\xfe"},
        {"headers": {}},
        {"headers": {"x-twilio-signature": ""}},
        {"headers": {"x-twilio-signature": "żółć"}},
        {"headers": {"content-type": "application/json", "x-twilio-signature": sign_callback("token", URL, {})}},
    ],
)
def test_whatever_is_changed_the_signature_no_longer_holds(change: dict[str, Any]) -> None:
    request = signed_form()
    given = {"url": request.url, "headers": request.headers, "body": request.body, **change}
    with pytest.raises(BadSignature):
        verify_twilio(WebhookRequest(**given), auth_token="token")


@pytest.mark.parametrize("token", ["", "other"])
def test_another_token_or_none_believes_nothing(token: str) -> None:
    with pytest.raises(BadSignature):
        verify_twilio(signed_form(token=token), auth_token="token" if token else "")


def test_a_json_body_is_signed_by_its_hash_in_the_address() -> None:
    assert verify_twilio(signed_json({"MessageSid": "SM1", "n": None}), auth_token="token") == {"MessageSid": "SM1"}
    with pytest.raises(BadSignature):
        verify_twilio(signed_json({"MessageSid": "SM1"}, with_hash=False), auth_token="token")
    request = signed_json({"MessageSid": "SM1"})
    with pytest.raises(BadSignature):
        verify_twilio(WebhookRequest(request.url, request.headers, b'{"MessageSid": "SM2"}'), auth_token="token")
    with pytest.raises(MalformedReceipt):
        verify_twilio(signed_json([1]), auth_token="token")


def test_a_shared_key_signs_by_sha_256_and_only_where_the_header_says_so() -> None:
    settings = "key=webhooks_sharedkey_01,algorithm=HMAC_SHA256"
    body = urlencode(FIELDS).encode()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    newer = {
        **kind,
        "x-twilio-signature": sign_callback("shared", URL, FIELDS, digest="sha256"),
        "x-twilio-webhooks-signature-settings": settings,
    }
    keys = {"auth_token": "token", "shared_key": "shared"}
    assert verify_twilio(WebhookRequest(URL, newer, body), **keys) == FIELDS
    older = {**kind, "x-twilio-signature": sign_callback("token", URL, FIELDS)}
    assert verify_twilio(WebhookRequest(URL, older, body), **keys) == FIELDS
    crossed = {**newer, "x-twilio-signature": sign_callback("token", URL, FIELDS, digest="sha256")}
    odd = {**newer, "x-twilio-webhooks-signature-settings": "key=k,algorithm=MD5"}
    unsaid = {name: value for name, value in newer.items() if "settings" not in name}
    for headers, given in ((crossed, keys), (odd, keys), (unsaid, keys), (newer, {"auth_token": "token"})):
        with pytest.raises(BadSignature):
            verify_twilio(WebhookRequest(URL, headers, body), **given)
    with pytest.raises(BadSignature):
        verify_twilio(WebhookRequest(URL + "x", newer, body), **keys)


@pytest.mark.parametrize(
    ("status", "error", "state", "suppress"),
    [
        ("queued", "", "sent", None),
        ("sent", "", "sent", None),
        ("delivered", "", "delivered", None),
        ("read", "", "delivered", None),
        ("undelivered", "30003", "failed", None),
        ("undelivered", "30006", "failed", "bounce"),
        ("failed", "21610", "failed", "stop"),
        ("canceled", "", "failed", None),
    ],
)
def test_a_status_says_what_became_of_the_message(status: str, error: str, state: str, suppress: str | None) -> None:
    receipt = twilio_receipt({**FIELDS, "MessageStatus": status, "ErrorCode": error}, message_key="k")
    assert receipt is not None
    assert (receipt.state, receipt.suppress, receipt.code) == (state, suppress, error or None)
    assert (receipt.event_key, receipt.provider_id, receipt.message_key) == (f"twilio:SM1:{status}", "SM1", "k")
    assert "+1500" not in repr(receipt)


def test_a_status_that_says_nothing_is_no_receipt_and_one_without_a_message_is_refused() -> None:
    assert twilio_receipt({**FIELDS, "MessageStatus": "receiving"}, message_key="k") is None
    with pytest.raises(MalformedReceipt):
        twilio_receipt({"MessageStatus": "sent"}, message_key="k")


def test_an_error_code_that_is_no_code_is_not_kept() -> None:
    receipt = twilio_receipt({**FIELDS, "MessageStatus": "failed", "ErrorCode": "to +15005550006"}, message_key="k")
    assert receipt is not None
    assert receipt.code is None


def test_an_inbound_message_says_who_and_what_and_prints_no_number() -> None:
    inbound = twilio_inbound({"MessageSid": "SM9", "From": "+15005550006", "Body": "Stop please!"})
    assert (inbound.sender.value, inbound.wish, inbound.is_answered) == ("+15005550006", "stop", False)
    assert "+1500" not in repr(inbound)


def test_what_twilio_has_decided_counts_more_than_the_text() -> None:
    inbound = twilio_inbound({"MessageSid": "SM9", "From": "+1", "Body": "genug", "OptOutType": "STOP"})
    assert (inbound.wish, inbound.is_answered) == ("stop", True)


@pytest.mark.parametrize(
    "fields",
    [
        {"MessageSid": "SM1"},
        {"From": "+1"},
        {"MessageSid": "S" * 600, "From": "+1"},
        {"MessageSid": "SM1", "From": "\0"},
    ],
)
def test_an_inbound_message_without_sender_or_id_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(MalformedReceipt):
        twilio_inbound(fields)


def test_an_answer_is_twiml_with_its_text_escaped() -> None:
    assert "<Message>Tom &amp; Co &lt;3</Message>" in reply_twiml("Tom & Co <3")
    assert reply_twiml(None).endswith("<Response />")


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "Stop.",
        "STOPALL",
        "UNSUBSCRIBE",
        "END",
        "QUIT",
        "CANCEL",
        "REVOKE",
        "OPT OUT",
        "opt-out",
        "OPTOUT",
        "ARRET",
        "Arrêt !",
        "STOPP",
        "退订",
        "退订。",
        "T",
        "TD",
        "R",
        "r.",
        "Ｒ",
        "STOP PLEASE",
        "please stop",
        "stop texting me",
        "No más",
        "СТОП",
        "「退订」",
        "请退订",
        "I want to unsubscribe",
        "opt-out from this, now",
    ],
)
def test_words_that_end_messages(text: str) -> None:
    assert read_wish(text) == "stop"


LOCALES = {
    "en": (("stop", "stopall", "unsubscribe", "end", "quit", "cancel", "revoke", "optout"), ("start", "yes", "unstop"), ("help", "info")),
    "zh": (("退订", "退訂", "T", "TD", "R", "N", "拒收"), ("恢复订阅", "订阅"), ("帮助", "幫助")),
    "fr": (("arrêt", "arrêter", "désabonner"), ("oui", "reprendre"), ("aide",)),
    "de": (("stopp", "abmelden", "abbestellen"), ("ja", "anmelden"), ("hilfe",)),
    "es": (("alto", "baja", "cancelar", "no más"), ("sí", "alta"), ("ayuda",)),
    "pt": (("parar", "sair"), ("sim",), ("ajuda",)),
    "it": (("basta", "annulla", "disiscrivi"), ("sì", "inizia"), ("aiuto",)),
    "ru": (("стоп", "отписаться"), ("старт", "подписаться"), ("помощь",)),
    "ja": (("配信停止",), ("配信再開",), ()),
    "ko": (("수신거부",), ("수신동의",), ("도움말",)),
}  # fmt: skip


@pytest.mark.parametrize("locale", LOCALES)
def test_every_language_has_its_words_to_stop_and_to_start_again(locale: str) -> None:
    for wish, words in zip(("stop", "start", "help"), LOCALES[locale], strict=True):
        for word in words:
            assert {read_wish(word), read_wish(word.upper()), read_wish(f" {word}. ")} == {wish}, word


def test_no_word_means_two_things() -> None:
    assert not STOP & START
    assert not STOP & HELP
    assert not START & HELP


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("HELP", "help"),
        ("info?", "help"),
        ("?", "help"),
        ("帮助", "help"),
        ("START", "start"),
        ("Unstop", "start"),
        ("yes!", "start"),
        ("Cancel my order 12", None),
        ("non-stop fun", None),
        ("Thanks", None),
        ("", None),
    ],
)
def test_words_that_ask_for_something_else_or_for_nothing(text: str, wish: str | None) -> None:
    assert read_wish(text) == wish


# --- SendGrid -------------------------------------------------------------------------------------------------------


def event(kind: str, **more: Any) -> dict[str, Any]:
    basics = {"event": kind, "sg_event_id": "E1", "sg_message_id": "M1.recvd-1", "timestamp": 1795000000}
    return {**basics, "message_key": "k", "email": "ann@example.com", **more}


def signed_events(events: Any, at: datetime, body: bytes | None = None) -> WebhookRequest:
    raw = json.dumps(events).encode() if body is None else body
    stamp = str(int(at.timestamp()))
    names = ("x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp")
    return WebhookRequest(URL, dict(zip(names, (sign_events(SIM.signing_key, stamp, raw), stamp), strict=True)), raw)


def test_signed_events_are_believed_within_five_minutes_of_their_time(now: datetime) -> None:
    for seconds in (-300, 0, 300):
        request = signed_events([event("open")], now + timedelta(seconds=seconds))
        assert verify_sendgrid(request, public_key=SIM.public_key(), now=now) == [event("open")]
    for seconds in (-301, 301):
        request = signed_events([event("open")], now + timedelta(seconds=seconds))
        with pytest.raises(BadSignature, match="300 seconds"):
            verify_sendgrid(request, public_key=SIM.public_key(), now=now)


def test_the_same_events_written_differently_are_not_believed(now: datetime) -> None:
    request = signed_events([event("open")], now)
    rewritten = WebhookRequest(request.url, request.headers, json.dumps([event("open")], indent=1).encode())
    with pytest.raises(BadSignature):
        verify_sendgrid(rewritten, public_key=SIM.public_key(), now=now)


@pytest.mark.parametrize("signature", ["", "!", "AAAA", base64.b64encode(b"x" * 70).decode(), "żółć"])
def test_a_signature_that_is_none_is_refused_without_a_noise(now: datetime, signature: str) -> None:
    request = signed_events([], now)
    headers = {**request.headers, "x-twilio-email-event-webhook-signature": signature}
    with pytest.raises(BadSignature):
        verify_sendgrid(WebhookRequest(URL, headers, request.body), public_key=SIM.public_key(), now=now)


def test_a_signed_time_that_is_none_is_refused(now: datetime) -> None:
    headers = {
        "x-twilio-email-event-webhook-signature": sign_events(SIM.signing_key, "soon", b"[]"),
        "x-twilio-email-event-webhook-timestamp": "soon",
    }
    with pytest.raises(BadSignature):
        verify_sendgrid(WebhookRequest(URL, headers, b"[]"), public_key=SIM.public_key(), now=now)


def test_without_a_public_key_nothing_is_believed_and_a_wrong_one_is_named(now: datetime) -> None:
    with pytest.raises(BadSignature):
        verify_sendgrid(signed_events([], now), public_key="", now=now)
    with pytest.raises(ChannelError, match="public key"):
        verify_sendgrid(signed_events([], now), public_key="bm8ga2V5", now=now)


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"nothing"])
def test_a_signed_body_that_is_no_list_of_events_is_malformed(now: datetime, body: bytes) -> None:
    with pytest.raises(MalformedReceipt):
        verify_sendgrid(signed_events(None, now, body), public_key=SIM.public_key(), now=now)


@pytest.mark.parametrize(
    ("kind", "more", "state", "suppress"),
    [
        ("processed", {}, "sent", None),
        ("deferred", {}, "sent", None),
        ("delivered", {}, "delivered", None),
        ("open", {}, "delivered", None),
        ("click", {}, "delivered", None),
        ("bounce", {"type": "bounce", "status": "5.1.1"}, "failed", "bounce"),
        ("bounce", {"type": "blocked"}, "failed", None),
        ("dropped", {"reason": "Bounced Address"}, "failed", "bounce"),
        ("dropped", {"reason": "Unsubscribed Address"}, "failed", "unsubscribe"),
        ("dropped", {"reason": "Spam Reporting Address"}, "failed", "complaint"),
        ("dropped", {"reason": "Spam Content"}, "failed", None),
        ("spamreport", {}, "delivered", "complaint"),
        ("unsubscribe", {}, "delivered", "unsubscribe"),
        ("group_unsubscribe", {}, "delivered", "unsubscribe"),
    ],
)
def test_an_event_says_what_became_of_the_message(
    kind: str, more: dict[str, str], state: str, suppress: str | None
) -> None:
    receipts, silent = sendgrid_receipts([event(kind, **more)])
    assert silent == 0
    receipt = receipts[0]
    assert (receipt.state, receipt.suppress, receipt.message_key) == (state, suppress, "k")
    assert (receipt.event_key, receipt.provider_id) == (f"sendgrid:{kind}:E1", "M1")
    assert receipt.at == datetime.fromtimestamp(1795000000, UTC)
    assert "example.com" not in repr(receipt)


def test_events_that_say_nothing_are_counted_and_odd_ones_do_no_harm() -> None:
    odd = event("delivered", sg_event_id=None, message_key=5, sg_message_id=["x"], timestamp=True)
    receipts, silent = sendgrid_receipts([event("group_resubscribe"), {}, odd])
    assert silent == 2
    assert (receipts[0].message_key, receipts[0].provider_id, receipts[0].at) == (None, None, None)
    assert receipts[0].event_key == sendgrid_receipts([odd])[0][0].event_key
    assert sendgrid_receipts([event("open", timestamp="x"), event("open", timestamp=1e300)])[0][1].at is None


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_database_takes_names_nothing_and_spoils_no_other_event(text: str) -> None:
    """Others may send by the same account: one event of theirs must not have a whole webhook refused for ever."""
    odd = event("spamreport", message_key=text, sg_event_id=text, sg_message_id=text, email=text)
    [receipt] = sendgrid_receipts([odd])[0]
    assert (receipt.message_key, receipt.provider_id, receipt.address) == (None, None, None)
    assert receipt.event_key.isascii()
    callback = twilio_receipt({"MessageSid": "SM1", "MessageStatus": "sent"}, message_key=text)
    assert callback is not None
    assert callback.message_key is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [("21610", "stop"), ("30006", "bounce"), ("UNREGISTERED", "bounce"), ("30003", None), (None, None), ("", None)],
)
def test_a_code_says_whether_the_address_is_of_use(code: str | None, reason: str | None) -> None:
    assert suppress_reason(code) == reason
