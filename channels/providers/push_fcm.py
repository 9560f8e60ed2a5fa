"""Push notifications through FCM (HTTP v1): one request a message over our own wire.

FCM can neither be asked nor told a key, so a message in doubt is not sent again: capability N. Tag and collapse id are
made of the message key, so that a notification shown twice would replace itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Protocol

from channels.departure import carrying, running_clock
from channels.message import Channel, Outgoing, Push
from channels.provider import Action, Capability, SendResult
from channels.wire import InDoubt, NotSent, Reply, Wire, WireLimits, asked_to_wait_s, each, retry_after_s, to_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

LONGEST_LIFE_S: Final = 28 * 86_400
SHORTEST_WAIT_S: Final = 10.0
"""FCM asks for at least ten seconds before a second try."""

_NAME: Final = re.compile(r"projects/[^/]+/messages/.+")
_GONE: Final = frozenset({"UNREGISTERED", "SENDER_ID_MISMATCH"})


class TokenSource(Protocol):
    """Where the access token comes from."""

    async def token(self, *, now: datetime) -> str:
        """A token that is valid at `now`."""
        ...


@dataclass(frozen=True, slots=True)
class FixedToken:
    """A token that somebody else renews, or a simulator's."""

    value: str = field(repr=False)

    async def token(self, *, now: datetime) -> str:  # noqa: ARG002 (the protocol's signature)
        """The token."""
        return self.value


class ServiceAccountToken:
    """Tokens for a Google service account: a signed assertion is exchanged for one, kept until it nears its end.

    Source: Google, "Using OAuth 2.0 for server to server applications" (RFC 7523 assertions, RS256).
    """

    SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"

    def __init__(self, info: Mapping[str, str], *, wire: Wire) -> None:
        """`info` is the service account's key file; raises KeyError where client_email or private_key is missing.

        Raises ValueError for a key that is none: found when the first message leaves, it would be too late.
        """
        self._email, self._key = info["client_email"], _rsa_key(info["private_key"])
        self._address = info.get("token_uri", "https://oauth2.googleapis.com/token")
        self._wire = wire
        self._token, self._until = "", 0.0

    async def token(self, *, now: datetime) -> str:
        """A token with at least a minute left. Raises NotSent where none can be had: nothing was sent then."""
        if now.timestamp() > self._until - 60:
            self._token, life_s = await self._fetch(int(now.timestamp()))
            self._until = now.timestamp() + life_s
        return self._token

    async def _fetch(self, issued_s: int) -> tuple[str, float]:
        import jwt

        claims = {
            "iss": self._email,
            "scope": self.SCOPE,
            "aud": self._address,
            "iat": issued_s,
            "exp": issued_s + 3600,
        }
        assertion = jwt.encode(claims, self._key, algorithm="RS256")
        body = f"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}".encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            reply = await self._wire.request("POST", self._address, headers=headers, body=body)
            document = json.loads(reply.body)
            return str(document["access_token"]), float(document.get("expires_in", 3600))
        except (InDoubt, ValueError, KeyError, TypeError, RecursionError):
            raise NotSent("no_token") from None


def _rsa_key(text: str) -> RSAPrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text.encode(), password=None)
    except UnsupportedAlgorithm:
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("a service account's key is an RSA key")
    return key


@dataclass(frozen=True, slots=True)
class FcmProject:
    """The Firebase project whose app is spoken to."""

    project_id: str
    tokens: TokenSource
    base_url: str = "https://fcm.googleapis.com"


