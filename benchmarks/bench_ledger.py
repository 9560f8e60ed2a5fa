"""Ledger: recording a wave against raw inserts of the same rows, dispatch against raw updates of the same messages.

Sizes: RETAIN_BENCH_CUSTOMERS (default 100,000), RETAIN_BENCH_ROUNDS (default 3; the best one counts, of floor and
product alike), RETAIN_BENCH_MESSAGES (messages dispatched, default 20,000, in batches of 1,000 as a worker does, by one
process and then again by each of RETAIN_BENCH_DISPATCHERS, default 2).
SQLite always; PostgreSQL where RETAIN_TEST_POSTGRES_URL, or the local default, answers. The processor's time of client
and server stands beside the rates: on a machine with other work to do it says more than they do.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from warehouse.ledger.engine import Ledger

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DUE = T0 + timedelta(hours=3)
BATCH = 1_000
POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"

ASSIGNMENT_COLUMNS = ("experiment_id", "customer_id", "wave_id", "arm", "assigned_at", "stratum")
MESSAGE_COLUMNS = (
    "message_key", "experiment_id", "customer_id", "step", "arm", "channel", "template", "offer", "code", "locale",
    "unless", "zones", "not_before", "closes_at", "expires_at", "cost_micros", "updated_at",
)  # fmt: skip
FLOOR_TABLES = (
    "CREATE TABLE floor_assignments (experiment_id TEXT, customer_id TEXT, wave_id TEXT, arm TEXT, "
    "assigned_at {instant}, stratum TEXT, PRIMARY KEY (experiment_id, customer_id)){end}",
    "CREATE TABLE floor_outbox (message_key TEXT PRIMARY KEY, experiment_id TEXT, customer_id TEXT, step INTEGER, "
    "arm TEXT, channel TEXT, template TEXT, offer TEXT, code TEXT, locale TEXT, unless TEXT, zones TEXT, "
    "not_before {instant}, closes_at {instant}, expires_at {instant}, cost_micros BIGINT, updated_at {instant}, "
    "state TEXT DEFAULT 'pending', owner TEXT, settled_at {instant})",
)
FLOOR_UPDATE = "UPDATE floor_outbox SET state = {0}, owner = 'bench', settled_at = {0} WHERE message_key = {1}"


def run() -> list[dict[str, Any]]:
    """Of each database: recording (seconds, times the floor), dispatch (messages a second, share of the floor; by one
    process and by several at once)."""
    results: list[dict[str, Any]] = []
    for store in _stores():
        try:
            bench = _Bench(store)
            results += [bench.record(), bench.dispatch(), bench.dispatch_together()]
        finally:
            store.close()
    return results


def _stores() -> Iterator[_Store]:
    yield _Sqlite()
    if (server := postgres_server()) is not None:
        yield Postgres(server)


def postgres_server() -> str | None:
    """The address of the PostgreSQL to measure on; None where none answers."""
    url = os.environ.get("RETAIN_TEST_POSTGRES_URL", POSTGRES)
    return url if _answers(url) else None


class _Store(Protocol):
    """A database under measurement, and the raw driver's way to do the same."""

    kind: str

    def renew(self) -> str:
        """Give the address of an empty database."""

    def insert_raw(self, people: Sequence[Any], messages: Sequence[Any]) -> float:
        """Insert ready-made tuples into plain tables with a primary key; give the seconds."""

    def update_raw(self, keys: Sequence[str]) -> float:
        """Update these messages three times, batch by batch, a transaction each; give the seconds."""

    def close(self) -> None:
        """Remove what was made."""


