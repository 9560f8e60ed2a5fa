"""The processes of a trial: workers that die at named points or carry a seeded bug, the provider, the receiving app.

Nothing here is known to the product: a worker runs the real delivery step, and what happens at its named points is hung
around the ledger's verbs and the providers' wires from outside. Every process is forked off one that has imported all
this already, so that a hundred workers cost a hundred forks.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import struct
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import twilio.rest  # noqa: F401 (imported once, before the workers are forked)
import uvicorn

from channels.message import Outgoing
from channels.provider import SendResult
from channels.simulators.faults import FaultPlan
from channels.simulators.server import Simulator
from flows.settings import Settings, read_settings
from flows.steps import deliver_messages, reconcile_doubts
from flows.steps.dispatch_pace import Pace, accounts_of
from flows.wiring import Workspace, open_workspace
from warehouse.ledger import outbox
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.outbox import Settlement
from web.app import create_app
from web.receiving import WithReceiving

# what is hung around them, and the bugs in them, are not of the types that they declare
delivery: Any = deliver_messages
reconciliation: Any = reconcile_doubts

START: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ANSWER_WITHIN_S: Final = 1.0
"""In real seconds: what hangs costs the trial no more."""

COMMITS: Final = ("sweep", "claim", "intend", "settle", "release", "reconcile")
"""Verbs of which the last moment before the commit is a point."""
POINTS: Final = (
    *(f"{verb}: before the commit" for verb in COMMITS),
    *(f"{verb}: done" for verb in COMMITS),
    "about to send",
    "in flight",
    "one answer",
    "all answers",
    "counted",
)


class SharedClock:
    """The time of all processes of a trial: a minute a second, and what the test jumps over.

    No faster: a request that a busy machine holds up for a second must not be taken for one of an hour ago. The
    file holds when the trial began, by the clock that all processes share, and how far it has jumped.
    """

    MINUTE_S: Final = 1.0

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(struct.pack("dd", time.monotonic(), 0.0))

    def __call__(self) -> datetime:
        began_s, jumped_s = struct.unpack("dd", self.path.read_bytes())
        return START + timedelta(seconds=jumped_s + 60.0 / self.MINUTE_S * (time.monotonic() - began_s))

    def sleep(self, seconds: float) -> None:
        """Wait until so much time has passed."""
        time.sleep(seconds * self.MINUTE_S / 60.0)

    def jump(self, by: timedelta) -> None:
        """Let time pass at once; for the test alone, while nothing is under way."""
        began_s, jumped_s = struct.unpack("dd", self.path.read_bytes())
        aside = self.path.with_suffix(".new")
        aside.write_bytes(struct.pack("dd", began_s, jumped_s + by.total_seconds()))
        aside.replace(self.path)


@dataclass(frozen=True)
class Place:
    """Where a trial takes place; everything a process needs to join in."""

    root: Path
    settings: dict[str, Any]

    @property
    def clock(self) -> SharedClock:
        return SharedClock(self.root / "clock")

    def read_settings(self) -> Settings:
        return read_settings(self.root / "shop", overrides=self.settings)

    def note(self, kind: str, what: str) -> None:
        """Add a line to what processes tell; it is on the disk's side of a kill."""
        with (self.root / f"{kind}.txt").open("a", encoding="utf-8") as file:
            file.write(what + "\n")

    def notes(self, kind: str) -> list[str]:
        path = self.root / f"{kind}.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@dataclass(frozen=True)
class Job:
    """A worker's life: at the `hit`-th time it comes to `point` it gets `end` (SIGKILL or SIGSTOP)."""

    place: Place
    name: str
    batch: int
    point: str | None = None
    hit: int = 1
    end: int = int(signal.SIGKILL)
    bugs: frozenset[str] = frozenset()


