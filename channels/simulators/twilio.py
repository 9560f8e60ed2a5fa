"""Twilio's Messages resource as far as we use it: create, list, fetch, cancel; its errors; its signed callbacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from channels.simulators.http import Request, Response, json_response
from channels.simulators.record import Accepted, Book, Clock

CREATE: Final = re.compile(r"/2010-04-01/Accounts/(AC[0-9a-f]{32})/Messages\.json")
FETCH: Final = re.compile(r"/2010-04-01/Accounts/(AC[0-9a-f]{32})/Messages/((?:SM|MM)[0-9a-f]{32})\.json")
_NUMBER: Final = re.compile(r"\+[1-9]\d{6,14}")


@dataclass
class TwilioSimulator:
    """One account: what it accepted, who has said STOP, and where callbacks go."""

    book: Book
    clock: Clock
    account_sid: str = "AC" + "0" * 32
    auth_token: str = "token"  # noqa: S105 (the simulator's own)
    stopped: set[str] = field(default_factory=set)

    def handles(self, request: Request) -> bool:
        """Whether the request is for this provider."""
        return request.path.startswith("/2010-04-01/")

    def sends(self, request: Request) -> bool:
        """Whether the request would send something, so that faults may happen to it."""
        return request.method == "POST" and CREATE.fullmatch(request.path) is not None

    def recipient(self, request: Request) -> str:
        """Whom the request wants to reach."""
        return request.form.get("To", "")

    def refuse(self, request: Request) -> Response | None:
        """The refusal a request deserves, or None."""
        expected = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return _error(401, 20003, "Authenticate")
        if request.method == "GET":
            return None
        form = request.form
        if FETCH.fullmatch(request.path):
            return (
                None if form == {"Status": "canceled"} else _error(400, 20001, "Status=canceled is all there is here")
            )
        if not CREATE.fullmatch(request.path):
            return _error(404, 20404, "The requested resource was not found")
        if not _NUMBER.fullmatch(form.get("To", "")):
            return _error(400, 21211, f"The 'To' number {form.get('To', '')} is not a valid phone number.")
        if not (form.get("From") or form.get("MessagingServiceSid")):
            return _error(400, 21603, "A 'From' phone number is required.")
        if not form.get("Body"):
            return _error(400, 21602, "Message body is required.")
        if len(form["Body"]) > 1_600:
            return _error(400, 21617, "The concatenated message body exceeds the 1600 character limit.")
        if form["To"] in self.stopped:
            return _error(400, 21610, "Attempt to send to unsubscribed recipient")
        return None

    def accept(self, request: Request) -> Response:
        """Take the message (or answer a question about the messages taken)."""
        if request.method == "GET":
            return self._read(request)
        if (match := FETCH.fullmatch(request.path)) is not None:
            return self._cancel(match[2])
        form = request.form
        callback = form.get("StatusCallback", "")
        key = parse_qs(urlsplit(callback).query).get("m", [""])[0]
        sid = "SM" + hashlib.sha256(f"{len(self.book.accepted)}:{key}".encode()).hexdigest()[:32]
        taken = Accepted("twilio", key, form["To"], sid, form["Body"], self.clock(), {"callback": callback, **form})
        self.book.add(taken)
        return json_response(201, self._document(taken))

    def _cancel(self, sid: str) -> Response:
        """Take back a message that is still scheduled."""
        found = [t for t in self.book.accepted if t.provider_id == sid and t.details.get("ScheduleType") == "fixed"]
        self.book.withdraw(lambda taken: taken in found)
        if not found:
            return _error(404, 20404, "no scheduled message of that name")
        return json_response(200, {**self._document(found[0]), "status": "canceled"})

    def _read(self, request: Request) -> Response:
        mine = [taken for taken in self.book.accepted if taken.provider == "twilio"]
        match = FETCH.fullmatch(request.path)
        if match:
            found = [taken for taken in mine if taken.provider_id == match[2]]
            return json_response(200, self._document(found[0])) if found else _error(404, 20404, "not found")
        to = request.query.get("To")
        wanted = [taken for taken in reversed(mine) if to is None or taken.recipient == to]
        page = {"page": 0, "page_size": 50, "uri": request.target, "first_page_uri": request.target}
        page.update(next_page_uri=None, previous_page_uri=None, start=0, end=max(len(wanted) - 1, 0))
        return json_response(200, {"messages": [self._document(taken) for taken in wanted[:50]], **page})

    def _document(self, taken: Accepted) -> dict[str, Any]:
        at = format_datetime(taken.at)
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Messages/{taken.provider_id}.json"
        service = taken.details.get("MessagingServiceSid")
        nothing = dict.fromkeys(("date_sent", "error_code", "error_message", "price", "price_unit"))
        return {
            **nothing,
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "body": taken.body,
            "date_created": at,
            "date_updated": at,
            "direction": "outbound-api",
            "from": taken.details.get("From"),
            "messaging_service_sid": service,
            "num_media": "0",
            "num_segments": "1",
            "sid": taken.provider_id,
            "status": _status(taken),
            "subresource_uris": {"media": uri.replace(".json", "/Media.json")},
            "to": taken.recipient,
            "uri": uri,
        }


def _status(taken: Accepted) -> str:
    """A message is scheduled only by a Messaging Service; with a sender it goes out now, whatever was asked."""
    if not taken.details.get("MessagingServiceSid"):
        return "queued"
    return "scheduled" if taken.details.get("ScheduleType") == "fixed" else "accepted"


def sign_callback(
    auth_token: str, url: str, fields: Mapping[str, str], *, digest: Literal["sha1", "sha256"] = "sha1"
) -> str:
    """The X-Twilio-Signature of a callback: an HMAC (SHA-1, or SHA-256 of a shared key) over address and fields."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(auth_token.encode(), text.encode(), digest).digest()).decode()


def _error(status: int, code: int, message: str) -> Response:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return json_response(status, {"code": code, "message": message, "more_info": more, "status": status})
