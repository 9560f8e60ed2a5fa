"""Notifications by FCM against the simulator: what is asked, what every answer means, and whose token opens the door."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from channels.providers.push_fcm import FcmProject, FcmProvider, ServiceAccountToken
from channels.simulators.server import Simulator
from channels.wire import NotSent, Wire
from tests.channels.sending import TIGHT, Answered, Make, fcm, send


def test_a_notification_carries_key_tag_and_life(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    send(fcm(base), [outgoing("push", expires_at=now + timedelta(hours=1))], now)

    message = simulator.requests[0].json()["message"]
    tag = message["android"]["notification"]["tag"]
    assert message["token"] == "token-1"
    assert message["notification"] == {"title": "Hello", "body": "你好"}
    assert message["data"] == {"code": "BACK10", "message_key": "x1/C1/0"}
    assert message["android"]["ttl"] == "3600s"
    assert message["apns"]["headers"] == {"apns-collapse-id": tag, "apns-expiration": str(int(now.timestamp()) + 3_600)}
    assert message["webpush"] == {"headers": {"TTL": "3600", "Topic": tag}, "notification": {"tag": tag}}


def test_an_expired_notification_stays(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    [result] = send(fcm(base), [outgoing("push", expires_at=now)], now)

    assert (result.outcome, result.code) == ("permanent", "expired")
    assert simulator.requests == []


def test_a_removed_app_is_to_be_suppressed(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> None:
    simulator.fcm.gone.add("token-1")

    [result] = send(fcm(base), [outgoing("push")], now)

    assert (result.outcome, result.code, result.action) == ("permanent", "UNREGISTERED", "suppress")


@pytest.mark.parametrize(
    ("status", "body", "outcome", "code", "action"),
    [
        (
            400,
            {"error": {"status": "INVALID_ARGUMENT", "details": ["x", {"a": 1}]}},
            "permanent",
            "INVALID_ARGUMENT",
            None,
        ),
        (
            403,
            {"error": {"status": "PERMISSION_DENIED", "details": [{"errorCode": "SENDER_ID_MISMATCH"}]}},
            "permanent",
            "SENDER_ID_MISMATCH",
            "suppress",
        ),
        (403, {"error": {"status": "PERMISSION_DENIED"}}, "transient", "PERMISSION_DENIED", "halt"),
        (
            429,
            {"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"errorCode": "QUOTA_EXCEEDED"}]}},
            "transient",
            "QUOTA_EXCEEDED",
            None,
        ),
        (404, {"error": "x"}, "unknown", "http_404", None),
        (400, {"error": {"status": "INVALID_ARGUMENT", "details": 5}}, "permanent", "INVALID_ARGUMENT", None),
        (404, {"error": {"status": 5}}, "unknown", "http_404", None),
        (400, [], "unknown", "http_400", None),
        (302, {}, "unknown", "http_302", None),
        (200, {"name": "x"}, "unknown", "malformed_answer", None),
        (201, {}, "unknown", "http_201", None),
    ],
)
def test_every_answer_of_fcm_has_its_meaning(
    answered: Answered, status: int, body: object, outcome: str, code: str | None, action: str | None
) -> None:
    result = answered("push", status, body)

    assert (result.outcome, result.code, result.action) == (outcome, code, action)


@pytest.fixture(scope="module")
def private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def test_a_service_account_gets_a_token_and_keeps_it_until_it_nears_its_end(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, private_key: str
) -> None:
    wire = Wire(TIGHT)
    source = ServiceAccountToken(
        {"client_email": "a@b.example", "private_key": private_key, "token_uri": f"{base}/token"}, wire=wire
    )
    provider = FcmProvider(FcmProject("shop", source, base_url=base), wire=wire)

    for minutes, key in [(0, "a"), (58, "b"), (60, "c")]:
        assert send(provider, [outgoing("push", key=key)], now + timedelta(minutes=minutes))[0].outcome == "accepted"

    asked = [request for request in simulator.requests if request.path == "/token"]
    assert len(asked) == 2
    import jwt

    claims = jwt.decode(asked[0].form["assertion"], options={"verify_signature": False})
    assert (claims["iss"], claims["iat"], claims["exp"] - claims["iat"]) == ("a@b.example", int(now.timestamp()), 3_600)


def test_without_a_token_nothing_leaves_and_the_project_halts(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, private_key: str
) -> None:
    wire = Wire(TIGHT)
    source = ServiceAccountToken(
        {"client_email": "a@b.example", "private_key": private_key, "token_uri": f"{base}/nothing"}, wire=wire
    )

    [result] = send(FcmProvider(FcmProject("shop", source, base_url=base), wire=wire), [outgoing("push")], now)

    assert (result.outcome, result.code, result.action) == ("transient", "no_token", "halt")
    with pytest.raises(NotSent):
        asyncio.run(source.token(now=now))
    assert simulator.book.accepted == []
