"""Many claimers at once: every message to one of them, caps and budgets hold, a pause or a STOP holds once committed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from tests.together import Clerk, processes_together, together
from tests.warehouse.ledger.ledgers import ledger, postgres_ledger, postgres_ledger_url, sqlite_ledger, sqlite_template
from tests.warehouse.ledger.story import DAY, HOUR, MINUTE, T0, keys_of, record, send, start, states, take
from warehouse.ledger import claims, dialect
from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import CampaignRules, Cap, intend
from warehouse.ledger.schema import outbox
from warehouse.ledger.suppressions import suppress
from warehouse.ledger.switches import pause

__all__ = ["ledger", "postgres_ledger", "postgres_ledger_url", "sqlite_ledger", "sqlite_template"]

NOW = T0 + HOUR

CLAIMER = """
import sys
from tests.warehouse.ledger.story import HOUR, T0, keys_of, send, take
from warehouse.ledger.engine import open_ledger
ledger = open_ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while claimed := take(ledger, now=T0 + HOUR, worker=sys.argv[2], limit=7):
    send(ledger, claimed, worker=sys.argv[2])
    print(*keys_of(claimed), sep="\\n", flush=True)
"""


def test_every_message_goes_to_one_of_several_processes(ledger: Ledger) -> None:
    record(ledger, start(ledger), 200, arms=("offer",), rows=100)
    url = ledger.engine.url.render_as_string(hide_password=False)
    said = processes_together(CLAIMER, [(url, f"w{n}") for n in range(3)])
    times = Counter(key for keys in said for key in keys.split())
    assert len(times) == 200
    assert set(times.values()) == {1}
    assert states(ledger) == {"sent": 200}


def test_caps_hold_under_eight_claimers_of_six_campaigns(ledger: Ledger) -> None:
    campaigns = [f"c{n}" for n in range(6)]
    for name in campaigns:
        record(ledger, start(ledger, name), 30, arms=("offer",), rows=100)
    rules = {name: CampaignRules(caps=(Cap(2, 7 * DAY),)) for name in campaigns}

    def work(worker: str) -> None:
        while claimed := take(ledger, worker=worker, limit=5, rules=rules):
            send(ledger, claimed, worker=worker)

    together(*(lambda worker=f"w{n}": work(worker) for n in range(8)))
    query = sa.select(outbox.c.customer_id).where(outbox.c.state == "sent")
    with ledger.read() as tx:
        per_customer = Counter(tx.execute(query).scalars())
    # none above the cap, and none below it either: a claimer that waited gets the place that was left
    assert Counter(per_customer.values()) == {2: 30}


def test_a_budget_holds_under_eight_claimers(ledger: Ledger) -> None:
    record(ledger, start(ledger), 90, arms=("offer",), rows=100)
    rules = {"winback": CampaignRules(max_messages=50, over_budget="hold")}

    def work(worker: str) -> None:
        while claimed := take(ledger, worker=worker, limit=4, rules=rules):
            send(ledger, claimed, worker=worker)

    together(*(lambda worker=f"w{n}": work(worker) for n in range(8)))
    assert states(ledger) == {"sent": 50, "pending": 40}


class Meanwhile:
    """Lets something else happen in the middle of a claim: after its checks, before its writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, other: Callable[[], Any], patience_s: float = 0.7) -> None:
        self.other_was_quicker = False
        self._thread = threading.Thread(target=other)
        self._claimer = threading.get_ident()
        write = claims._write

        def interrupted(*args: Any) -> Any:
            if threading.get_ident() == self._claimer and not self._thread.ident:
                self._thread.start()
                self._thread.join(patience_s)  # where locks work the other one waits for us, so we go on
                self.other_was_quicker = not self._thread.is_alive()
            return write(*args)

        monkeypatch.setattr(claims, "_write", interrupted)

    def join(self) -> None:
        self._thread.join()


def _cap_race(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, patience_s: float = 0.7) -> tuple[bool, int]:
    for name in ("a", "b"):
        record(ledger, start(ledger, name), 5, arms=("offer",))
    rules = {name: CampaignRules(caps=(Cap(1, 7 * DAY),)) for name in ("a", "b")}
    other = frozenset({"b:1"})
    race = Meanwhile(monkeypatch, lambda: take(ledger, worker="w2", rules=rules, experiments=other), patience_s)
    take(ledger, rules=rules, experiments=frozenset({"a:1"}))
    race.join()
    return race.other_was_quicker, states(ledger, "a:1").get("claimed", 0) + states(ledger, "b:1").get("claimed", 0)


