"""Receipts: the signed callbacks and events a provider would send of what it accepted, lost and doubled on request."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from channels.simulators.record import Accepted
from channels.simulators.sendgrid import event_of, sign_events
from channels.simulators.twilio import sign_callback

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

EVENTS_PER_REQUEST: Final = 500
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Receipt:
    """One webhook request, signed for its public address."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ReceiptPlan:
    """The shares of receipts that are lost, sent twice, and sent out of order, drawn from `seed`."""

    seed: int = 0
    lost: float = 0.0
    doubled: float = 0.0
    reordered: float = 0.0

    def disturb(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """The receipts as they arrive; the same plan disturbs the same receipts in the same way."""
        rng = random.Random(self.seed)  # noqa: S311 (a repeatable trial, no secret)
        arriving: list[Receipt] = []
        for receipt in receipts:
            copies = 0 if rng.random() < self.lost else 2 if rng.random() < self.doubled else 1
            arriving.extend([receipt] * copies)
        for place in range(len(arriving)):
            if rng.random() < self.reordered:
                other = rng.randrange(len(arriving))
                arriving[place], arriving[other] = arriving[other], arriving[place]
        return arriving


def twilio_receipts(taken: Accepted, auth_token: str, statuses: Sequence[str] = ("sent", "delivered")) -> list[Receipt]:
    """The status callbacks of one SMS; none where the request asked for none."""
    url = str(taken.details.get("callback") or "")
    return [_callback(taken, url, auth_token, status) for status in statuses] if url else []


def sendgrid_receipts(
    accepted: Sequence[Accepted],
    *,
    url: str,
    key: EllipticCurvePrivateKey,
    events: Sequence[str] = ("processed", "delivered"),
    at: datetime | None = None,
) -> list[Receipt]:
    """The event webhooks of many e-mails, up to 500 events in each, posted `at` (else when the last thing happened)."""
    told = [event_of(taken, event) for taken in accepted for event in events]
    pieces = [told[first : first + EVENTS_PER_REQUEST] for first in range(0, len(told), EVENTS_PER_REQUEST)]
    return [_events(piece, url, key, at) for piece in pieces]


def inbound_sms(*, url: str, auth_token: str, sender: str, to: str, text: str) -> Receipt:
    """An SMS that a customer sent, such as STOP."""
    fields = {"MessageSid": "SM" + "0" * 32, "From": sender, "To": to, "Body": text}
    return _signed_form(url, fields, auth_token)


def loopback_address(url: str, rewrite: Mapping[str, str]) -> str:
    """Where a receipt for a public address goes in a trial; raises ValueError for anywhere but this machine."""
    for public, local in rewrite.items():
        if url.startswith(public):
            url = local + url.removeprefix(public)
            break
    if urlsplit(url).hostname not in _LOOPBACK:
        raise ValueError("receipts go to this machine only; say where with rewrite")
    return url


def _callback(taken: Accepted, url: str, auth_token: str, status: str) -> Receipt:
    fields = {
        "AccountSid": "AC" + "0" * 32,
        "MessageSid": taken.provider_id,
        "MessageStatus": status,
        "SmsSid": taken.provider_id,
        "SmsStatus": status,
        "To": taken.recipient,
    }
    return _signed_form(url, fields, auth_token)


def _signed_form(url: str, fields: Mapping[str, str], auth_token: str) -> Receipt:
    signature = sign_callback(auth_token, url, fields)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
    return Receipt(url, headers, urlencode(fields).encode())


def _events(
    events: Sequence[Mapping[str, Any]], url: str, key: EllipticCurvePrivateKey, at: datetime | None
) -> Receipt:
    body = json.dumps(events, ensure_ascii=False, sort_keys=True).encode()
    timestamp = str(max(int(event["timestamp"]) for event in events) if at is None else int(at.timestamp()))
    headers = {
        "Content-Type": "application/json",
        "X-Twilio-Email-Event-Webhook-Signature": sign_events(key, timestamp, body),
        "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
    }
    return Receipt(url, headers, body)
