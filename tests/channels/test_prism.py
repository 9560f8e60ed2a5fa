"""An independent judge: Prism stands between our providers and the simulator, and checks requests and answers alike.

`make prism` installs it and runs these tests; elsewhere they are skipped. In process the same descriptions are checked
by test_contract.py, field names of forms included, which Prism does not look at.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from channels.message import Address, Outgoing, Sms
from channels.provider import SendResult
from channels.providers.email_sendgrid import SendGridAccount, SendGridProvider
from channels.providers.sms_twilio import TwilioAccount, TwilioProvider
from channels.simulators.server import Simulator
from tests.conftest import skip_or_fail

pytestmark = pytest.mark.prism

Make = Callable[..., Outgoing]
ROOT = Path(__file__).parents[2]
SPECS = Path(os.environ.get("RETAIN_TEST_SPECS") or ROOT.parent / "shared" / "specs") / "strict"
STARTS_S = 60.0


def prism_program() -> str:
    """Where Prism is: RETAIN_TEST_PRISM, what `make prism` installed, or the path."""
    places = [os.environ.get("RETAIN_TEST_PRISM"), str(ROOT / "build" / "prism" / "node_modules" / ".bin" / "prism")]
    found = next((place for place in places if place and Path(place).is_file()), None) or shutil.which("prism")
    if found is None:
        skip_or_fail(
            "prism", "not installed; `make prism` installs it (npm, @stoplight/prism-cli) and runs these tests"
        )
    return str(found)


@contextmanager
def judged(description: str, upstream: str) -> Iterator[str]:
    """Prism before an upstream; gives its address. What does not fit the description is answered by a 4xx or 5xx."""
    path = SPECS / description
    if not path.is_file():
        skip_or_fail("specs", f"the providers' descriptions are not at hand ({path})")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [prism_program(), "proxy", "--errors", "-h", "127.0.0.1", "-p", str(port), str(path), upstream]
    prism = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until_it_listens(prism, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        prism.terminate()
        prism.wait(30)


def _until_it_listens(prism: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + STARTS_S
    while prism.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"Prism did not start within {STARTS_S:.0f} seconds (exit code {prism.poll()})")


def test_prism_lets_our_sms_and_our_questions_through_and_no_mistakes(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    messages = [
        outgoing("sms", expires_at=now + timedelta(hours=2)),
        outgoing("sms", key="b", content=Sms("Zweite + dritte & 你好")),
    ]

    async def use(address: str) -> tuple[list[SendResult], SendResult | None]:
        account = TwilioAccount(
            "AC" + "0" * 32,
            "token",
            messaging_service_sid="MG" + "1" * 32,
            status_callback="https://hooks.example/receipts/twilio/status",
            base_url=address,
        )
        provider = TwilioProvider(account)
        try:
            return await provider.send(messages, now=now), await provider.find(messages[0], since=now)
        finally:
            await provider.close()

    with judged("strict_tw.json", base) as address:
        results, found = asyncio.run(use(address))
        assert [result.outcome for result in results] == ["accepted", "accepted"]
        assert found is not None
        assert found.outcome == "accepted"
        assert len(simulator.book.accepted) == 2
        url = f"{address}/2010-04-01/Accounts/AC{'0' * 32}/Messages.json"
        assert (
            status_of(url, b"To=%2B15005550006&Body=x&ValidityPeriod=soon", "application/x-www-form-urlencoded") == 422
        )
        assert len(simulator.book.accepted) == 2


def test_prism_lets_our_e_mails_through_and_no_mistakes(
    simulator: Simulator, base: str, outgoing: Make, now: datetime
) -> None:
    headers = {"List-Unsubscribe": "<https://u.example/x>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    messages = [
        outgoing("email", key=f"k{n}", address=Address("email", f"c{n}@b.example"), headers=headers) for n in range(3)
    ]

    async def use(address: str) -> list[SendResult]:
        provider = SendGridProvider(
            SendGridAccount("SG.key", "news@shop.example", "Shop", asm_group_id=7, base_url=address)
        )
        try:
            return await provider.send(messages, now=now)
        finally:
            await provider.close()

    with judged("strict_sg.json", base) as address:
        assert [result.outcome for result in asyncio.run(use(address))] == ["accepted"] * 3
        assert len(simulator.book.accepted) == 3
        wrong = b'{"personalizations": [], "from": {"email": "a@b.example"}, "subject": "x", "content": []}'
        assert status_of(f"{address}/v3/mail/send", wrong, "application/json") >= 400
        assert len(simulator.book.accepted) == 3


def status_of(url: str, body: bytes, kind: str) -> int:
    """What a request of another's making is answered with."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": kind, "Authorization": "Basic eDp5"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
