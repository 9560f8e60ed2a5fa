"""A trial of delivery: a real campaign, workers that are killed, a provider with bad days, receipts that get lost.

The provider's own record is the judge: `Outcome.violations` holds the ledger against it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from flows.steps.deliver_messages import LEASE
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.steps.run_campaign import run_campaign
from flows.steps.show_status import show_status
from flows.wiring import open_workspace
from tests.invariants import trial_processes
from tests.invariants.trial_processes import POINTS, START, Job, Place
from warehouse.ledger.schema import message_events, outbox

PUBLIC: Final = "https://news.shop.example"
CHANNELS: Final = ("sms", "email", "push")
FAULTS: Final = {
    "too_many": 0.03,
    "error_503_accepted": 0.02,
    "error_500": 0.02,
    "reset_accepted": 0.02,
    "reset_before": 0.01,
    "late_accepted": 0.01,
    "closed_accepted": 0.015,
    "cut_accepted": 0.01,
    "html_accepted": 0.01,
    "empty_accepted": 0.005,
    "wrong_id_accepted": 0.005,
    "hang_accepted": 0.005,
    "hang_before": 0.0025,
    "slow_drip": 0.0025,
    "callback_first": 0.005,
    "callback_only": 0.005,
    "error_502_html": 0.003,
    "unauthorised": 0.002,
}
"""17.5 % of all answers. A tenth of the receipts is lost, besides, and others are doubled or change places."""
DISTURBED: Final = {"lost": 0.10, "doubled": 0.05, "reordered": 0.20}
MOST_ROUNDS: Final = 40
MOST_ERRORS: Final = 40
OFTEN: Final = frozenset({"claim: done", "intend: done", "settle: before the commit", "about to send", "one answer"})
"""Points that a worker comes to again and again: there it may die at the second time."""
MINUTE: Final = timedelta(minutes=1)

CAMPAIGN: Final = """\
campaign: back
status: active
audience: {segment: orders >= 1}
experiment: {control: 10%, horizon: 30 days, primary: repurchase, minimum_effect: 10pp}
arms:
  text: {weight: 30%, steps: [{channel: sms, template: hello}]}
  mail: {weight: 30%, steps: [{channel: email, template: hello}]}
  note: {weight: 30%, steps: [{channel: push, template: hello}]}
timing: {window: {from: "08:00", to: "20:00"}}
"""
TEMPLATES: Final = {
    "sms/hello.txt.j2": "Hello {{ customer.first_name }}. Reply STOP to opt out",
    "email/hello.subject.j2": "Hello {{ customer.first_name }}",
    "email/hello.html.j2": "<p>Hello {{ customer.first_name }}</p><p><a href='{{ unsubscribe_url }}'>Unsubscribe</a> "
    "{{ company.name }}, {{ company.postal_address }}</p>",
    "push/hello.json.j2": '{"title": "Hello", "body": "Dear {{ customer.first_name }}"}',
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How much is sent by how many workers, how often they are killed, and which bugs they have."""

    customers: int
    workers: int
    kills: int
    batch: int = 24
    seed: int = 1
    points: Sequence[str] = POINTS
    """Where workers are killed; every second one is killed at random instead."""
    faults: Mapping[str, float] = field(default_factory=lambda: dict(FAULTS))
    receipts: bool = True
    bugs: frozenset[str] = frozenset()


@dataclass
class Outcome:
    """What came of a trial."""

    planned: int = 0
    states: dict[str, Counter[str]] = field(default_factory=dict)
    """Channel -> state -> messages."""
    accepted: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """Point (or "at random") -> workers killed there."""
    faults: Counter[str] = field(default_factory=Counter)
    receipts: int = 0
    rounds: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    """Of some messages that went wrong: what was accepted of them, and their history."""

    def told(self) -> str:
        """In one line."""
        states = {channel: dict(sorted(found.items())) for channel, found in sorted(self.states.items())}
        return (
            f"planned {self.planned}, accepted {self.accepted}, {states}, kills {self.kills.total()} "
            f"({self.kills['at random']} at random), faults {self.faults.total()}, receipts {self.receipts}, "
            f"rounds {self.rounds}, {self.seconds:.0f} s"
        )


