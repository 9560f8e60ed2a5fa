"""Whatever is killed, and wherever: every message is accepted once, and a broken-off wave is completed exactly.

Not only random kills: the worker dies before every single statement and every commit of its work in turn.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.warehouse.ledger.ledgers import ledger, postgres_ledger, postgres_ledger_url, sqlite_ledger, sqlite_template
from tests.warehouse.ledger.story import HOUR, T0, cohort, keys_of, record, start, states, take, wave_of
from warehouse.ledger.engine import Ledger, open_ledger
from warehouse.ledger.outbox import Settlement, counts, in_doubt, intend, settle, sweep
from warehouse.ledger.waves import WaveBatch, find_wave, record_wave, wave_batches

__all__ = ["ledger", "postgres_ledger", "postgres_ledger_url", "sqlite_ledger", "sqlite_template"]


class Provider:
    """Takes messages and remembers them in a file, so that it outlives the worker; can be asked what it took."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def send(self, key: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(key + "\n")

    def taken(self) -> Counter[str]:
        return Counter(self.path.read_text(encoding="utf-8").splitlines())


def killed_at(ledger: Ledger, moment: int, work: Callable[[Ledger], None]) -> bool:
    """Do the work in a process of its own that dies by SIGKILL before the moment-th statement or commit.

    Gives False when the work was done before that moment came.
    """
    ledger.close()  # a child must not share connections with its parent
    child = os.fork()
    if child == 0:
        try:
            own = open_ledger(ledger.engine.url.render_as_string(hide_password=False))
            own._check()  # the version check is no part of the work
            _die_at(own, moment)
            work(own)
            os._exit(0)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _die_at(ledger: Ledger, moment: int) -> None:
    met = 0

    def count(*_: Any) -> None:
        nonlocal met
        met += 1
        if met == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(ledger.engine, "before_cursor_execute", count)
    sa.event.listen(ledger.engine, "commit", count)


def reconcile(ledger: Ledger, provider: Provider, now: Any) -> int:
    """After the lease: what is in doubt is asked of the provider before anything else."""
    sweep(ledger, now)
    with ledger.read() as tx:
        doubtful = in_doubt(tx)
    taken = provider.taken()
    news = [
        Settlement(message_key=row.message_key, state="sent" if taken[row.message_key] else "pending", reason="asked")
        for row in doubtful
    ]
    return settle(ledger, news, now).applied


def test_a_dispatcher_killed_at_every_moment_sends_every_message_once(ledger: Ledger, tmp_path: Path) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 120, arms=("offer",), rows=60, closes_at=T0 + 400 * HOUR, expires_at=T0 + 400 * HOUR)
    provider = Provider(tmp_path / "provider.txt")
    kills = doubts = 0
    now = T0 + HOUR

    def dispatch(own: Ledger, at: Any) -> None:
        claimed = take(own, now=at, limit=2)
        if claimed:
            allowed = intend(own, keys_of(claimed), "w1", claimed[0].fence, at)
            for key in allowed:
                provider.send(key)
            fence = claimed[0].fence
            settle(own, [Settlement(message_key=key, state="sent", fence=fence) for key in allowed], at)

    for moment in range(1, 100):
        killed = killed_at(ledger, moment, lambda own, at=now: dispatch(own, at))
        kills += killed
        now += HOUR
        doubts += reconcile(ledger, provider, now)
        if not killed:
            break
    while take_all(ledger, provider, now):
        pass
    assert kills >= 14
    assert doubts >= 3
    taken = provider.taken()
    assert len(taken) == 120
    assert set(taken.values()) == {1}
    assert states(ledger) == {"sent": 120}
    with ledger.read() as tx:
        assert counts(tx, experiment_id).total["sent"] == 120


def take_all(ledger: Ledger, provider: Provider, now: Any) -> bool:
    claimed = take(ledger, now=now)
    if not claimed:
        return False
    for key in intend(ledger, keys_of(claimed), "w1", claimed[0].fence, now):
        provider.send(key)
        settle(ledger, [Settlement(message_key=key, state="sent", fence=claimed[0].fence)], now)
    return True


def test_sending_again_without_asking_would_be_seen_as_duplicates(ledger: Ledger, tmp_path: Path) -> None:
    """The seeded bug: a sweep that gives intents back as if they had been claims."""
    record(ledger, start(ledger), 12, arms=("offer",), closes_at=T0 + 400 * HOUR, expires_at=T0 + 400 * HOUR)
    provider = Provider(tmp_path / "provider.txt")
    now = T0 + HOUR

    def dispatch(own: Ledger) -> None:
        claimed = take(own, now=now, limit=2)
        for key in intend(own, keys_of(claimed), "w1", claimed[0].fence, now):
            provider.send(key)
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed_at(ledger, -1, dispatch)
    sweep(ledger, now + HOUR)
    with ledger.read() as tx:
        blind = [Settlement(message_key=row.message_key, state="pending") for row in in_doubt(tx)]
    settle(ledger, blind, now + HOUR)
    take_all(ledger, provider, now + HOUR)
    assert max(provider.taken().values()) == 2


