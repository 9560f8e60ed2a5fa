"""What the tests of channels share: a folder of templates, a context, messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from channels.message import Address, Channel, Content, Email, Outgoing, Push, Sms
from channels.provider import SendResult
from channels.render import Renderer
from channels.simulators.http import json_response
from channels.simulators.server import Simulator, running
from tests.channels.sending import PROVIDERS, Answered, Make, send

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    """The instant at which everything in these tests happens."""
    return NOW


@pytest.fixture
def templates(tmp_path: Path) -> Callable[..., Renderer]:
    """Make a renderer of templates given as path=text, with dots for the folder: templates({"sms/hi.txt.j2": "Hi"})."""

    def make(files: dict[str, str]) -> Renderer:
        for name, text in files.items():
            path = tmp_path / "templates" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return Renderer([tmp_path / "templates"])

    return make


@pytest.fixture
def sms(templates: Callable[..., Renderer]) -> Callable[..., str]:
    """Render one SMS template given as text."""

    def render(text: str, **context: Any) -> str:
        content = templates({"sms/t.txt.j2": text}).render("sms", "t", context)
        assert isinstance(content, Sms)
        return content.body

    return render


@pytest.fixture
def outgoing() -> Callable[..., Outgoing]:
    """Make a message ready to leave."""

    def make(channel: Channel = "sms", key: str = "x1/C1/0", **changes: Any) -> Outgoing:
        contents: dict[Channel, Content] = {
            "sms": Sms("Hello 你好"),
            "email": Email("Hello 你好", "<p>Hello <b>you</b></p>", "Hello you"),
            "push": Push("Hello", "你好", {"code": "BACK10"}),
        }
        values = {"sms": "+15005550006", "email": "ann@example.com", "push": "token-1"}
        fields: dict[str, Any] = {
            "key": key,
            "channel": channel,
            "customer_id": "C1",
            "address": Address(channel, values[channel]),
            "content": contents[channel],
        }
        return Outgoing(**{**fields, **changes})

    return make


@pytest.fixture
def simulator(now: datetime) -> Simulator:
    """All the providers' doubles, at the same instant as the tests."""
    return Simulator(clock=lambda: now)


@pytest.fixture
def base(simulator: Simulator) -> Iterator[str]:
    """The address at which the simulator answers."""
    with running(simulator) as address:
        yield address


@pytest.fixture
def answered(simulator: Simulator, base: str, outgoing: Make, now: datetime) -> Answered:
    """Send one message of a channel to a provider that gives this answer."""

    def answer(channel: Channel, status: int, body: object) -> SendResult:
        double = {"sms": simulator.twilio, "email": simulator.sendgrid, "push": simulator.fcm}[channel]
        double.refuse = lambda _: json_response(status, body)  # type: ignore[method-assign]  # any answer of the provider's
        [result] = send(PROVIDERS[channel](base), [outgoing(channel)], now)
        return result

    return answer