def work(job: Job) -> None:
    """Deliver until nothing may leave any more; a worker that fails says why and exits with 1."""
    try:
        with open_workspace(job.place.read_settings()) as ws:
            _work(ws, job)
    except LedgerError as error:
        job.place.note("errors", f"{type(error).__name__}: {error}")
        os._exit(1)
    except BaseException:  # noqa: BLE001 (told to the test, which fails)
        job.place.note("broken", traceback.format_exc())
        os._exit(2)


MOST_RESTS: Final = 25
"""Half-minutes that a worker waits for an account at most: one that nobody writes to any more rests for ever."""


def _work(ws: Workspace, job: Job) -> None:
    clock, points = job.place.clock, Points(job)
    for channel in ("sms", "email", "push"):
        wire = wire_of(ws, channel)
        wire.limits = replace(wire.limits, total_s=ANSWER_WITHIN_S)
    delivery.BATCH = job.batch  # many small batches have more moments than few large ones
    _seed(ws, job.bugs)
    points.hang_around(ws)
    job.place.note("ready", job.name)
    for _ in range(MOST_RESTS):
        pace = Pace(ws.ledger, job.name, accounts_of(ws.settings), clock=clock, sleep=clock.sleep)
        delivered = delivery.deliver_messages(ws, now=clock(), worker=job.name, clock=clock, pace=pace)
        if delivered.held or delivered.paused or delivered.unusable:
            raise AssertionError(f"nothing keeps messages back here, but {delivered.stopped()}")
        if not delivered.resting:
            return
        clock.sleep(31.0)


def wire_of(ws: Workspace, channel: str) -> Any:
    """The wire of a channel's provider; each of the three has one."""
    provider: Any = ws.providers[channel]
    return provider.wire


