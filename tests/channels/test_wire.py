"""The wire: what is known about a request that failed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.departure import kept_back, leaving_while
from channels.simulators.http import HttpServer, Request, Response
from channels.wire import InDoubt, NotSent, Reply, Wire, WireLimits, each, form, retry_after_s

TIGHT = WireLimits(total_s=1.5, connect_s=1.0)  # long enough for a busy machine


async def exchange(response: Response, *, limits: WireLimits = TIGHT) -> Reply:
    async def handle(_: Request) -> Response:
        return response

    server, wire = HttpServer(handle), Wire(limits)
    port = await server.start()
    try:
        return await wire.request("POST", f"http://127.0.0.1:{port}/x", body=b"hello")
    finally:
        await wire.close()
        await server.stop()


def test_a_whole_answer_is_given_whole() -> None:
    reply = asyncio.run(exchange(Response(418, b"tea", {"X-Kind": "pot"})))

    assert (reply.status, reply.body, reply.headers["x-kind"]) == (418, b"tea", "pot")


def test_a_redirect_is_an_answer() -> None:
    assert asyncio.run(exchange(Response(302, b"", {"Location": "http://elsewhere.example/"}))).status == 302


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (Response(manner="hang"), "timeout"),
        (Response(200, b"x" * 50, manner="drip"), "timeout"),
        (Response(200, b"x", delay_s=1.0), "timeout"),
        (Response(manner="reset"), "disconnected"),
        (Response(manner="fin"), "disconnected"),
        (Response(200, b"x" * 50, manner="cut"), "broken_answer"),
        (Response(200, b"x" * 5_000_000), "broken_answer"),
    ],
)
def test_after_bytes_have_left_a_failure_is_in_doubt(response: Response, code: str) -> None:
    with pytest.raises(InDoubt) as caught:
        asyncio.run(exchange(response, limits=WireLimits(total_s=0.4 if code == "timeout" else 5.0)))
    assert caught.value.code == code


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://nowhere.invalid/", "nonsense"])
def test_before_any_byte_has_left_nothing_was_taken(url: str) -> None:
    async def run() -> None:
        wire = Wire(TIGHT)
        try:
            await wire.request("POST", url, body=b"x")
        finally:
            await wire.close()

    with pytest.raises(NotSent):
        asyncio.run(run())


def test_tls_that_fails_is_known_to_have_sent_nothing() -> None:
    """A plain-text server where TLS was expected: the handshake fails before the request."""

    async def run() -> None:
        async def handle(_: Request) -> Response:
            return Response()

        server, wire = HttpServer(handle), Wire(TIGHT)
        port = await server.start()
        try:
            await wire.request("POST", f"https://127.0.0.1:{port}/", body=b"x")
        finally:
            await wire.close()
            await server.stop()

    with pytest.raises(NotSent):
        asyncio.run(run())


def test_waiting_for_a_free_connection_counts_as_not_sent() -> None:
    async def run() -> list[str]:
        holds = asyncio.Event()

        async def handle(_: Request) -> Response:
            holds.set()
            return Response(manner="hang")

        server, wire = HttpServer(handle), Wire(WireLimits(connections=1, total_s=2.0))
        port = await server.start()

        async def one(_: int) -> str:
            try:
                await wire.request("POST", f"http://127.0.0.1:{port}/", body=b"x")
            except (NotSent, InDoubt) as error:
                return type(error).__name__
            return "answered"

        try:
            first = asyncio.create_task(one(0))
            await holds.wait()
            wire.limits = replace(wire.limits, total_s=0.2)  # the others give up long before the first one does
            return [*await each(range(2), one, at_once=2), await first]
        finally:
            await wire.close()
            await server.stop()

    assert asyncio.run(run()) == ["NotSent", "NotSent", "InDoubt"]


def test_nothing_leaves_any_more_once_it_may_not_and_questions_still_do() -> None:
    """Asked before each request's first byte, also where the connection is kept and the batch is half sent."""
    got: list[str] = []

    async def handle(request: Request) -> Response:
        got.append(request.method)
        return Response(200)

    async def send() -> list[str]:
        server, wire = HttpServer(handle), Wire(TIGHT)
        url = f"http://127.0.0.1:{await server.start()}/x"

        async def post(_: int) -> str:
            try:
                await wire.request("POST", url, body=b"hello")
            except NotSent as error:
                return error.code
            return "sent"

        try:
            with leaving_while(lambda: len(got) < 2):
                told = await each(range(5), post, at_once=1)
                assert (await wire.request("GET", url)).status == 200
            assert kept_back() is None
            return [*told, await post(9)]
        finally:
            await wire.close()
            await server.stop()

    assert asyncio.run(send()) == ["sent", "sent", "lease_over", "lease_over", "lease_over", "sent"]
    assert got == ["POST", "POST", "GET", "POST"]


def test_results_keep_their_order_and_no_more_than_asked_run_at_once() -> None:
    running, most = 0, 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number * 2

    assert asyncio.run(each(range(100), work, at_once=7)) == [number * 2 for number in range(100)]
    assert most == 7
    assert asyncio.run(each([], work, at_once=7)) == []


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=5))
def test_a_form_says_exactly_its_fields(fields: dict[str, str]) -> None:
    assert dict(parse_qsl(form(fields).decode("ascii"), keep_blank_values=True, strict_parsing=bool(fields))) == fields


def test_a_list_gives_its_field_several_times() -> None:
    assert form({"a": ["x", "+ &=%é"], "b": 1}) == b"a=x&a=%2B+%26%3D%25%C3%A9&b=1"


def test_what_a_provider_asks_to_wait_is_understood(now: datetime) -> None:
    later = now + timedelta(seconds=90)

    assert retry_after_s({"retry-after": "7"}, now=now) == 7.0
    assert retry_after_s({"retry-after": format_datetime(later)}, now=now) == 90.0
    assert retry_after_s({"retry-after": format_datetime(now - timedelta(days=1))}, now=now) == 0.0
    assert retry_after_s({"x-ratelimit-reset": str(int(later.timestamp()))}, now=now) == 90.0
    assert retry_after_s({"retry-after": "soon"}, now=now) is None
    assert retry_after_s({"x-ratelimit-reset": "soon"}, now=now) is None
    assert retry_after_s({}, now=now) is None
    assert retry_after_s({"retry-after": "²"}, now=now) is None
    assert retry_after_s({"x-ratelimit-reset": "nan"}, now=now) == 0.0


@pytest.mark.parametrize(
    "headers",
    [{"retry-after": "9" * 400}, {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, {"x-ratelimit-reset": "1e300"}],
)
def test_nobody_is_left_alone_for_more_than_a_day(now: datetime, headers: dict[str, str]) -> None:
    assert retry_after_s(headers, now=now) == 86_400.0