def outbox_and_assignments(ledger: Ledger) -> tuple[list[Any], list[Any]]:
    with ledger.read() as tx:
        messages = (
            "SELECT message_key, arm, channel, template, not_before, state, fence FROM outbox ORDER BY message_key"
        )
        people = "SELECT experiment_id, customer_id, wave_id, arm, assigned_at FROM assignments ORDER BY customer_id"
        return [tuple(row) for row in tx.execute(sa.text(messages))], [
            tuple(row) for row in tx.execute(sa.text(people))
        ]


def test_a_recorder_killed_at_every_moment_leaves_whole_batches_and_is_completed(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    kills = 0
    for moment in range(1, 100):
        at = T0 + moment * HOUR
        people, messages = cohort(12, first=100 * moment, at=at)
        wave = wave_of(experiment_id, people, at=at)

        def work(own: Ledger, wave: Any = wave, people: Any = people, messages: Any = messages) -> None:
            record_wave(own, wave, wave_batches(people, messages, rows=5))

        killed = killed_at(ledger, moment, work)
        kills += killed
        with ledger.read() as tx:
            query = "SELECT count(*) FROM assignments WHERE wave_id = :wave"
            found = tx.execute(sa.text(query), {"wave": wave.wave_id}).scalar()
            query = (
                "SELECT count(*) FROM assignments a WHERE wave_id = :wave AND arm <> 'control' AND NOT EXISTS "
                "(SELECT 1 FROM outbox o WHERE o.experiment_id = a.experiment_id AND o.customer_id = a.customer_id)"
            )
            assert tx.execute(sa.text(query), {"wave": wave.wave_id}).scalar() == 0
        assert found in (0, 5, 10, 12)
        summary = record_wave(ledger, wave, wave_batches(people, messages, rows=5))
        assert sum(summary.assigned.values()) == 12
        assert sum(summary.messages.values()) == len(messages)
        if not killed:
            break
    assert kills >= 14


def test_a_recorder_killed_between_batches_ends_like_one_that_was_not(ledger: Ledger, tmp_path: Path) -> None:
    experiment_id = start(ledger)
    people, messages = cohort(40)
    wave = wave_of(experiment_id, people)

    def work(own: Ledger) -> None:
        def batches() -> Iterator[WaveBatch]:
            yield from list(wave_batches(people, messages, rows=10))[:3]
            os.kill(os.getpid(), signal.SIGKILL)

        record_wave(own, wave, batches())

    assert killed_at(ledger, -1, work)
    with ledger.read() as tx:
        found = find_wave(tx, experiment_id, T0)
        assert found is not None
        assert found.status == "open"
    assert len(outbox_and_assignments(ledger)[1]) == 30
    assert record_wave(ledger, wave, wave_batches(people, messages, rows=10)).resumed
    resumed = outbox_and_assignments(ledger)
    untouched = open_ledger(f"sqlite:///{tmp_path / 'untouched.db'}")
    from warehouse.ledger.engine import migrate

    migrate(untouched)
    start(untouched)
    record_wave(untouched, wave, wave_batches(people, messages, rows=10))
    wanted = outbox_and_assignments(untouched)
    untouched.close()
    if ledger.dialect == "sqlite":
        assert resumed == wanted
    assert [row[:4] for row in resumed[0]] == [row[:4] for row in wanted[0]]
    assert [row[:4] for row in resumed[1]] == [row[:4] for row in wanted[1]]


@pytest.mark.parametrize("point", ["claim", "intend", "settle"])
def test_a_worker_killed_between_two_steps_leaves_a_state_that_says_so(ledger: Ledger, point: str) -> None:
    record(ledger, start(ledger), 3, arms=("offer",))
    now = T0 + HOUR

    def work(own: Ledger) -> None:
        claimed = take(own, now=now)
        if point in ("intend", "settle"):
            intend(own, keys_of(claimed), "w1", claimed[0].fence, now)
        if point == "settle":
            settle(own, [Settlement(message_key=key, state="sent", fence=1) for key in keys_of(claimed)], now)
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed_at(ledger, -1, work)
    assert states(ledger) == {{"claim": "claimed", "intend": "sending", "settle": "sent"}[point]: 3}
    sweep(ledger, now + HOUR)
    assert states(ledger) == {{"claim": "pending", "intend": "in_doubt", "settle": "sent"}[point]: 3}
