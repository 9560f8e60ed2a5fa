"""Every request we make is valid by the providers' own published descriptions (made stricter), where these are at hand."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from channels.message import Address, Email, Outgoing, SharedEmail
from channels.provider import Provider
from channels.providers.email_sendgrid import SendGridAccount, SendGridProvider
from channels.providers.push_fcm import FcmProject, FcmProvider, FixedToken
from channels.providers.sms_twilio import TwilioAccount, TwilioProvider
from channels.simulators.http import Request
from channels.simulators.server import Simulator
from tests.conftest import skip_or_fail

Make = Callable[..., Outgoing]
SPECS = Path(os.environ.get("RETAIN_TEST_SPECS") or Path(__file__).parents[3] / "shared" / "specs") / "strict"


def spec(name: str) -> dict[str, Any]:
    path = SPECS / name
    if not path.is_file():
        skip_or_fail("specs", f"the providers' descriptions are not at hand ({path})")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def validator(document: dict[str, Any], reference: str, uri: str) -> jsonschema.Draft202012Validator:
    registry: Registry[Any] = Registry().with_resource(
        uri, Resource.from_contents(document, default_specification=DRAFT202012)
    )
    return jsonschema.Draft202012Validator({"$ref": f"{uri}#{reference}"}, registry=registry)


@pytest.fixture
def twilio_schema() -> jsonschema.Draft202012Validator:
    reference = "/paths/~12010-04-01~1Accounts~1%7BAccountSid%7D~1Messages.json/post/requestBody/content/application~1x-www-form-urlencoded/schema"
    return validator(spec("strict_tw.json"), reference, "urn:twilio")


@pytest.fixture
def sendgrid_schema() -> jsonschema.Draft202012Validator:
    return validator(
        spec("strict_sg.json"),
        "/components/requestBodies/PostMailSend/content/application~1json/schema",
        "urn:sendgrid",
    )


@pytest.fixture
def fcm_schema() -> jsonschema.Draft202012Validator:
    return validator({"schemas": spec("fcm_schema.json")}, "/schemas/SendMessageRequest", "urn:fcm")


def requests_of(simulator: Simulator, provider: Provider, messages: list[Outgoing], now: datetime) -> list[Request]:
    assert {result.outcome for result in asyncio.run(provider.send(messages, now=now))} == {"accepted"}
    asyncio.run(provider.close())
    return simulator.requests


def form_of(request: Request) -> dict[str, object]:
    """The form's fields in the types the description gives them."""
    return {name: int(value) if name == "ValidityPeriod" else value for name, value in request.form.items()}


def test_sms_requests_are_valid(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, twilio_schema: jsonschema.Draft202012Validator
) -> None:
    service = TwilioAccount(
        "AC" + "0" * 32,
        "token",
        messaging_service_sid="MG" + "1" * 32,
        status_callback="https://h.example/s",
        base_url=base,
    )
    sender = TwilioAccount("AC" + "0" * 32, "token", sender="+15005550001", base_url=base)
    messages = [
        outgoing("sms"),
        outgoing("sms", key="b", expires_at=now + timedelta(days=9)),
        outgoing("sms", key="c", expires_at=now + timedelta(seconds=1)),
    ]

    for account in (service, sender):
        for request in requests_of(simulator, TwilioProvider(account), messages, now):
            twilio_schema.validate(form_of(request))


def test_a_question_about_an_sms_names_only_what_twilio_knows(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    listing = spec("strict_tw.json")["paths"]["/2010-04-01/Accounts/{AccountSid}/Messages.json"]["get"]
    provider = TwilioProvider(TwilioAccount("AC" + "0" * 32, "token", sender="+15005550001", base_url=base))

    async def ask() -> None:
        await provider.send([outgoing("sms")], now=now)
        assert await provider.find(outgoing("sms"), since=now) is not None
        await provider.close()

    asyncio.run(ask())

    asked = simulator.requests[1].query
    assert asked["To"] == "+15005550006"
    assert asked.keys() <= {parameter["name"] for parameter in listing["parameters"]}


def test_email_requests_are_valid(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, sendgrid_schema: jsonschema.Draft202012Validator
) -> None:
    plain = SendGridAccount("SG.key", "news@shop.example", base_url=base)
    full = SendGridAccount("SG.key", "news@shop.example", "Shop", "care@shop.example", 7, base_url=base)
    headers = {"List-Unsubscribe": "<https://u.example/x>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    messages = [outgoing("email", key=f"k{n}", headers=headers) for n in range(3)]

    text = SharedEmail("Hi *retain-t000x", "<p>*retain-h000x</p>", "*retain-w000x")
    values = {"*retain-t000x": "<A>", "*retain-h000x": "&lt;A&gt;", "*retain-w000x": "<A>"}
    content = Email("Hi <A>", "<p>&lt;A&gt;</p>", "<A>", text, values)
    messages += [
        outgoing("email", key=f"s{n}", address=Address("email", f"s{n}@b.example"), content=content) for n in (1, 2)
    ]

    for account in (plain, full):
        for request in requests_of(simulator, SendGridProvider(account), messages, now):
            sendgrid_schema.validate(request.json())
    assert any("substitutions" in request.json()["personalizations"][0] for request in simulator.requests)


def test_questions_about_what_was_accepted_are_valid(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    asked = validator(
        spec("../tsg_logs_v3.json"), "/components/schemas/EmailLogsGetMessagesByFilterRequest", "urn:sendgrid-logs"
    )
    answered = validator(
        spec("../tsg_logs_v3.json"), "/components/schemas/EmailLogsGetMessagesByFilterResponse", "urn:sendgrid-logs"
    )
    provider = SendGridProvider(SendGridAccount("SG.key", "news@shop.example", base_url=base, email_logs=True))

    async def ask() -> None:
        await provider.send([outgoing("email")], now=now)
        assert await provider.find(outgoing("email"), since=now) is not None
        await provider.close()

    asyncio.run(ask())

    sent, listed, told = simulator.requests
    asked.validate(listed.json())
    answered.validate(json.loads(simulator.sendgrid.accept(listed).body))
    assert (sent.path, told.method) == ("/v3/mail/send", "GET")


def test_push_requests_are_valid(
    simulator: Simulator, base: str, outgoing: Make, now: datetime, fcm_schema: jsonschema.Draft202012Validator
) -> None:
    provider = FcmProvider(FcmProject("shop", FixedToken("access"), base_url=base))
    messages = [outgoing("push"), outgoing("push", key="b", expires_at=now + timedelta(days=99))]

    for request in requests_of(simulator, provider, messages, now):
        fcm_schema.validate(request.json())


def test_the_descriptions_would_catch_our_mistakes(
    twilio_schema: jsonschema.Draft202012Validator,
    sendgrid_schema: jsonschema.Draft202012Validator,
    fcm_schema: jsonschema.Draft202012Validator,
) -> None:
    good = {"To": "+15005550006", "From": "+15005550001", "Body": "x"}
    assert twilio_schema.is_valid(good)
    for wrong in ({"StatusCalback": "x"}, {"To": " 15005550006"}, {"ValidityPeriod": 36_001}):
        assert not twilio_schema.is_valid({**good, **wrong})
    assert not sendgrid_schema.is_valid(
        {"personalizations": [], "from": {"email": "a@b.example"}, "content": [{"type": "text/plain", "value": "x"}]}
    )
    assert not fcm_schema.is_valid({"message": {"token": "x", "titel": "y"}})