class FcmProvider:
    """Sends push notifications through one Firebase project."""

    name: Final = "fcm"
    channel: Final[Channel] = "push"
    capability: Final[Capability] = "N"

    def __init__(self, project: FcmProject, *, wire: Wire | None = None) -> None:
        """`wire` bounds connections and time; one is made if none is given."""
        self.project = project
        self.wire = wire or Wire(WireLimits(connections=64, total_s=20.0))

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        """One request for each message; without an access token none of them leaves and all are to be tried later."""
        try:
            token = await self.project.tokens.token(now=now)
        except NotSent as error:
            return [_transient(message.key, error.code, "no access token", action="halt") for message in batch]
        clock = running_clock(now)
        return await each(
            batch, lambda message: self._send(message, token, now, clock), at_once=self.wire.limits.connections
        )

    async def close(self) -> None:
        """Close the connections; the next send opens them again."""
        await self.wire.close()

    async def _send(self, message: Outgoing, token: str, now: datetime, clock: Callable[[], datetime]) -> SendResult:
        problem = _malformed(message, now)
        if problem is not None:
            return problem
        url = f"{self.project.base_url}/v1/projects/{self.project.project_id}/messages:send"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = to_json(message_body(message, now=clock()))  # the last of a batch may leave long after the first
        try:
            with carrying((message.key,)):
                reply = await self.wire.request("POST", url, headers=headers, body=body)
            return classify(message.key, reply, now=now)
        except NotSent as error:
            return _transient(message.key, error.code, "the request did not leave")
        except InDoubt as error:
            return SendResult(message.key, "unknown", code=error.code, reason="the request left, no answer came")


def message_body(message: Outgoing, *, now: datetime) -> dict[str, Any]:
    """The body of messages:send: shown once per message key, forgotten when the message expires."""
    content = message.content
    assert isinstance(content, Push)  # checked before
    tag = hashlib.sha256(message.key.encode()).hexdigest()[:32]
    life_s = LONGEST_LIFE_S if message.expires_at is None else ceil((message.expires_at - now).total_seconds())
    life_s = max(1, min(life_s, LONGEST_LIFE_S))
    return {
        "message": {
            "token": message.address.value,
            "notification": {"title": content.title, "body": content.body},
            "data": {**content.data, "message_key": message.key},
            "android": {"ttl": f"{life_s}s", "notification": {"tag": tag}},
            "apns": {"headers": {"apns-collapse-id": tag, "apns-expiration": str(int(now.timestamp()) + life_s)}},
            "webpush": {"headers": {"TTL": str(life_s), "Topic": tag}, "notification": {"tag": tag}},
        }
    }


def classify(key: str, reply: Reply, *, now: datetime) -> SendResult:
    """What an answer says about its message: by status and by FCM's error code."""
    status = reply.status
    if status == 200:
        name = _document(reply).get("name")
        if isinstance(name, str) and _NAME.fullmatch(name):
            return SendResult(key, "accepted", provider_id=name)
        return SendResult(key, "unknown", code="malformed_answer", reason="the answer has no message name")
    if status >= 500 or status < 400:
        wait, reason = asked_to_wait_s(reply, now=now), "the answer does not say whether it was taken"
        return SendResult(key, "unknown", code=f"http_{status}", reason=reason, retry_after_s=wait)
    code = _error_code(reply)
    if status == 429:
        wait = max(SHORTEST_WAIT_S, retry_after_s(reply.headers, now=now) or 0.0)
        return SendResult(key, "transient", code=code or "429", reason="too many for now", retry_after_s=wait)
    if code in _GONE:
        return SendResult(key, "permanent", code=code, reason="the app is no longer there", action="suppress")
    if status in (401, 403):
        return _transient(key, code or str(status), "the project", action="halt")
    if code is None:
        return SendResult(key, "unknown", code=f"http_{status}", reason="an answer that is not FCM's")
    return SendResult(key, "permanent", code=code, reason="refused by FCM")


def _transient(key: str, code: str, reason: str, action: Action | None = None) -> SendResult:
    return SendResult(key, "transient", code=code, reason=reason, action=action)


def _malformed(message: Outgoing, now: datetime) -> SendResult | None:
    if not isinstance(message.content, Push) or not message.address.value.strip():
        return SendResult(message.key, "permanent", code="malformed", reason="no notification, or no token")
    if message.expires_at is not None and message.expires_at <= now:
        return SendResult(message.key, "permanent", code="expired", reason="its time was over before it left")
    return None


def _error_code(reply: Reply) -> str | None:
    """FCM's own code where the answer has one (details[].errorCode), else the general status."""
    error = _document(reply).get("error")
    if not isinstance(error, dict):
        return None
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("errorCode"), str):
            return str(detail["errorCode"])
    status = error.get("status")
    return status if isinstance(status, str) else None


def _document(reply: Reply) -> dict[str, Any]:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