class _Bench:
    """What is measured on either database."""

    def __init__(self, store: _Store) -> None:
        self.store = store
        self.customers = int(os.environ.get("RETAIN_BENCH_CUSTOMERS", "100000"))
        self.rounds = int(os.environ.get("RETAIN_BENCH_ROUNDS", "3"))
        self.messages = int(os.environ.get("RETAIN_BENCH_MESSAGES", "20000"))
        self.people, self.planned = _plan(self.customers)

    def record(self) -> dict[str, Any]:
        """record_wave of a whole plan, and the raw insert of the very rows it wrote."""
        from warehouse.ledger.waves import record_wave, wave_batches

        product = []
        for _ in range(self.rounds):
            self._open(self.store.renew())
            begun = time.perf_counter()
            record_wave(self.ledger, _wave(self.people), wave_batches(self.people, self.planned))
            product.append(time.perf_counter() - begun)
        rows = self._rows()
        floor = [self.store.insert_raw(*rows) for _ in range(self.rounds)]
        n = len(rows[0]) + len(rows[1])
        return {
            "step": f"record on {self.store.kind}",
            "rows": n,
            "seconds": round(min(product), 3),
            "floor_seconds": round(min(floor), 3),
            "ratio": round(min(product) / min(floor), 2),
            "rows_per_s": round(n / min(product)),
        }

    def dispatch(self) -> dict[str, Any]:
        """Claim, intend and settle in batches, and raw updates of as many rows in as many transactions."""
        spent, done = _Spent(self.ledger), 0
        while done < self.messages and (n := _dispatch(self.ledger, "bench", spent)):
            done += n
        spent.stop()
        with self.ledger.read() as tx:
            keys = [
                row[0]
                for row in tx.exec_driver_sql("SELECT message_key FROM outbox WHERE state = 'sent' ORDER BY not_before")
            ]
        floor = self.store.update_raw(keys)
        seconds = sum(spent.seconds.values())
        return {
            "step": f"dispatch on {self.store.kind}",
            "messages": done,
            "seconds": round(seconds, 3),
            "floor_seconds": round(floor, 3),
            "share_of_floor": round(floor / seconds, 2),
            "messages_per_s": round(done / seconds),
            "claim_and_settle_per_s": round(done / spent.claim_and_settle_s),
            "floor_per_s": round(done / floor),
            **_processor([spent], done),
        }

    def dispatch_together(self) -> dict[str, Any]:
        """Claim, intend and settle by several processes at once.

        `messages_per_s` counts by the clock, from the first claim of any to the last settlement of any, intents
        included; `claim_and_settle_per_s` is the sum of each one's messages by the time it spent in these two verbs.
        """
        fleet = int(os.environ.get("RETAIN_BENCH_DISPATCHERS", "2"))
        context = multiprocessing.get_context("spawn")
        barrier, told = context.Barrier(fleet), context.Queue()
        url = self.ledger.engine.url.render_as_string(hide_password=False)
        workers = [
            context.Process(target=_dispatch_alone, args=(url, f"bench{number}", self.messages, barrier, told))
            for number in range(fleet)
        ]
        for worker in workers:
            worker.start()
        results: list[tuple[int, _Spent]] = [told.get(timeout=600) for _ in workers]
        for worker in workers:
            worker.join()
        n = sum(done for done, _ in results)
        seconds = max(spent.ended for _, spent in results) - min(spent.begun for _, spent in results)
        return {
            "step": f"dispatch on {self.store.kind} by {fleet} processes",
            "messages": n,
            "seconds": round(seconds, 3),
            "messages_per_s": round(n / seconds),
            "claim_and_settle_per_s": round(sum(done / spent.claim_and_settle_s for done, spent in results)),
            **_processor([spent for _, spent in results], n),
        }

    def _rows(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """What the ledger holds, as tuples ready for a driver."""
        import sqlalchemy as sa

        with self.ledger.read() as tx:
            people = tx.execute(
                sa.text(f"SELECT {', '.join(ASSIGNMENT_COLUMNS)} FROM assignments ORDER BY customer_id")
            )
            messages = tx.execute(sa.text(f"SELECT {', '.join(MESSAGE_COLUMNS)} FROM outbox ORDER BY message_key"))
            return [tuple(row) for row in people], [tuple(row) for row in messages]

    def _open(self, url: str) -> None:
        """Migrate a new ledger and start the experiment."""
        from warehouse.ledger.engine import migrate, open_ledger
        from warehouse.ledger.experiments import start_experiment

        self.ledger = open_ledger(url)
        migrate(self.ledger)
        design = {"campaign": "bench", "epoch": 1, "salt": "s", "control": "control", "horizon_days": 30}
        with self.ledger.begin() as tx:
            start_experiment(tx, design, design_hash="d", started_at=T0)


class _Sqlite:
    """A file in a temporary folder."""

    kind = "sqlite"

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.n = 0

    def renew(self) -> str:
        self.n += 1
        return f"sqlite:///{Path(self.folder.name) / f'ledger{self.n}.db'}"

    def _connect(self) -> sqlite3.Connection:
        raw = sqlite3.connect(Path(self.folder.name) / "floor.db", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536", "wal_autocheckpoint=10000"):
            raw.execute(f"PRAGMA {pragma}")
        return raw

    def insert_raw(self, people: Sequence[Any], messages: Sequence[Any]) -> float:
        (Path(self.folder.name) / "floor.db").unlink(missing_ok=True)
        raw = self._connect()
        for table in FLOOR_TABLES:
            raw.execute(table.format(instant="TEXT", end=" WITHOUT ROWID"))
        begun = time.perf_counter()
        for table, columns, rows in _floor_rows(people, messages):
            marks = ", ".join("?" * len(columns))
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
            raw.execute("COMMIT")
        seconds = time.perf_counter() - begun
        raw.close()
        return seconds

    def update_raw(self, keys: Sequence[str]) -> float:
        raw = self._connect()
        begun = time.perf_counter()
        for batch in _batches(keys):
            for state in ("claimed", "sending", "sent"):
                raw.execute("BEGIN IMMEDIATE")
                sql = FLOOR_UPDATE.format("?", "?")
                raw.executemany(sql, [(state, "2026-03-02T12:00:00Z", key) for key in batch])
                raw.execute("COMMIT")
        seconds = time.perf_counter() - begun
        raw.close()
        return seconds

    def close(self) -> None:
        self.folder.cleanup()


class Postgres:
    """Databases of our own on a server."""

    kind = "postgresql"

    def __init__(self, server: str) -> None:
        self.server = server
        self.made: list[str] = []

    def renew(self) -> str:
        """Give the address of a new, empty database."""
        name = f"retain_bench_{uuid.uuid4().hex[:8]}"
        self._admin(f'CREATE DATABASE "{name}"')
        self.made.append(name)
        return f"{self.server.rsplit('/', 1)[0]}/{name}"

    def insert_raw(self, people: Sequence[Any], messages: Sequence[Any]) -> float:
        import psycopg

        with psycopg.connect(_plain(self.renew())) as raw:
            for table in FLOOR_TABLES:
                raw.execute(table.format(instant="TIMESTAMPTZ", end=""))
            raw.commit()
            begun = time.perf_counter()
            for table, columns, rows in _floor_rows(people, messages):
                with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
                raw.commit()
            return time.perf_counter() - begun

    def update_raw(self, keys: Sequence[str]) -> float:
        import psycopg

        with psycopg.connect(_plain(f"{self.server.rsplit('/', 1)[0]}/{self.made[-1]}")) as raw:
            begun = time.perf_counter()
            for batch in _batches(keys):
                for state in ("claimed", "sending", "sent"):
                    sql = FLOOR_UPDATE.format("%s", "ANY(%s)")
                    raw.execute(sql, (state, DUE, list(batch)))
                    raw.commit()
            return time.perf_counter() - begun

    def close(self) -> None:
        """Drop every database it made."""
        for name in self.made:
            self._admin(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _admin(self, sql: str) -> None:
        import psycopg

        with psycopg.connect(_plain(self.server), autocommit=True) as admin:
            admin.execute(sql)


class _Spent:
    """What dispatching takes one process: seconds by verb, and processor seconds of the process and of its server."""

    def __init__(self, ledger: Ledger) -> None:
        self.seconds = dict.fromkeys(("claim", "intend", "settle"), 0.0)
        self.by_verb = dict.fromkeys(("claim", "intend", "settle"), 0.0)
        self.server_pid = _server_pid(ledger)
        self.client_s, self.server_s = -time.process_time(), -self.server_now()
        self.begun = self.ended = time.monotonic()

    def stop(self) -> None:
        """Take the second reading."""
        self.ended = time.monotonic()
        self.client_s += time.process_time()
        self.server_s += self.server_now()

    def server_now(self) -> float:
        """Processor seconds that the server's process has had; 0 where there is none to see (SQLite, or elsewhere)."""
        path = Path(f"/proc/{self.server_pid}/schedstat")
        return int(path.read_text().split()[0]) / 1e9 if self.server_pid and path.exists() else 0.0

    def add(self, verb: str, seconds: float, processor: float) -> None:
        """Count one call; `processor`: seconds of both sides."""
        self.seconds[verb] += seconds
        self.by_verb[verb] += processor

    @property
    def claim_and_settle_s(self) -> float:
        """Seconds in these two verbs."""
        return self.seconds["claim"] + self.seconds["settle"]


def _dispatch_alone(url: str, worker: str, messages: int, barrier: Any, told: Any) -> None:
    """What each process of several does: begin together, tell (messages, what they took)."""
    from warehouse.ledger.engine import open_ledger

    ledger, done = open_ledger(url), 0
    _Spent(ledger)  # connects
    barrier.wait(60)
    spent = _Spent(ledger)
    while done < messages and (n := _dispatch(ledger, worker, spent)):
        done += n
    spent.stop()
    ledger.close()
    told.put((done, spent))


def _dispatch(ledger: Ledger, worker: str, spent: _Spent) -> int:
    """Claim, intend and settle one batch; give how many messages."""
    from warehouse.ledger.outbox import CampaignRules, Cap, ClaimRequest, Settlement, claim, intend, settle

    def timed(verb: str, call: Callable[[], Any]) -> Any:
        begun, processor = time.perf_counter(), time.process_time() + spent.server_now()
        found = call()
        seconds = time.perf_counter() - begun
        spent.add(verb, seconds, time.process_time() + spent.server_now() - processor)
        return found

    rules = {"bench": CampaignRules(caps=(Cap(2, timedelta(days=7)),))}
    lease = timedelta(minutes=10)
    request = ClaimRequest(worker=worker, channels=("sms", "email"), limit=BATCH, now=DUE, lease=lease, rules=rules)
    claimed = timed("claim", lambda: claim(ledger, request))
    if not claimed:
        return 0
    fence, keys = claimed[0].fence, [message.message_key for message in claimed]
    allowed = timed("intend", lambda: intend(ledger, keys, worker, fence, DUE))
    news = [
        Settlement(message_key=key, state="sent", provider="bench", provider_id=key, fence=fence) for key in allowed
    ]
    timed("settle", lambda: settle(ledger, news, DUE))
    return len(allowed)


def _server_pid(ledger: Ledger) -> int | None:
    """The process of the server that serves this process's one connection."""
    if ledger.dialect != "postgresql":
        return None
    with ledger.begin() as tx:
        return int(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def _processor(spent: Sequence[_Spent], messages: int) -> dict[str, Any]:
    """Processor's microseconds a message: client and server in all verbs, both in claim and settle alone; the load."""
    both = sum(one.by_verb["claim"] + one.by_verb["settle"] for one in spent)
    return {
        "cpu_us_per_message": round(sum(one.client_s for one in spent) / messages * 1e6, 1),
        "server_cpu_us_per_message": round(sum(one.server_s for one in spent) / messages * 1e6, 1),
        "claim_and_settle_cpu_us_per_message": round(both / messages * 1e6, 1),
        "load": round(os.getloadavg()[0], 2),
    }


def _floor_rows(people: Sequence[Any], messages: Sequence[Any]) -> Iterator[tuple[str, Sequence[str], Sequence[Any]]]:
    """The same rows in batches of the size that the product uses."""
    size = 50_000
    for start in range(0, len(people), size):
        yield "floor_assignments", ASSIGNMENT_COLUMNS, people[start : start + size]
    for start in range(0, len(messages), size):
        yield "floor_outbox", MESSAGE_COLUMNS, messages[start : start + size]


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]


def _plan(n: int) -> tuple[Any, Any]:
    """n customers in three arms, 80 % with one message, in three time zones (so the slots are interleaved)."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(20260302)
    people = pd.DataFrame(
        {
            "customer_id": [f"c{number:09d}" for number in range(n)],
            "arm": np.array(["ten", "points", "control"], dtype=object)[rng.choice(3, n, p=[0.4, 0.4, 0.2])],
        }
    )
    messages = people[people["arm"] != "control"].reset_index(drop=True)
    zones = rng.integers(0, 3, len(messages))
    opens = pd.Series(pd.Timestamp(T0) + pd.to_timedelta(zones, unit="h"))
    return people, messages.assign(
        step=1,
        channel=np.where(messages["arm"] == "ten", "sms", "email"),
        template=messages["arm"],
        offer=messages["arm"],
        zones=np.array(["Europe/Paris", "Europe/London", "Atlantic/Azores"], dtype=object)[zones],
        not_before=opens,
        closes_at=opens + pd.Timedelta(hours=9),
        expires_at=opens + pd.Timedelta(days=10),
        cost_micros=50_000,
    )


def _wave(people: Any) -> Any:
    from warehouse.ledger.waves import Wave

    planned = {str(arm): int(n) for arm, n in people["arm"].value_counts().items()}
    return Wave(
        experiment_id="bench:1",
        as_of=T0,
        assigned_at=T0,
        plan_hash="p",
        config_hash="c",
        facts_fingerprint="f",
        planned=planned,
    )


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def _answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(_plain(url), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
