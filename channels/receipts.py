"""Receipts: what providers say later about a message, and what customers answer, believed only with a right signature.

Nothing is kept of the addresses and the free texts that come with them: a receipt names a message by our own key.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from channels.errors import ChannelError
from channels.message import Address, Channel
from channels.opt_out_words import Wish, read_wish
from channels.providers.sms_twilio import SUPPRESS as _USELESS_NUMBERS

TOLERANCE: Final = timedelta(seconds=300)
"""How far the time of a signed event webhook may be from ours: an older one is a replay."""

State = Literal["sent", "delivered", "failed"]
SuppressReason = Literal["stop", "unsubscribe", "complaint", "bounce"]

_LONGEST: Final = 512
_OPTED_OUT: Final = "21610"
_UNSTORED: Final = re.compile("[\0\ud800-\udfff]")
_SID: Final = re.compile(r"[A-Z]{2}\w{1,62}", re.ASCII)
_ERROR_CODE: Final = re.compile(r"[\w.-]{1,20}")

_TWILIO_STATES: Final[Mapping[str, State]] = {
    **dict.fromkeys(("accepted", "scheduled", "queued", "sending", "sent", "partially_delivered"), "sent"),
    **dict.fromkeys(("delivered", "read"), "delivered"),
    **dict.fromkeys(("undelivered", "failed", "canceled"), "failed"),
}
_SENDGRID_STATES: Final[Mapping[str, State]] = {
    **dict.fromkeys(("processed", "deferred"), "sent"),
    # nobody opens, clicks, complains about or unsubscribes from what has not arrived
    **dict.fromkeys(("delivered", "open", "click", "spamreport", "unsubscribe", "group_unsubscribe"), "delivered"),
    **dict.fromkeys(("bounce", "dropped"), "failed"),
}
_SENDGRID_SUPPRESS: Final[Mapping[str, SuppressReason]] = {
    "spamreport": "complaint",
    "unsubscribe": "unsubscribe",
    "group_unsubscribe": "unsubscribe",
}
_DROPPED: Final[Mapping[str, SuppressReason]] = {
    "bounced address": "bounce",
    "unsubscribed address": "unsubscribe",
    "spam reporting address": "complaint",
}


class BadSignature(ChannelError):  # noqa: N818 (it names what was found)
    """A webhook that its provider did not sign, or signed too long ago."""


class MalformedReceipt(ChannelError):  # noqa: N818 (it names what was found)
    """A rightly signed webhook whose body is not what its provider describes."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One event about one message.

    `event_key` is the same for the same event however often it comes; `state` is what the event proves; `suppress` is
    why the customer must not be written to on this channel any more. `at`: when it happened, None where nobody says.
    """

    provider: str
    channel: Channel
    event: str
    event_key: str
    state: State
    message_key: str | None = None
    provider_id: str | None = None
    reason: str | None = None
    code: str | None = None
    at: datetime | None = None
    suppress: SuppressReason | None = None
    address: Address | None = field(default=None, repr=False, compare=False)
    """Where the message went, told only with a `suppress`: its HMAC is kept, the address is forgotten."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """An SMS a customer sent: from which number, and what it asks for. `is_answered`: Twilio has replied itself."""

    sender: Address
    wish: Wish | None
    event_key: str
    is_answered: bool = False


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What a signature covers: the public address with its query, the headers (names in lower case), the raw body."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def verify_twilio(request: WebhookRequest, *, auth_token: str, shared_key: str = "") -> dict[str, str]:
    """The fields of a webhook that Twilio signed, those of its query excepted; of several values the first.

    Twilio signs by HMAC-SHA1 with the Auth Token, or, where the header X-Twilio-Webhooks-Signature-Settings says so, by
    HMAC-SHA256 with the secret of a shared key (Source: twilio-python 9.13, twilio/request_validator.py).

    Raises BadSignature, or MalformedReceipt where a signed body cannot be read.
    """
    from twilio.request_validator import RequestValidator

    signature = request.headers.get("x-twilio-signature", "")
    text = _text(request.body)
    as_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    if as_json and "bodySHA256" not in parse_qs(urlsplit(request.url).query):
        raise BadSignature("a JSON webhook of Twilio carries bodySHA256 in its address; this one does not")
    fields = {} if as_json else parse_qs(text, keep_blank_values=True)
    signed = text if as_json else _Fields(fields)
    algorithm = _algorithm(request.headers.get("x-twilio-webhooks-signature-settings", ""))
    secret = {"HMAC_SHA1": auth_token, "HMAC_SHA256": shared_key}.get(algorithm, "")
    check = RequestValidator(secret)
    more = () if algorithm == "HMAC_SHA1" else (algorithm,)
    if not (secret and signature and any(check.validate(u, signed, signature, *more) for u in _spellings(request.url))):
        raise BadSignature("the request does not bear Twilio's signature for this address")
    if as_json:
        return {name: str(value) for name, value in _object(text).items() if isinstance(value, str | int)}
    return {name: values[0] for name, values in fields.items()}


def verify_sendgrid(
    request: WebhookRequest, *, public_key: str, now: datetime, tolerance: timedelta = TOLERANCE
) -> list[dict[str, Any]]:
    """The events of a webhook that SendGrid signed within `tolerance` of `now`.

    Raises BadSignature, or MalformedReceipt where a signed body is no list of events.
    """
    signature = request.headers.get("x-twilio-email-event-webhook-signature", "")
    timestamp = request.headers.get("x-twilio-email-event-webhook-timestamp", "")
    text = _text(request.body)
    if not (public_key and _ecdsa_agrees(public_key, text, signature, timestamp)):
        raise BadSignature("the request does not bear SendGrid's signature")
    signed_at = _instant(timestamp)
    if signed_at is None or abs(now - signed_at) > tolerance:
        raise BadSignature(f"the request was signed more than {tolerance.total_seconds():.0f} seconds from now")
    events = _json(text)
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise MalformedReceipt("SendGrid's webhook is a list of events; this one is not")
    return events


def twilio_receipt(fields: Mapping[str, str], *, message_key: str | None) -> Receipt | None:
    """The receipt in a status callback; None for a status that says nothing about the message's fate.

    `message_key` is the query parameter m of the callback's address. Raises MalformedReceipt without a message id.
    """
    sid, status = fields.get("MessageSid") or fields.get("SmsSid"), fields.get("MessageStatus", "").lower()
    if not sid or not _SID.fullmatch(sid):
        raise MalformedReceipt("a status callback of Twilio names a MessageSid; this one does not")
    state = _TWILIO_STATES.get(status)
    if state is None:
        return None
    code = fields.get("ErrorCode") or None
    failed = state == "failed"
    return Receipt(
        provider="twilio",
        channel="sms",
        event=status,
        event_key=f"twilio:{sid}:{status}",
        state=state,
        message_key=_short(message_key),
        provider_id=sid,
        reason=status if failed else None,
        code=code if failed and code is not None and _ERROR_CODE.fullmatch(code) else None,
        suppress=suppress_reason(code) if failed else None,
        address=_address("sms", fields.get("To")) if failed and suppress_reason(code) else None,
    )


def twilio_inbound(fields: Mapping[str, str]) -> Inbound:
    """What a customer's SMS asks for. Raises MalformedReceipt where it has no id or no sender."""
    sid, sender = fields.get("MessageSid") or fields.get("SmsSid"), fields.get("From")
    if not sid or not _SID.fullmatch(sid) or not sender or _short(sender) is None:
        raise MalformedReceipt("an inbound SMS has a MessageSid and a From; this one does not")
    decided = fields.get("OptOutType", "").lower()  # Advanced Opt-Out has read, and answered, the message already
    wish = next((wish for wish in ("stop", "start", "help") if wish == decided), None)
    text = fields.get("Body", "")
    return Inbound(Address("sms", sender), wish or read_wish(text), f"twilio:{sid}:inbound", is_answered=bool(wish))