@dataclass
class Points:
    """The named moments of a worker's life, and what happens when it comes to one."""

    job: Job
    verb: str = ""
    met: Counter[str] = field(default_factory=Counter)

    def reach(self, point: str) -> None:
        assert point in POINTS
        self.met[point] += 1
        if point == self.job.point and self.met[point] == self.job.hit:
            self.job.place.note("points", point)
            os.kill(os.getpid(), self.job.end)

    def hang_around(self, ws: Workspace) -> None:
        """Hang the points around the ledger's verbs and the providers' wires."""
        for verb in ("sweep", "claim", "intend", "settle", "release"):
            setattr(delivery, verb, self._around(verb, getattr(delivery, verb)))
        reconciliation.settle = self._around("reconcile", reconciliation.settle)
        delivery.count_sent = self._then("counted", delivery.count_sent)
        sa.event.listen(ws.ledger.engine, "commit", self._commit)
        send = delivery._send_batch

        async def send_batch(*given: Any) -> Any:
            results = await send(*given)
            self.reach("all answers")
            return results

        delivery._send_batch = send_batch
        for channel in ("sms", "email", "push"):
            wire = wire_of(ws, channel)
            wire.request = self._requesting(wire.request)

    def _around(self, verb: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def around(*given: Any, **more: Any) -> Any:
            self.verb = verb
            try:
                result = work(*given, **more)
            finally:
                self.verb = ""
            self.reach(f"{verb}: done")
            return result

        return around

    def _then(self, point: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def then(*given: Any, **more: Any) -> Any:
            result = work(*given, **more)
            self.reach(point)
            return result

        return then

    def _commit(self, _connection: Any) -> None:
        if self.verb:
            self.reach(f"{self.verb}: before the commit")

    def _requesting(self, request: Callable[..., Any]) -> Callable[..., Any]:
        async def requesting(method: str, url: str, **more: Any) -> Any:
            if method != "POST":
                return await request(method, url, **more)
            self.reach("about to send")
            if self.job.point == "in flight":
                task = asyncio.create_task(request(method, url, **more))
                await asyncio.wait([task], timeout=0.004)
                self.reach("in flight")
                return await task
            reply = await request(method, url, **more)
            self.reach("one answer")
            return reply

        return requesting


# --- bugs to be found -------------------------------------------------------------------------------------------------


def _seed(ws: Workspace, bugs: frozenset[str]) -> None:
    for bug in sorted(bugs):
        BUGS[bug](ws)


def _send_before_the_intent(_ws: Workspace) -> None:
    """The intent is committed after the answers are there."""
    intend, send = delivery.intend, delivery._send_batch
    waiting: list[Callable[[], Any]] = []

    def later(ledger: Any, keys: Sequence[str], *given: Any, **more: Any) -> list[str]:
        waiting.append(lambda: intend(ledger, keys, *given, **more))
        return list(keys)

    async def send_then_intend(*given: Any) -> Any:
        results = await send(*given)
        while waiting:
            waiting.pop()()
        return results

    delivery.intend, delivery._send_batch = later, send_then_intend


def _settle_before_sending(ws: Workspace) -> None:
    """Messages are marked as sent first, so that nobody sends them twice."""
    send = delivery._send_batch

    async def mark_then_send(provider: Any, batch: Sequence[Outgoing], run: Any) -> list[SendResult]:
        marked = [Settlement(message_key=message.key, state="sent") for message in batch]
        outbox.settle(ws.ledger, marked, run.now)
        return list(await send(provider, batch, run))

    delivery._send_batch = mark_then_send


def _retry_unknown(_ws: Workspace) -> None:
    """What got no answer is tried again, as any HTTP library would."""
    settlement = delivery.settlement_of

    def again(ws: Any, message: Any, result: SendResult, attempt: Any, **more: Any) -> Any:
        known = replace(result, outcome="transient") if result.outcome == "unknown" else result
        return settlement(ws, message, known, attempt, **more)

    delivery.settlement_of = again


def _give_back_intents(_ws: Workspace) -> None:
    """The sweep takes an intent whose lease ended for a claim."""
    sweep = delivery.sweep

    def forgetful(ledger: Any, now: datetime) -> Any:
        swept = sweep(ledger, now)
        with ledger.read() as tx:
            doubtful = [row for row in outbox.in_doubt(tx) if row.reason == "lease_ended"]
        outbox.settle(ledger, [Settlement(message_key=row.message_key, state="pending") for row in doubtful], now)
        return swept

    delivery.sweep = forgetful


def _ask_too_little(_ws: Workspace) -> None:
    """What the provider could not be asked about is taken for not taken."""
    ask = reconciliation._ask

    async def nothing_found(*given: Any) -> Any:
        return [(key, None) for key, _ in await ask(*given)]

    reconciliation._ask = nothing_found


def _look_no_more(_ws: Workspace) -> None:
    """Nobody looks at the lease again once the intent is committed."""
    delivery._Run.may_leave = lambda _run: True


def _no_fence(_ws: Workspace) -> None:
    """Whoever has claimed a message once may send it, whatever happened since."""
    delivery._Run.may_leave = lambda _run: True
    delivery.intend = lambda _ledger, keys, *_, **__: list(keys)


BUGS: Final[dict[str, Callable[[Workspace], None]]] = {
    "sends before the intent": _send_before_the_intent,
    "settles before sending": _settle_before_sending,
    "retries what is unknown": _retry_unknown,
    "gives intents back": _give_back_intents,
    "asks too little": _ask_too_little,
    "looks no more": _look_no_more,
    "no fence": _no_fence,
}


# --- the provider and the receiving app -------------------------------------------------------------------------------


def provide(place: Place, plan: dict[str, Any], told: Connection) -> None:
    """The providers' process: outlives every worker, and remembers what it accepted. Tells its address."""

    async def serve() -> None:
        simulator = Simulator(clock=place.clock, plan=FaultPlan.from_json(plan))
        base = await simulator.start()
        told.send((base, simulator.sendgrid.public_key()))
        await asyncio.Event().wait()

    asyncio.run(serve())


def receive(place: Place, told: Connection) -> None:
    """The real receiving app in a process of its own. Tells its port."""
    settings = place.read_settings()
    app = WithReceiving(create_app(settings), settings, clock=place.clock)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    told.send(server.servers[0].sockets[0].getsockname()[1])
    thread.join()


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()
