"""Dispatch: the providers against plain clients that post ready-made bodies at the same sink in the same run.

Sizes: RETAIN_BENCH_MESSAGES (default 4,000; e-mails ten times as many), RETAIN_BENCH_ROUNDS (default 15, floor and
product in turn; a ratio is the median of the rounds' own: of two bests, each may have had its luck),
RETAIN_BENCH_QUEUE (default 40,000 messages for memory), RETAIN_BENCH_STEPS (default memory,sms,push,email,render). The
sink is a process of its own that reads requests and answers as the provider does. On a machine with other work to do,
the CPU times say more than the rates.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from channels.message import Address, Email, Outgoing, Push, Sms
from channels.provider import Provider, SendResult
from channels.providers.email_sendgrid import SendGridAccount, SendGridProvider, mail_body
from channels.providers.push_fcm import FcmProject, FcmProvider, FixedToken, message_body
from channels.providers.sms_twilio import TwilioAccount, TwilioProvider
from channels.wire import form, to_json

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT_ONCE = 64
ACCOUNT = "AC" + "0" * 32
HEADERS = {
    "List-Unsubscribe": "<https://shop.example/u/AbCdEfGhIjKlMnOpQrStUvWxYz012345>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
}

Work = Callable[[], Awaitable[int]]


def run() -> list[dict[str, Any]]:
    """One result for each step: messages a second of product and floor, their ratio, and its limit."""
    count = int(os.environ.get("RETAIN_BENCH_MESSAGES", "4000"))
    rounds = int(os.environ.get("RETAIN_BENCH_ROUNDS", "15"))
    steps = os.environ.get("RETAIN_BENCH_STEPS", "memory,sms,push,email,render").split(",")
    with _sink() as base:
        bench = _Bench(base, count, rounds)
        return [getattr(bench, f"bench_{step}")() for step in steps]


class _Bench:
    """The providers, set up to talk to the sink at `base`."""

    def __init__(self, base: str, count: int, rounds: int) -> None:
        self.base, self.count, self.rounds = base, count, rounds
        account = TwilioAccount(
            ACCOUNT, "token", sender="+15005550001", status_callback="https://h.example/s", base_url=base
        )
        self.twilio = TwilioProvider(account)
        self.fcm = FcmProvider(FcmProject("shop", FixedToken("access"), base_url=base))
        self.sendgrid = SendGridProvider(SendGridAccount("SG.key", "news@shop.example", base_url=base))

    def bench_sms(self) -> dict[str, Any]:
        """SMS; beside the plain aiohttp client also the official client called in a loop."""
        messages = [_sms(number) for number in range(self.count)]
        bodies = [form(self.twilio._fields(message, NOW)) for message in messages]
        url = f"{self.base}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        kind = "application/x-www-form-urlencoded"
        result = self._compare("sms", self._sending(self.twilio, messages), lambda: _post(url, bodies, kind), 0.6)
        loop_rate = _official_loop(self.base, messages[: max(self.count // 8, 100)])
        return {
            **result,
            "official_loop_per_s": round(loop_rate),
            "times_official_loop": round(result["per_s"] / loop_rate, 2),
        }

    def bench_push(self) -> dict[str, Any]:
        """Push notifications."""
        messages = [_push(number) for number in range(self.count)]
        bodies = [to_json(message_body(message, now=NOW)) for message in messages]
        url = f"{self.base}/v1/projects/shop/messages:send"
        floor = lambda: _post(url, bodies, "application/json")  # noqa: E731 (a name makes the next line readable)
        return self._compare("push", self._sending(self.fcm, messages), floor, 0.6)

    def bench_email(self) -> dict[str, Any]:
        """E-mails of one text, a thousand a request; the floor posts one finished body again and again."""
        messages = _emails(1_000)
        body = to_json(mail_body(self.sendgrid.account, messages))
        url = f"{self.base}/v3/mail/send"
        requests = max(self.count * 10 // len(messages), 1)

        async def floor() -> int:
            return len(messages) * await _post(url, [body] * requests, "application/json")

        async def product() -> int:
            for _ in range(requests):
                _check(await self.sendgrid.send(messages, now=NOW))
            await self.sendgrid.close()
            return len(messages) * requests

        result = self._compare("email", product, floor, None)
        return {**result, "limit_per_s": 20_000, "bytes_per_message": len(body) // len(messages)}

    def bench_render(self) -> dict[str, Any]:
        """Rendering of the same e-mails, from template and values."""
        template = _EmailTemplate()
        began, cpu = time.perf_counter(), time.process_time()
        for number in range(self.count):
            template.email(number)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        return {"step": "render", "per_s": round(self.count / seconds), "cpu_us": round(cpu / self.count * 1e6, 1)}

    def bench_memory(self) -> dict[str, Any]:
        """A long queue of SMS and e-mails, in batches of 500 made when they leave: what the process grows by."""
        total = int(os.environ.get("RETAIN_BENCH_QUEUE", "40000"))
        renderer = _EmailTemplate()
        sizes = []
        for begin in range(0, total, 4_000):
            asyncio.run(self._drain(renderer, begin, min(begin + 4_000, total)))
            sizes.append(_resident_mb())
        grown = sizes[-1] - sizes[min(1, len(sizes) - 1)]
        return {"step": "memory", "messages": total, "grown_mb": grown, "resident_mb": sizes[-1], "limit_mb": 300}

    async def _drain(self, renderer: _EmailTemplate, begin: int, end: int) -> None:
        for start in range(begin, end, 1_000):
            _check(await self.twilio.send([_sms(number) for number in range(start, start + 500)], now=NOW))
            emails = [renderer.email(number) for number in range(start + 500, start + 1_000)]
            _check(await self.sendgrid.send(emails, now=NOW))
        await self.twilio.close()
        await self.sendgrid.close()

    def _sending(self, provider: Provider, messages: Sequence[Outgoing]) -> Work:
        async def product() -> int:
            _check(await provider.send(messages, now=NOW))
            await provider.close()
            return len(messages)

        return product

    def _compare(self, step: str, product: Work, floor: Work, limit: float | None) -> dict[str, Any]:
        ours, theirs = [], []
        for _ in range(self.rounds):
            theirs.append(_measure(floor))
            ours.append(_measure(product))
        pairs = list(zip(ours, theirs, strict=True))
        low, middle, high = statistics.quantiles([ours_rate / rate for (ours_rate, _), (rate, _) in pairs], n=4)
        return {
            "step": step,
            "per_s": round(statistics.median(rate for rate, _ in ours)),
            "floor_per_s": round(statistics.median(rate for rate, _ in theirs)),
            "ratio": round(middle, 3),
            "ratio_quartiles": [round(low, 3), round(high, 3)],
            "limit": limit,
            "cpu_us": round(statistics.median(cpu for _, cpu in ours), 1),
            "floor_cpu_us": round(statistics.median(cpu for _, cpu in theirs), 1),
            "cpu_ratio": round(statistics.median(cpu / ours_cpu for (_, ours_cpu), (_, cpu) in pairs), 3),
        }


def _check(results: Sequence[SendResult]) -> None:
    assert all(result.outcome == "accepted" for result in results), results[0]


def _measure(work: Work) -> tuple[float, float]:
    """Messages a second, and CPU microseconds a message."""

    async def timed() -> tuple[float, float]:
        began, cpu = time.perf_counter(), time.process_time()
        done = await work()
        return done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1e6

    return asyncio.run(timed())


async def _post(url: str, bodies: Sequence[bytes], kind: str) -> int:
    """The floor: a plain aiohttp client, 64 tasks over one pool, that reads and parses each answer."""
    import aiohttp

    waiting = iter(bodies)
    headers = {"Content-Type": kind, "Authorization": "Bearer SG.key"}

    async def worker(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            async with session.post(url, data=body, headers=headers) as response:
                text = await response.read()
                assert response.status < 300
                if text:
                    json.loads(text)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        await asyncio.gather(*(worker(session) for _ in range(AT_ONCE)))
    return len(bodies)


def _official_loop(base: str, messages: Sequence[Outgoing]) -> float:
    from twilio.rest import Client

    client = Client(ACCOUNT, "token")
    client.api.base_url = base
    began = time.perf_counter()
    for message in messages:
        assert isinstance(message.content, Sms)
        client.messages.create(to=message.address.value, from_="+15005550001", body=message.content.body)
    return len(messages) / (time.perf_counter() - began)


def _sms(number: int) -> Outgoing:
    text = Sms(f"Hi Ann{number}, 10 % off your next order with BACK10 until Sunday. Stop: https://s.example/u/{number}")
    address = Address("sms", f"+1500555{number % 10_000:04}")
    return Outgoing(f"x1/C{number}/0", "sms", f"C{number}", address, text, expires_at=NOW + timedelta(hours=8))


def _push(number: int) -> Outgoing:
    content = Push("We miss you", f"Ann{number}, 10 % off your next order", {"code": "BACK10"})
    address = Address("push", f"token-{number}" + "x" * 140)
    return Outgoing(f"x1/C{number}/0", "push", f"C{number}", address, content, expires_at=NOW + timedelta(hours=8))


def _emails(count: int) -> list[Outgoing]:
    template = _EmailTemplate()
    return [template.email(number) for number in range(count)]


class _EmailTemplate:
    """E-mails of some 10 kB of HTML, rendered from one template."""

    def __init__(self) -> None:
        import tempfile

        from channels.render import Renderer

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "email"
            folder.mkdir()
            (folder / "w.subject.j2").write_text("{{ offer.text }}, {{ customer.first_name|default('friend') }}")
            (folder / "w.html.j2").write_text(
                "<html><head><style>p { color: #333 }</style></head><body>"
                "<p>Hi {{ customer.first_name|default('there') }}</p>"
                + "<p>Something good to read, and a picture of it.</p>"
                * 150
                + "<p>{{ offer.code }}</p><a href='{{ unsubscribe_url }}'>Stop</a> {{ company.postal_address }}"
                "</body></html>"
            )
            self._renderer = Renderer([Path(name)])
            self.email(0)

    def email(self, number: int) -> Outgoing:
        from channels.variables import sample_context

        context = sample_context({"first_name": f"Ann{number}"})
        context["unsubscribe_url"] = f"https://shop.example/u/{number:032}"
        content = self._renderer.render("email", "w", context)
        assert isinstance(content, Email)
        address = Address("email", f"customer{number}@example.com")
        return Outgoing(f"x1/C{number}/0", "email", f"C{number}", address, content, HEADERS)


def _resident_mb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


_HEAD = "HTTP/1.1 {}\r\nContent-Type: application/json\r\nX-Message-Id: m1\r\nContent-Length: {}\r\n\r\n{}"
_ANSWERS = {
    path: _HEAD.format(status, len(text), text).encode()
    for path, status, text in [
        (b"/2010", "201 Created", json.dumps({"sid": "SM" + "0" * 32, "status": "queued", "body": "x" * 90})),
        (b"/v1/p", "200 OK", json.dumps({"name": "projects/shop/messages/1"})),
        (b"/v3/m", "202 Accepted", ""),
    ]
}


class _Answering(asyncio.Protocol):
    """Reads requests of known length and gives each the provider's answer; nothing is parsed that need not be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._head, self._left = b"", 0

    def data_received(self, data: bytes) -> None:
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._left, data = self._left - taken, data[taken:]
            else:
                self._head += data
                head, found, data = self._head.partition(b"\r\n\r\n")
                if not found:
                    return
                self._path = head[5:10] if head.startswith(b"POST") else b""
                lower = head.lower()
                at = lower.index(b"content-length:") + 15
                self._left, self._head = int(lower[at : at + 12].split(b"\r")[0]), b""
            if not self._left:
                self._transport.write(_ANSWERS[self._path])


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextmanager
def _sink() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-m", "benchmarks.bench_dispatch"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve())
