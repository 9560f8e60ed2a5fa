"""SendGrid's mail/send as far as we use it, its refusals, logs and batches, and its signed event webhook."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from channels.simulators.http import Request, Response, json_response
from channels.simulators.record import Accepted, Book, Clock

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_CONDITION: Final = re.compile(r'(\w+ >?=) (?:TIMESTAMP )?"([^"]*)"')
_ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass
class SendGridSimulator:
    """One account and the addresses it refuses."""

    book: Book
    clock: Clock
    api_key: str = "SG.key"
    refused: set[str] = field(default_factory=set)
    _batches: int = 0

    @cached_property
    def signing_key(self) -> EllipticCurvePrivateKey:
        """The key its events are signed with; every simulator has its own."""
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.generate_private_key(ec.SECP256R1())

    def public_key(self) -> str:
        """The public key as SendGrid shows it: base64 of its DER form."""
        from cryptography.hazmat.primitives import serialization

        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = self.signing_key.public_key().public_bytes(serialization.Encoding.DER, form)
        return base64.b64encode(der).decode()

    def handles(self, request: Request) -> bool:
        """Whether the request is for this provider."""
        return request.path.startswith(("/v3/mail/", "/v3/logs", "/v3/user/scheduled_sends"))

    def sends(self, request: Request) -> bool:
        """Whether the request would send something, so that faults may happen to it."""
        return request.path == "/v3/mail/send"

    def recipient(self, request: Request) -> str:
        """The first recipient of the request."""
        try:
            return str(request.json()["personalizations"][0]["to"][0]["email"])
        except (ValueError, LookupError, TypeError):
            return ""

    def refuse(self, request: Request) -> Response | None:
        """The refusal a request deserves, or None."""
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return _errors(401, [("The provided authorization grant is invalid", None)])
        if not self.sends(request):
            return None
        try:
            document = request.json()
            people = document["personalizations"]
        except (ValueError, LookupError, TypeError):
            return _errors(400, [("Bad Request", None)])
        if not 1 <= len(people) <= 1_000:
            return _errors(400, [("between 1 and 1000 personalizations are allowed", "personalizations")])
        if len(request.body) > 30 * 1024 * 1024:
            return _errors(413, [("Payload too large", None)])
        wrong = [problem for number, person in enumerate(people) for problem in self._wrong_with(number, person)]
        return _errors(400, wrong) if wrong else None

    def accept(self, request: Request) -> Response:
        """Take every personalization, or answer a question about those taken."""
        if request.path.startswith("/v3/logs"):
            return self._log(request)
        if request.path == "/v3/mail/batch":
            self._batches += 1
            return json_response(201, {"batch_id": f"batch{self._batches:020}"})
        if request.path.startswith("/v3/user/scheduled_sends"):
            return self._cancel(request)
        document = request.json()
        if document.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            return Response(200)
        name = hashlib.sha256(f"{len(self.book.accepted)}".encode()).hexdigest()[:22]
        for number, person in enumerate(document["personalizations"]):
            self.book.add(self._taken(document, person, f"{name}.recvd-{number}"))
        return Response(202, headers={"X-Message-Id": name})

    def _taken(self, document: Mapping[str, Any], person: Mapping[str, Any], sg_message_id: str) -> Accepted:
        arguments = person.get("custom_args", {})
        subject = str(document.get("subject", ""))
        for tag, value in person.get("substitutions", {}).items():
            subject = subject.replace(tag, value)
        details = {
            "headers": person.get("headers", {}),
            "recipients": len(person["to"]),
            "custom_args": arguments,
            "sg_message_id": sg_message_id,
            "from": document.get("from", {}).get("email", ""),
            "batch_id": document.get("batch_id"),
        }
        key, to = arguments.get("message_key", ""), person["to"][0]["email"]
        return Accepted("sendgrid", key, to, sg_message_id.split(".")[0], subject, self.clock(), details)

    def _wrong_with(self, number: int, person: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        place = f"personalizations.{number}"
        wrong: list[tuple[str, str | None]] = [
            ("Does not contain a valid address.", f"{place}.to.{which}.email")
            for which, to in enumerate(person.get("to", []))
            if not _ADDRESS.fullmatch(to.get("email", "")) or to["email"] in self.refused
        ]
        size = sum(len(f"{tag}{value}".encode()) for tag, value in person.get("substitutions", {}).items())
        return wrong + ([("The substitutions are too large.", f"{place}.substitutions")] if size > 10_000 else [])

    def _log(self, request: Request) -> Response:
        """The Email Logs: POST /v3/logs lists by recipient and time, GET /v3/logs/{id} tells one with its arguments."""
        mine = [taken for taken in self.book.accepted if taken.provider == "sendgrid"]
        if request.method == "GET":
            name = request.path.removeprefix("/v3/logs/")
            found = [taken for taken in mine if taken.details["sg_message_id"] == name]
            if not found:
                return _errors(404, [("message not found", None)])
            return json_response(
                200, {**_logged(found[0]), "custom_args": found[0].details["custom_args"], "events": []}
            )
        try:
            document = request.json()
            asked = dict(_CONDITION.findall(document["query"]))
            to, since = asked["to_email ="], datetime.fromisoformat(asked["sg_message_id_created_at >="])
        except (ValueError, LookupError, TypeError):
            return _errors(400, [("the query is not understood", "query")])
        found = [taken for taken in reversed(mine) if taken.recipient == to and taken.at >= since]
        return json_response(200, {"messages": [_logged(taken) for taken in found[: document.get("limit", 10)]]})

    def _cancel(self, request: Request) -> Response:
        """Take back what a batch still holds."""
        try:
            document = request.json()
            batch, status = str(document["batch_id"]), str(document["status"])
        except (ValueError, LookupError, TypeError):
            return _errors(400, [("batch_id and status are needed", None)])
        if status not in ("cancel", "pause"):
            return _errors(400, [("status must be cancel or pause", "status")])
        self.book.withdraw(lambda taken: taken.details.get("batch_id") == batch)
        return json_response(201, {"batch_id": batch, "status": status})


def sign_events(key: EllipticCurvePrivateKey, timestamp: str, body: bytes) -> str:
    """The signature header of an event webhook: ECDSA over the timestamp and the body as sent."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return base64.b64encode(key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()


def event_of(taken: Accepted, event: str, *, number: int = 0, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One event about an accepted message, as the webhook tells it."""
    event_id = hashlib.sha256(f"{taken.provider_id}:{taken.key}:{event}:{number}".encode()).hexdigest()[:22]
    arguments = dict(taken.details.get("custom_args", {}))
    message_id = taken.details.get("sg_message_id", f"{taken.provider_id}.recvd-0")
    basics = {"email": taken.recipient, "timestamp": int(taken.at.timestamp()), "event": event}
    return {**arguments, **basics, "sg_event_id": event_id, "sg_message_id": message_id, **(extra or {})}


def _logged(taken: Accepted) -> dict[str, Any]:
    return {
        "from_email": taken.details["from"],
        "sg_message_id": taken.details["sg_message_id"],
        "sg_message_id_created_at": taken.at.isoformat(),
        "status": "processed",
        "subject": taken.body,
        "to_email": taken.recipient,
    }


def _errors(status: int, errors: Sequence[tuple[str, str | None]]) -> Response:
    return json_response(status, {"errors": [{"message": message, "field": name} for message, name in errors]})