@cache
def _processes() -> Any:
    context = get_context("forkserver")
    context.set_forkserver_preload([trial_processes.__name__])
    return context


def start_process(target: Any, *given: Any) -> ForkServerProcess:
    """Start a process of a trial."""
    process: ForkServerProcess = _processes().Process(target=target, args=given, daemon=True)
    process.start()
    return process


def make_shop(root: Path, customers: int) -> Path:
    """A workspace with customers and a campaign of three arms, one a channel; nothing is planned yet."""
    shop = root / "shop"
    make_workspace(shop)
    book = shop / "campaigns" / "book"
    shutil.rmtree(book)
    book.mkdir()
    (book / "back.yaml").write_text(CAMPAIGN, encoding="utf-8")
    for name, text in TEMPLATES.items():
        (shop / "templates" / name).write_text(text, encoding="utf-8")
    people = [
        "customer_id,created_at,email,phone,push_token,consent_email,consent_sms,consent_push,time_zone,first_name"
    ]
    people += [
        f"C{n:04d},2024-01-01,c{n}@example.com,{phone_of(n)},token-{n},yes,yes,yes,Europe/London,Ann{n}"
        for n in range(customers)
    ]
    orders = ["order_id,customer_id,ordered_at,amount"]
    orders += [f"O{n:04d},C{n:04d},2025-12-01,20" for n in range(customers)]
    with open_workspace(Place(root, settings_of("")).read_settings()) as ws:
        for table, lines in (("customers", people), ("orders", orders)):
            path = root / f"{table}.csv"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            load_facts(ws, table, [path], renames={}, now=START)
    return shop


def phone_of(number: int) -> str:
    """The phone of a customer."""
    return f"+44207946{number:04d}"


def settings_of(ledger_url: str, base: str = "http://127.0.0.1:1", key: str = "") -> dict[str, Any]:
    """The settings of every process of a trial."""
    return {
        "secret": "a key for trials only, never used",
        "public_url": PUBLIC,
        "ledger_url": ledger_url,
        "providers": {
            **dict.fromkeys(CHANNELS, "simulated"),
            "simulator_url": base,
            "sendgrid": {"webhook_public_key": key},
        },
    }


