"""How the tests of the providers send: each provider before the simulator, and questions about what is in doubt."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from channels.message import Address, Channel, Outgoing
from channels.provider import Provider, SendResult
from channels.providers.email_sendgrid import SendGridAccount, SendGridProvider
from channels.providers.push_fcm import FcmProject, FcmProvider, FixedToken
from channels.providers.sms_twilio import TwilioAccount, TwilioProvider
from channels.wire import Wire, WireLimits

Make = Callable[..., Outgoing]
Answered = Callable[[Channel, int, object], SendResult]
TIGHT = WireLimits(connections=16, total_s=1.0, connect_s=0.9)  # shorter than the simulator is late
ROOMY = WireLimits(connections=16, total_s=30.0, connect_s=10.0)


def twilio(base: str, **changes: str | None) -> TwilioProvider:
    fields = {
        "messaging_service_sid": "MG" + "1" * 32,
        "status_callback": "https://hooks.example/twilio",
        "base_url": base,
        **changes,
    }
    return TwilioProvider(TwilioAccount("AC" + "0" * 32, **{"auth_token": "token", **fields}), wire=Wire(TIGHT))  # type: ignore[arg-type]  # all of them are texts


def sendgrid(base: str, *, limits: WireLimits = TIGHT, **changes: object) -> SendGridProvider:
    fields: dict[str, object] = {"api_key": "SG.key", "sender": "news@shop.example", "base_url": base, **changes}
    return SendGridProvider(SendGridAccount(**fields), wire=Wire(limits))  # type: ignore[arg-type]  # named as the fields are


def fcm(base: str, token: str = "access") -> FcmProvider:
    return FcmProvider(FcmProject("shop", FixedToken(token), base_url=base), wire=Wire(TIGHT))


PROVIDERS: dict[Channel, Callable[[str], Provider]] = {"sms": twilio, "email": sendgrid, "push": fcm}


def send(provider: Provider, messages: Sequence[Outgoing], now: datetime) -> list[SendResult]:
    async def run() -> list[SendResult]:
        try:
            return await provider.send(messages, now=now)
        finally:
            await provider.close()

    return asyncio.run(run())


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def address_of(channel: Channel, n: int) -> Address:
    return Address(channel, {"sms": f"+1500555{n:04d}", "email": f"c{n}@example.com", "push": f"token-{n}"}[channel])


def find(
    provider: TwilioProvider | SendGridProvider, message: Outgoing, since: datetime, others: Collection[str] = ()
) -> SendResult | None:
    async def run() -> SendResult | None:
        try:
            return await provider.find(message, since=since, others=others)
        finally:
            await provider.close()

    return asyncio.run(run())