def sendgrid_receipt(event: Mapping[str, Any]) -> Receipt | None:
    """The receipt in one event; None for one that says nothing about a message's fate."""
    kind = str(event.get("event", ""))
    state = _SENDGRID_STATES.get(kind)
    if state is None:
        return None
    failed = state == "failed"
    status = str(event.get("status") or "")
    message_id = _short(event.get("sg_message_id"))
    return Receipt(
        provider="sendgrid",
        channel="email",
        # a mail program that fetches every picture in advance has not been looked at by anybody
        event="machine_open" if kind == "open" and event.get("sg_machine_open") is True else kind,
        event_key=f"sendgrid:{kind}:{_event_id(event)}",
        state=state,
        message_key=_short(event.get("message_key")),
        provider_id=None if message_id is None else re.split(r"\.(?:recvd|filter)", message_id)[0],
        reason=("blocked" if event.get("type") == "blocked" else kind) if failed else None,
        code=status if failed and _ERROR_CODE.fullmatch(status) else None,
        at=_instant(event.get("timestamp")),
        suppress=_sendgrid_suppress(kind, event),
        address=_address("email", event.get("email")) if _sendgrid_suppress(kind, event) else None,
    )


def sendgrid_receipts(events: Iterable[Mapping[str, Any]]) -> tuple[list[Receipt], int]:
    """The receipts in the events of a webhook, and how many events said nothing about a message's fate."""
    found = [sendgrid_receipt(event) for event in events]
    receipts = [receipt for receipt in found if receipt is not None]
    return receipts, len(found) - len(receipts)


