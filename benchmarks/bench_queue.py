"""Memory: a queue of a million messages, the real delivery step, a provider that takes everything at once.

Sizes: RETAIN_BENCH_QUEUE (messages waiting, default 1,000,000), RETAIN_BENCH_DELIVER (how many of them one worker
delivers, default 200,000: what it holds does not depend on it, as the points show). The worker is a process of its own,
so that its memory is the worker's alone. On SQLite, then on PostgreSQL where the server of `benchmarks ledger` answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from channels.message import CHANNELS, Channel, Outgoing
from channels.provider import Capability, SendResult

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
LIMIT_MB = 300
POINTS = 8

CAMPAIGN = """\
campaign: back
status: active
audience: {segment: recency_days >= 60 and orders >= 2}
experiment: {control: 20%, horizon: 30 days, primary: repurchase, metrics: [revenue], minimum_effect: 10pp}
arms:
  mail: {weight: 40%, steps: [{channel: email, template: hello}]}
  text: {weight: 40%, steps: [{channel: sms, template: hello}]}
timing: {window: {from: "09:00", to: "19:00"}}
"""
WORDS = {
    "sms/hello.txt.j2": "Hello {{ customer.first_name }}. Reply STOP to opt out",
    "email/hello.subject.j2": "Hello {{ customer.first_name }}",
    "email/hello.html.j2": "<p>Hello {{ customer.first_name }}</p><p><a href='{{ unsubscribe_url }}'>Unsubscribe</a>"
    " {{ company.name }}, {{ company.postal_address }}</p>",
}


class Sink:
    """A provider that has taken every message as soon as it is asked to."""

    name = "sink"
    capability: Capability = "N"

    def __init__(self, channel: Channel) -> None:
        """One for each channel."""
        self.channel: Channel = channel

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:  # noqa: ARG002 (as all do)
        """Take all of them."""
        return [SendResult(message.key, "accepted", provider_id=f"sink-{message.key}") for message in batch]

    async def close(self) -> None:
        """Nothing is held open."""


def run() -> list[dict[str, Any]]:
    """Of each database: the worker's memory at some points of a delivery run, its peak, and messages a second."""
    from benchmarks.bench_ledger import Postgres, postgres_server

    results = [_measure("sqlite", "")]
    if (server := postgres_server()) is not None:
        store = Postgres(server)
        try:
            results.append(_measure(store.kind, store.renew()))
        finally:
            store.close()
    return results


def _measure(kind: str, ledger_url: str) -> dict[str, Any]:
    queued = int(os.environ.get("RETAIN_BENCH_QUEUE", "1000000"))
    share = int(os.environ.get("RETAIN_BENCH_DELIVER", "200000"))
    with tempfile.TemporaryDirectory() as folder:
        root, began = Path(folder) / "shop", time.perf_counter()
        fill_queue(root, queued, ledger_url)
        filled_s = round(time.perf_counter() - began, 1)
        return {"step": f"queue on {kind}", "filled_s": filled_s, **deliver_in_a_process(root, share, ledger_url)}


def fill_queue(root: Path, queued: int, ledger_url: str = "") -> None:
    """A workspace at `root` whose campaign has so many messages waiting, all of them due on MONDAY."""
    from flows.steps.load_facts import load_facts
    from flows.steps.make_workspace import make_workspace
    from flows.steps.run_campaign import run_campaign
    from flows.wiring import open_workspace

    make_workspace(root)
    for path in (root / "campaigns" / "book").iterdir():
        path.unlink()
    (root / "campaigns" / "book" / "back.yaml").write_text(CAMPAIGN, encoding="utf-8")
    for name, text in WORDS.items():
        (root / "templates" / name).write_text(text, encoding="utf-8")
    _write_history(root, queued)
    with open_workspace(_settings(root, ledger_url)) as ws:
        for table in ("customers", "orders"):
            load_facts(ws, table, [root / f"{table}.csv"], renames={}, now=MONDAY)
        run_campaign(ws, "back", as_of=MONDAY - timedelta(days=7))  # the experiment, with a few customers
        _record(ws, queued)


