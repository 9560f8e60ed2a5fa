"""All dispatchers together keep to an account's rate, and one of them alone tries an account that rested."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from channels.pacing import BURST_S
from tests.together import processes_together
from tests.warehouse.ledger.ledgers import ledger, postgres_ledger, postgres_ledger_url, sqlite_ledger, sqlite_template
from tests.warehouse.ledger.story import T0
from warehouse.ledger import accounts
from warehouse.ledger.accounts import News, Permit, Request, learn, take
from warehouse.ledger.engine import Ledger

__all__ = ["ledger", "postgres_ledger", "postgres_ledger_url", "sqlite_ledger", "sqlite_template"]

WORKERS = 4
RATE, HEAVIEST = 20.0, 5

WORKER = """
import json, random, sys
from datetime import timedelta
from tests.warehouse.ledger.story import T0
from warehouse.ledger.accounts import Permit, Request, take
from warehouse.ledger.engine import open_ledger
ledger, name, mode = open_ledger(sys.argv[1]), sys.argv[2], sys.argv[3]
rng, now, left = random.Random(name), T0 + timedelta(seconds=31), []
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    weight = rng.randint(1, 5)
    asked = Request(account="sms:twilio", worker=name, now=now, weight=weight, probe_weight=1.0,
                    rate_per_s=20.0 if mode == "rate" else None, patience_s=1e6)
    answer = take(ledger, asked)
    if isinstance(answer, Permit):
        now += timedelta(seconds=answer.wait_s)
        left.append([(now - T0).total_seconds(), 1 if answer.is_probe else weight, answer.is_probe])
    if mode == "rate":
        now += timedelta(seconds=rng.uniform(0.0, 0.3))
print(json.dumps(left), flush=True)
"""


def at_once(ledger: Ledger, mode: str) -> list[tuple[float, float, bool]]:
    """What the workers' processes were permitted: (second at which it leaves, weight, is it a probe)."""
    url = ledger.engine.url.render_as_string(hide_password=False)
    said = processes_together(WORKER, [(url, f"w{n}", mode) for n in range(WORKERS)])
    return sorted((at, weight, probe) for text in said for at, weight, probe in json.loads(text))


def busiest_second(left: list[tuple[float, float, bool]]) -> float:
    return max(sum(weight for at, weight, _ in left if start <= at < start + 1.0) for start, _, _ in left)


def test_the_fleet_never_goes_faster_than_the_rate_and_its_burst(ledger: Ledger) -> None:
    left = at_once(ledger, "rate")
    total, spent_s = sum(weight for _, weight, _ in left), left[-1][0] - left[0][0]
    assert len(left) == WORKERS * 40
    assert busiest_second(left) <= RATE * (1 + BURST_S) + HEAVIEST
    assert total / spent_s > 0.7 * RATE  # and it is no slower than it must be: the workers ask for more than there is


def test_where_every_worker_keeps_a_bucket_of_its_own_the_fleet_is_too_fast(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeded bug: what one has taken the others do not see."""
    monkeypatch.setattr(accounts, "_write", lambda *_: None)
    left = []
    for n in range(WORKERS):
        now = T0
        for _ in range(40):
            asked = Request(account="sms:twilio", worker=f"w{n}", now=now, weight=1.0, rate_per_s=RATE)
            answer = take(ledger, asked)
            assert isinstance(answer, Permit)
            left.append(((now - T0).total_seconds() + answer.wait_s, 1.0, False))
            now += timedelta(seconds=0.05)
    assert busiest_second(left) > 3 * RATE


def test_exactly_one_probe_leaves_when_an_account_has_rested(ledger: Ledger) -> None:
    halt = News(worker="w9", outcomes=["transient"], halt="20003: the account")
    learn(ledger, "sms:twilio", halt, now=T0)
    left = at_once(ledger, "probe")
    assert [(weight, probe) for _, weight, probe in left] == [(1, True)]


def test_a_failed_probe_closes_the_door_to_the_whole_fleet_again(ledger: Ledger) -> None:
    learn(ledger, "sms:twilio", News(worker="w9", outcomes=["transient"], halt="20003: the account"), now=T0)
    probe = Request(account="sms:twilio", worker="w9", now=T0 + timedelta(seconds=30), weight=1.0)
    assert take(ledger, probe) == Permit(0.0, is_probe=True)
    learn(ledger, "sms:twilio", News(worker="w9", outcomes=["unknown"]), now=T0 + timedelta(seconds=30))
    assert at_once(ledger, "probe") == []


def test_news_of_attempts_from_before_the_rest_change_nothing(ledger: Ledger) -> None:
    learn(ledger, "sms:twilio", News(worker="w9", outcomes=["transient"], halt="20003: the account"), now=T0)
    for worker in ("w1", "w2", "w3"):  # they were under way when the password was refused
        late = News(worker=worker, outcomes=["transient"], halt="20003: the account")
        learn(ledger, "sms:twilio", late, now=T0 + timedelta(seconds=1))
        learn(ledger, "sms:twilio", News(worker=worker, outcomes=["accepted"] * 9), now=T0 + timedelta(seconds=2))
    early = Request(account="sms:twilio", worker="w1", now=T0 + timedelta(seconds=29), weight=1.0)
    assert not isinstance(take(ledger, early), Permit)
    after = Request(account="sms:twilio", worker="w1", now=T0 + timedelta(seconds=30), weight=1.0)
    assert take(ledger, after) == Permit(0.0, is_probe=True)


def test_success_of_an_account_that_works_writes_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = News(worker="w1", outcomes=["accepted"] * 60)
    learn(ledger, "sms:twilio", fine, now=T0)
    monkeypatch.setattr(accounts, "_write", lambda *_: pytest.fail("it wrote"))
    learn(ledger, "sms:twilio", fine, now=T0 + timedelta(seconds=1))
    with pytest.raises(pytest.fail.Exception, match="it wrote"):
        learn(ledger, "sms:twilio", News(worker="w1", outcomes=["unknown"]), now=T0 + timedelta(seconds=2))