class Scene:
    """One trial's ledger, provider, receiving app and workers."""

    def __init__(self, stack: ExitStack, root: Path, ledger_url: str, trial: Trial) -> None:
        """The campaign is planned and the provider is up; no worker runs yet."""
        self.trial, self.outcome = trial, Outcome()
        self.rng = random.Random(trial.seed)
        place = Place(root, settings_of(ledger_url))
        with open_workspace(place.read_settings()) as ws:
            run_campaign(ws, "back", as_of=START)
        plan = {"seed": trial.seed, "rates": dict(trial.faults)}
        (self.base, key), _ = self._served(stack, trial_processes.provide, place, plan)
        self.place = Place(root, settings_of(ledger_url, self.base, key))
        self.clock = self.place.clock
        self._names = 0
        if trial.receipts:
            port, self._receiver = self._served(stack, trial_processes.receive, self.place)
            self._rewrite = {PUBLIC: f"http://127.0.0.1:{port}"}

    @staticmethod
    def _served(stack: ExitStack, target: Any, *given: Any) -> tuple[Any, ForkServerProcess]:
        here, there = _processes().Pipe(duplex=False)
        process = start_process(target, *given, there)
        stack.callback(process.join, 5)
        stack.callback(process.kill)
        assert here.poll(60), "a process of the trial did not come up"
        return here.recv(), process

    def hire(self, **more: Any) -> ForkServerProcess:
        """A worker at work."""
        self._names += 1
        job = Job(self.place, f"w{self._names}", self.trial.batch, bugs=self.trial.bugs, **more)
        worker = start_process(trial_processes.work, job)
        worker.name = job.name
        return worker

    def ask(self, path: str, document: Any = None) -> Any:
        """Ask the provider's controls."""
        data = None if document is None else trial_processes.as_json(document)
        with urllib.request.urlopen(urllib.request.Request(f"{self.base}/__sim/{path}", data=data), timeout=120) as got:
            return json.loads(got.read())

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """The provider sends its receipts all the while, disturbed; those of the last messages as well."""
        if not self.trial.receipts:
            yield
            return
        is_over = threading.Event()
        thread = threading.Thread(target=self._send_receipts, args=(is_over,))
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join(300)

    def _send_receipts(self, is_over: threading.Event) -> None:
        following, turn, is_done = 0, 0, False
        while not is_done:
            was_over = is_over.wait(0.2)
            turn += 1
            plan = {"seed": self.trial.seed * 1_000 + turn, **DISTURBED}
            # few at a time: the app believes no signature of some minutes ago, and minutes are seconds here
            asked = {"from": following, "most": 60, "plan": plan, "rewrite": self._rewrite}
            asked["sendgrid_url"] = f"{PUBLIC}/receipts/sendgrid/events"
            try:
                told = self.ask("emit", asked)
            except urllib.error.HTTPError:  # an answer of the app's did not come: all of them once more
                continue
            is_done = was_over and told["next"] == following
            following, self.outcome.receipts = told["next"], self.outcome.receipts + told["taken"]

    def _evidence(self, key: str, accepted: Sequence[Mapping[str, Any]]) -> str:
        taken = [f"{each['at']} {each['provider_id']}" for each in accepted if each["key"] == key]
        events = message_events
        query = sa.select(events).where(events.c.message_key == key).order_by(events.c.event_id)
        with open_workspace(self.place.read_settings()) as ws, ws.ledger.read() as tx:
            names = ("at", "event", "state", "applied", "worker", "attempt", "began_at", "reason")
            told = [" ".join(str(row[name]) for name in names) for row in tx.execute(query).mappings()]
        return "\n  ".join([f"{key}: accepted {taken}", *told])

    def messages(self) -> list[Any]:
        """The outbox as it is."""
        with open_workspace(self.place.read_settings()) as ws, ws.ledger.read() as tx:
            return list(tx.execute(sa.select(outbox)).mappings())

    def open_messages(self) -> int:
        """How many messages are not settled: those that a worker would still take, and SMS that can be asked about."""
        rows = self.messages()
        at_work = ("pending", "claimed", "sending")
        return sum(row["state"] in at_work or (row["state"] == "in_doubt" and row["channel"] == "sms") for row in rows)

    def judge(self) -> Outcome:
        """Hold the ledger against what the provider accepted."""
        told, outcome, rows = self.ask("ledger"), self.outcome, self.messages()
        accepted = told["accepted"]
        times = Counter(taken["key"] for taken in accepted)
        outcome.planned, outcome.accepted, outcome.faults = len(rows), len(accepted), Counter(told["faults"])
        outcome.states = {channel: Counter() for channel in CHANNELS}
        bad = Counter[str]()
        for row in rows:
            outcome.states[row["channel"]][row["state"]] += 1
            wrong = list(_wrong_with(row, times[row["message_key"]]))
            bad.update(wrong)
            if wrong and len(outcome.evidence) < 6:
                outcome.evidence.append(self._evidence(row["message_key"], accepted))
        mixed_up = sum(taken["recipient"] != _recipient(taken) for taken in accepted)
        bad["went to somebody else"] += mixed_up
        bad["accepted of nobody's asking"] += sum(key not in {row["message_key"] for row in rows} for key in times)
        with open_workspace(self.place.read_settings()) as ws:
            for part in show_status(ws, "back"):
                counts = part["total"]
                kinds = ("sent", "failed", "skipped", "in_doubt", "pending")
                bad["not accounted for"] += counts["planned"] != sum(counts[kind] for kind in kinds)
        outcome.violations = [f"{count} {what}" for what, count in sorted((+bad).items())]
        outcome.errors = self.place.notes("errors")
        return outcome


