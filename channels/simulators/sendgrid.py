"""SendGrid's mail/send as far as we use it, its refusals, and its signed event webhook."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from channels.simulators.http import Request, Response, json_response
from channels.simulators.record import Accepted, Book, Clock

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass
class SendGridSimulator:
    """One account and the addresses it refuses."""

    book: Book
    clock: Clock
    api_key: str = "SG.key"
    refused: set[str] = field(default_factory=set)

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
        return request.path.startswith("/v3/mail/")

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
        try:
            document = request.json()
            people = document["personalizations"]
        except (ValueError, LookupError, TypeError):
            return _errors(400, [("Bad Request", None)])
        if not 1 <= len(people) <= 1_000:
            return _errors(400, [("between 1 and 1000 personalizations are allowed", "personalizations")])
        wrong = [
            ("Does not contain a valid address.", f"personalizations.{number}.to.{place}.email")
            for number, person in enumerate(people)
            for place, to in enumerate(person.get("to", []))
            if not _ADDRESS.fullmatch(to.get("email", "")) or to["email"] in self.refused
        ]
        if len(request.body) > 30 * 1024 * 1024:
            return _errors(413, [("Payload too large", None)])
        return _errors(400, wrong) if wrong else None

    def accept(self, request: Request) -> Response:
        """Take every personalization."""
        document = request.json()
        if document.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            return Response(200)
        name = hashlib.sha256(f"{len(self.book.accepted)}".encode()).hexdigest()[:22]
        for person in document["personalizations"]:
            arguments = person.get("custom_args", {})
            details = {"headers": person.get("headers", {}), "recipients": len(person["to"]), "custom_args": arguments}
            to, body = person["to"][0]["email"], str(document.get("subject", ""))
            self.book.add(Accepted("sendgrid", arguments.get("message_key", ""), to, name, body, self.clock(), details))
        return Response(202, headers={"X-Message-Id": name})


def sign_events(key: EllipticCurvePrivateKey, timestamp: str, body: bytes) -> str:
    """The signature header of an event webhook: ECDSA over the timestamp and the body as sent."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return base64.b64encode(key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()


def event_of(taken: Accepted, event: str, *, number: int = 0, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One event about an accepted message, as the webhook tells it."""
    event_id = hashlib.sha256(f"{taken.provider_id}:{taken.key}:{event}:{number}".encode()).hexdigest()[:22]
    arguments = dict(taken.details.get("custom_args", {}))
    message_id = f"{taken.provider_id}.recvd-1"
    basics = {"email": taken.recipient, "timestamp": int(taken.at.timestamp()), "event": event}
    return {**arguments, **basics, "sg_event_id": event_id, "sg_message_id": message_id, **(extra or {})}


def _errors(status: int, errors: Sequence[tuple[str, str | None]]) -> Response:
    return json_response(status, {"errors": [{"message": message, "field": name} for message, name in errors]})