def deliver_in_a_process(root: Path, share: int, ledger_url: str = "") -> dict[str, Any]:
    """What a worker process says of its run."""
    worker = [sys.executable, "-m", "benchmarks.bench_queue", str(root), str(share), ledger_url]
    done = subprocess.run(worker, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def deliver(root: Path, share: int, ledger_url: str = "") -> dict[str, Any]:
    """Deliver `share` messages in this process, and tell its memory on the way (MB), at the peak, and its speed."""
    from flows.steps.deliver_messages import deliver_messages
    from flows.wiring import open_workspace

    points: list[tuple[int, int]] = []

    def note(claimed: int, _total: int) -> None:
        if claimed >= share * (len(points) + 1) / POINTS:
            points.append((claimed, _status_mb("VmRSS:")))

    with open_workspace(_settings(root, ledger_url)) as opened:
        ws = replace(opened, providers={channel: Sink(channel) for channel in CHANNELS})
        began, cpu = time.perf_counter(), time.process_time()
        delivered = deliver_messages(ws, now=MONDAY, worker="bench", limit=share, progress=note)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        waiting = _waiting(ws)
    return {
        "sent": delivered.sent,
        "still_waiting": waiting,
        "resident_mb": points,
        "peak_mb": _status_mb("VmHWM:"),  # ru_maxrss would be that of the process that started this one
        "limit_mb": LIMIT_MB,
        "messages_per_s": round(delivered.sent / seconds),
        "cpu_us_per_message": round(cpu / max(delivered.sent, 1) * 1e6),
    }


def _settings(root: Path, ledger_url: str) -> Any:
    """The workspace's settings; its own SQLite file unless a ledger is named."""
    from flows.settings import read_settings

    return read_settings(root, overrides={"ledger_url": ledger_url} if ledger_url else None)


def _write_history(root: Path, queued: int) -> None:
    with (root / "customers.csv").open("w", encoding="utf-8") as file:
        file.write("customer_id,created_at,email,phone,consent_email,consent_sms,time_zone,first_name\n")
        for n in range(queued):
            phone = f"+447911{n % 1_000_000:06d}"
            file.write(f"C{n:07d},2024-01-01,c{n}@example.com,{phone},yes,yes,Europe/London,Ann{n}\n")
    with (root / "orders.csv").open("w", encoding="utf-8") as file:
        file.write("order_id,customer_id,ordered_at,amount\n")
        for n in range(40):
            for days in (200, 77):
                file.write(f"O{n}-{days},C{n:07d},{(MONDAY - timedelta(days=days)).isoformat()},20.00\n")


def _record(ws: Any, queued: int) -> None:
    """A second wave, straight into the ledger: everybody, half by e-mail, half by SMS."""
    import numpy as np
    import pandas as pd

    from warehouse.ledger.waves import Wave, record_wave, wave_batches

    arms = np.array(["mail", "text"], dtype=object)[np.arange(40, queued) % 2]
    people = pd.DataFrame({"customer_id": [f"C{n:07d}" for n in range(40, queued)], "arm": arms})
    messages = people.assign(
        step=1,
        channel=np.where(arms == "mail", "email", "sms"),
        template="hello",
        zones="Europe/London",
        not_before=pd.Timestamp(MONDAY),
        closes_at=pd.Timestamp(MONDAY + timedelta(hours=10)),
        expires_at=pd.Timestamp(MONDAY + timedelta(days=7)),
    )
    planned = {str(arm): int(n) for arm, n in people["arm"].value_counts().items()}
    wave = Wave(
        experiment_id="back:1",
        as_of=MONDAY,
        assigned_at=MONDAY,
        plan_hash="p",
        config_hash="c",
        facts_fingerprint="f",
        planned=planned,
    )
    record_wave(ws.ledger, wave, wave_batches(people, messages))


def _waiting(ws: Any) -> int:
    with ws.ledger.read() as tx:
        return int(tx.exec_driver_sql("SELECT count(*) FROM outbox WHERE state = 'pending'").scalar())


def _status_mb(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    print(json.dumps(deliver(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