def test_two_claimers_of_two_campaigns_do_not_both_take_the_last_place(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _cap_race(ledger, monkeypatch) == (False, 5)


@pytest.mark.postgres
def test_without_slot_rows_both_would_take_it(postgres_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded bug: a cap that is checked without a lock."""
    monkeypatch.setattr(dialect, "enter_caps", lambda *_: None)
    assert _cap_race(postgres_ledger, monkeypatch, patience_s=60) == (True, 10)


def _pause_race(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, patience_s: float = 0.7) -> tuple[int, int]:
    """Pause in the middle of a claim: messages claimed at the commit of the pause, and at the end."""
    record(ledger, start(ledger), 5, arms=("offer",))
    at_pause: list[int] = []

    def stop() -> None:
        pause(ledger, "winback", by="me", reason="test", at=NOW)
        at_pause.append(states(ledger).get("claimed", 0))

    race = Meanwhile(monkeypatch, stop, patience_s)
    take(ledger)
    race.join()
    return at_pause[0], states(ledger).get("claimed", 0)


def test_nothing_is_claimed_after_a_pause_has_committed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _pause_race(ledger, monkeypatch) == (5, 5)


@pytest.mark.postgres
def test_without_the_gate_a_claim_would_commit_after_the_pause(
    postgres_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeded bug: a pause that does not wait for claims under way."""
    monkeypatch.setattr("warehouse.ledger.dialect.close_gate", lambda _: None)
    assert _pause_race(postgres_ledger, monkeypatch, patience_s=60) == (0, 5)


def test_nothing_of_a_customer_is_claimed_after_the_stop_has_committed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(ledger, start(ledger), 5, arms=("offer",))
    at_stop: list[set[str]] = []

    def claimed_now() -> set[str]:
        with ledger.read() as tx:
            return set(tx.execute(sa.select(outbox.c.customer_id).where(outbox.c.state == "claimed")).scalars())

    def stop() -> None:
        suppress(ledger, "c000002", "sms", "stop", "inbound", NOW)
        at_stop.append(claimed_now())

    race = Meanwhile(monkeypatch, stop)
    claimed = take(ledger)
    race.join()
    assert claimed_now() == at_stop[0]
    # and what had been claimed before does not leave any more
    allowed = intend(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW)
    assert [key for key in keys_of(claimed) if key not in allowed] == ["winback:1/c000002/1"]


def test_stops_while_eight_dispatchers_run_stop_everything_that_had_not_been_intended(ledger: Ledger) -> None:
    """A customer of each claim says STOP before the intent: of every second claim surely, of the others perhaps."""
    record(ledger, start(ledger), 160, arms=("offer",), rows=200)
    stopped: list[tuple[str, set[str]]] = []

    def intended() -> set[str]:
        query = sa.select(outbox.c.customer_id).where(outbox.c.intent_at.is_not(None))
        with ledger.read() as tx:
            return set(tx.execute(query).scalars())

    def stop(customer: str) -> None:
        suppress(ledger, customer, "all", "stop", "inbound", NOW)
        stopped.append((customer, intended()))

    clerk = Clerk(stop, askers=7)

    def dispatch(worker: str) -> None:
        claims = 0
        while claimed := take(ledger, worker=worker, limit=3, lease=90 * MINUTE):
            clerk.ask(claimed[-1].customer_id, wait=claims % 2 == 0)
            send(ledger, claimed, worker=worker)
            claims += 1
        clerk.goodbye()

    together(clerk, *(lambda worker=f"w{n}": dispatch(worker) for n in range(7)))
    at_end = intended()
    assert sum(customer not in before for customer, before in stopped) > 10  # else this has shown nothing
    assert [customer for customer, before in stopped if customer in at_end and customer not in before] == []
    assert len(at_end) + len({c for c, _ in stopped} - at_end) == 160


def test_a_stop_that_arrives_while_eight_dispatchers_run_ends_all_claims_of_its_customer(ledger: Ledger) -> None:
    record(ledger, start(ledger), 240, arms=("offer",), rows=300)
    at_stop: dict[str, bool] = {}
    turns = threading.Semaphore(0)  # each STOP comes in among two claims, however slow its thread is
    was_claimed = sa.select(outbox.c.customer_id).where(outbox.c.claimed_at.is_not(None))

    def claimed_so_far() -> set[str]:
        with ledger.read() as tx:
            return set(tx.execute(was_claimed).scalars())

    def dispatch(worker: str) -> None:
        while turns.acquire(timeout=60) and (claimed := take(ledger, worker=worker, limit=3, lease=90 * MINUTE)):
            send(ledger, claimed, worker=worker)

    def stop_some() -> None:
        for n in range(239, 0, -7):  # the last ones first: they are claimed last
            customer = f"c{n:06d}"
            turns.release(2)
            suppress(ledger, customer, "sms", "stop", "inbound", NOW)
            at_stop[customer] = customer in claimed_so_far()
        turns.release(1_000)

    together(stop_some, *(lambda worker=f"w{n}": dispatch(worker) for n in range(8)))
    at_end = claimed_so_far()
    assert [customer for customer, was in at_stop.items() if customer in at_end and not was] == []
    assert not all(at_stop.values())  # some STOPs came in time, else this has shown nothing


def test_a_claim_with_a_stale_fence_never_sends_however_claims_interleave(ledger: Ledger) -> None:
    record(ledger, start(ledger), 40, arms=("offer",), rows=100)
    sent: list[str] = []
    lock = threading.Lock()

    def dispatch(worker: str) -> None:
        while claimed := take(ledger, worker=worker, limit=3):
            allowed = intend(ledger, keys_of(claimed), worker, claimed[0].fence, NOW)
            with lock:
                sent.extend(allowed)
            # a second intent under the same claim gives nothing: the first one was used up
            assert intend(ledger, keys_of(claimed), worker, claimed[0].fence, NOW) == []

    together(*(lambda worker=f"w{n % 2}": dispatch(worker) for n in range(6)))
    assert len(sent) == len(set(sent)) == 40