def _wrong_with(row: Mapping[str, Any], times: int) -> Iterator[str]:
    """What is wrong with a message, given how often the provider accepted it."""
    if times > 1:
        yield "accepted more than once"
    match row["state"]:
        case "sent" | "delivered":
            if not times:
                yield "lost: called sent, and never accepted"
        case "in_doubt":
            if row["channel"] == "sms":
                yield "left in doubt although the provider can be asked"
        case state:
            if times:
                yield f"called {state}, and was accepted"
            if state in ("pending", "claimed", "sending"):
                yield "not settled"


def _recipient(taken: Mapping[str, Any]) -> str:
    """Whom a message's key says it is for."""
    number = int(taken["key"].split("/")[1][1:])
    return {"twilio": phone_of(number), "sendgrid": f"c{number}@example.com", "fcm": f"token-{number}"}[
        taken["provider"]
    ]


def kill_trial(
    stack: ExitStack,
    root: Path,
    ledger_url: str,
    trial: Trial,
    *,
    meanwhile: Callable[[Scene], None] = lambda _scene: None,
) -> Outcome:
    """Deliver everything while workers are killed, until nothing is left to do; judge it.

    `meanwhile` is called again and again while workers are at work.
    """
    scene = Scene(stack, root, ledger_url, trial)
    began_s = time.monotonic()
    plans = _Plans(scene)
    with scene.receiving():
        while scene.outcome.rounds < MOST_ROUNDS:
            scene.outcome.rounds += 1
            _round(scene, plans, meanwhile)
            scene.clock.jump(LEASE + MINUTE)
            if not scene.open_messages():
                break
    outcome = scene.judge()
    outcome.seconds = time.monotonic() - began_s
    if broken := scene.place.notes("broken"):
        outcome.violations.append("a worker broke: " + "\n".join(broken))
    return outcome


class _Plans:
    """Where the next worker dies: at each point in turn, and every second one at random.

    In the first round nothing is in doubt for long enough to be asked about: some kills are kept for the later ones.
    """

    KEPT: Final = 8

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.left = scene.trial.kills
        points = list(scene.trial.points)
        scene.rng.shuffle(points)
        self._late = [point for point in points if point.startswith("reconcile")]
        self._early = [point for point in points if point not in self._late]
        self._turn = 0

    def next(self) -> str | None:
        """A point, "at random", or None for a worker that may live."""
        is_first = self.scene.outcome.rounds == 1
        if self.left <= (self.KEPT if is_first and self._late else 0):
            return None
        self._turn += 1
        met = self.scene.outcome.kills
        if not is_first and (unmet := [point for point in (*self._late, *self._early) if not met[point]]):
            return unmet[self._turn % len(unmet)]
        points = self._early if is_first else [*self._late, *self._early]
        if not points or self._turn % 2 == 0:
            return "at random"
        return points[self._turn // 2 % len(points)]


def _round(scene: Scene, plans: _Plans, meanwhile: Callable[[Scene], None]) -> None:
    """Let as many workers as the trial has work until there is nothing to do.

    Who is killed, or ends because of the ledger, is replaced.
    """
    live: dict[int, tuple[ForkServerProcess, str | None, float]] = {}

    def hire() -> None:
        plan = plans.next()
        point = None if plan in (None, "at random") else plan
        dies_s = time.monotonic() + scene.rng.uniform(0.1, 0.8) if plan == "at random" else float("inf")
        worker = scene.hire(point=point, hit=scene.rng.choice((1, 1, 2)) if point in OFTEN else 1)
        live[worker.sentinel] = (worker, plan, dies_s)

    for _ in range(scene.trial.workers):
        hire()
    while live:
        wait(list(live), timeout=0.02)
        meanwhile(scene)
        for sentinel, (worker, plan, dies_s) in list(live.items()):
            if worker.exitcode is None:
                if time.monotonic() > dies_s:
                    os.kill(worker.pid or 0, signal.SIGKILL)
                    worker.join(10)
                else:
                    continue
            del live[sentinel]
            if worker.exitcode == -signal.SIGKILL:
                scene.outcome.kills[plan or "?"] += 1
                plans.left = max(0, plans.left - 1)
                hire()
            elif worker.exitcode == 1 and len(scene.place.notes("errors")) < MOST_ERRORS:
                hire()