def suppress_reason(code: str | None) -> SuppressReason | None:
    """Why the address behind a provider's code must not be used again, None where it may.

    Codes: Twilio's of numbers that are no use, FCM's of apps that are gone.
    """
    if code == _OPTED_OUT:
        return "stop"
    useless = code in ("UNREGISTERED", "SENDER_ID_MISMATCH") or (code or "") in map(str, _USELESS_NUMBERS)
    return "bounce" if useless else None


def reply_twiml(text: str | None) -> str:
    """The answer to an inbound SMS: a message with this text, or none."""
    from twilio.twiml.messaging_response import MessagingResponse

    response = MessagingResponse()
    if text:
        response.message(text)
    return str(response)


class _Fields(dict[str, list[str]]):
    """A form's fields with all their values, in the form Twilio's validator asks for them."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


def _address(channel: Channel, value: Any) -> Address | None:
    told = _short(value)
    return None if told is None else Address(channel, told)


def _sendgrid_suppress(kind: str, event: Mapping[str, Any]) -> SuppressReason | None:
    """A bounce counts against the address, unless the server has only blocked this one message (type "blocked")."""
    if kind == "bounce":
        return None if event.get("type") == "blocked" else "bounce"
    if kind == "dropped":
        return _DROPPED.get(str(event.get("reason", "")).strip().lower())
    return _SENDGRID_SUPPRESS.get(kind)


def _event_id(event: Mapping[str, Any]) -> str:
    """SendGrid's id of the event; without one, a hash of everything in it."""
    given = _short(event.get("sg_event_id"))
    if given is not None:
        return given
    text = json.dumps(event, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _ecdsa_agrees(public_key: str, text: str, signature: str, timestamp: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm
    from sendgrid.helpers.eventwebhook import EventWebhook

    try:
        webhook = EventWebhook(public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise ChannelError(
            "sendgrid: the webhook's public key is none; expected the base64 text that SendGrid shows beside "
            "Signed Event Webhook Requests"
        ) from None
    try:
        return bool(webhook.verify_signature(text, signature, timestamp))
    except (binascii.Error, ValueError):
        return False


def _algorithm(settings: str) -> str:
    """What Twilio's header says it signed by: "key=...,algorithm=HMAC_SHA256"; without one, the old way."""
    pairs = [part.partition("=") for part in settings.split(",")]
    return next((value.strip().upper() for name, _, value in pairs if name.strip() == "algorithm"), "HMAC_SHA1")


def _spellings(url: str) -> tuple[str, ...]:
    """An address as it came, and with its query encoded to the full: on the way some decode what they may."""
    parts = urlsplit(url)
    full = urlencode(parse_qsl(parts.query, keep_blank_values=True), quote_via=quote, safe="")
    return (url,) if full == parts.query else (url, urlunsplit(parts._replace(query=full)))


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadSignature("the body is not UTF-8; no provider signs such a one") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedReceipt("the body is not JSON") from None


def _object(text: str) -> dict[str, Any]:
    document = _json(text)
    if not isinstance(document, dict):
        raise MalformedReceipt("a JSON webhook of Twilio is an object; this one is not")
    return document


def _instant(seconds: object) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | str):
        return None
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _short(value: object) -> str | None:
    """A text that can be one of our keys, or a provider's id; what no database takes is none."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST and not _UNSTORED.search(value) else None
