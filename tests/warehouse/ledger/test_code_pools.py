"""Pools of codes and the budget of discounts: nothing is given out twice, whoever applies at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pandas as pd
import pytest
import sqlalchemy as sa

from warehouse.ledger.code_pools import (
    StockError,
    code_rows,
    import_codes,
    own_codes,
    release_unshown,
    reserve_codes,
    reserved_codes,
    stock,
    usable,
)
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.experiments import end_experiment
from warehouse.ledger.promises import OverBudgetError, Promised, promised_cost, record_promises
from warehouse.ledger.waves import Wave, record_wave, wave_batches

from .story import DAY, HOUR, T0, cohort, record, start, wave_of


def fill(ledger: Ledger, pool: str, n: int, *, ends: timedelta | None = None, first: int = 0) -> None:
    """A pool of n codes."""
    codes = [(f"{pool.upper()}-{i:05d}", None if ends is None else T0 + ends) for i in range(first, first + n)]
    with ledger.begin() as tx:
        import_codes(tx, pool, codes, at=T0)


def reserve(ledger: Ledger, experiment_id: str, customers: list[str], *, pool: str = "p") -> dict[str, str]:
    with ledger.begin() as tx:
        reserve_codes(tx, experiment_id, {pool: customers}, at=T0, until={pool: T0 + DAY})
        return {customer: own.code for customer, own in own_codes(tx, experiment_id, customers).items()}


def at_once(*work: Callable[[], object]) -> list[Exception]:
    """Do all of it at the same time; give what went wrong."""
    failures: list[Exception] = []
    gate = threading.Barrier(len(work))

    def run(act: Callable[[], object]) -> None:
        gate.wait()
        try:
            act()
        except LedgerError as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_importing_again_changes_nothing_and_a_code_twice_in_the_file_counts_once(ledger: Ledger) -> None:
    codes = [("A1B2", None), ("C3D4", None), ("a1b2", None)]
    for expected in ((2, 0, 1), (0, 2, 1)):
        with ledger.begin() as tx:
            done = import_codes(tx, "p", codes, at=T0)
        assert (done.added, done.known, done.repeated) == expected
    with ledger.read() as tx:
        assert [(row.pool, row.free) for row in stock(tx, at=T0)] == [("p", 2)]


def test_a_code_of_another_pool_is_refused_with_all_of_its_file_and_is_not_named(ledger: Ledger) -> None:
    fill(ledger, "p", 1)
    with pytest.raises(LedgerError, match="in pool p already") as said, ledger.begin() as tx:
        import_codes(tx, "q", [("NEW-1", None), ("p-00000", None)], at=T0)
    assert "00000" not in str(said.value)
    with ledger.read() as tx:
        assert [row.pool for row in stock(tx, at=T0)] == ["p"]


def test_a_code_does_not_come_again_with_another_end(ledger: Ledger) -> None:
    fill(ledger, "p", 1, ends=DAY)
    with pytest.raises(LedgerError, match="another end"), ledger.begin() as tx:
        import_codes(tx, "p", [("P-00000", T0 + 2 * DAY)], at=T0)


def test_a_customer_keeps_the_code_of_an_experiment_and_gets_another_in_the_next(ledger: Ledger) -> None:
    fill(ledger, "p", 4)
    first = reserve(ledger, "a:1", ["c1", "c2"])
    assert len(set(first.values())) == 2
    assert reserve(ledger, "a:1", ["c1", "c2"]) == first
    second = reserve(ledger, "b:1", ["c1", "c2"])
    assert not set(first.values()) & set(second.values())
    with ledger.read() as tx:
        assert stock(tx, at=T0)[0].free == 0


def test_one_code_too_few_reserves_nothing(ledger: Ledger) -> None:
    """10,000 customers, 9,999 codes."""
    fill(ledger, "p", 9_999)
    customers = [f"c{i:05d}" for i in range(10_000)]
    with pytest.raises(StockError, match="9,999 codes that hold long enough, 10,000 are needed"):
        reserve(ledger, "a:1", customers)
    with ledger.read() as tx:
        assert (stock(tx, at=T0)[0].free, own_codes(tx, "a:1", customers)) == (9_999, {})
    fill(ledger, "p", 1, first=9_999)
    assert len(set(reserve(ledger, "a:1", customers).values())) == 10_000


def test_codes_that_end_too_early_are_never_given_out(ledger: Ledger) -> None:
    fill(ledger, "p", 3, ends=DAY)
    fill(ledger, "p", 1, ends=DAY + HOUR, first=3)
    assert reserve(ledger, "a:1", ["c1"]) == {"c1": "P-00003"}
    with pytest.raises(StockError, match="0 codes"):
        reserve(ledger, "a:1", ["c2"])
    with ledger.read() as tx:
        found = stock(tx, at=T0 + DAY)[0]
        assert (found.free, found.expired, found.reserved) == (0, 3, 1)
        assert usable(tx, "p", until=T0) == 3


def test_two_runs_at_the_same_time_never_hand_a_code_to_two_customers(ledger: Ledger) -> None:
    fill(ledger, "p", 600)
    groups = {f"{name}:1": [f"c{i:03d}" for i in range(150)] for name in ("a", "b", "c", "d")}
    failures = at_once(*(lambda e=e, c=c: reserve(ledger, e, c) for e, c in groups.items()))
    assert failures == []
    with ledger.read() as tx:
        pairs = [(key, (e, customer)) for e in groups for key, customer in reserved_codes(tx, e)]
    assert len(pairs) == 600
    assert len({key for key, _ in pairs}) == len({owner for _, owner in pairs}) == 600


def test_of_two_runs_that_want_the_last_codes_one_gets_all_and_the_other_none(ledger: Ledger) -> None:
    fill(ledger, "p", 100)
    customers = [f"c{i:03d}" for i in range(80)]
    failures = at_once(lambda: reserve(ledger, "a:1", customers), lambda: reserve(ledger, "b:1", customers))
    assert [type(failure) for failure in failures] == [StockError]
    with ledger.read() as tx:
        assert sorted(len(reserved_codes(tx, e)) for e in ("a:1", "b:1")) == [0, 80]


def test_a_reserved_code_cannot_be_given_to_another_experiment_even_by_hand(ledger: Ledger) -> None:
    fill(ledger, "p", 1)
    reserve(ledger, "a:1", ["c1"])
    with pytest.raises(LedgerError, match="not given to anybody else"), ledger.begin() as tx:
        tx.execute(sa.text("UPDATE pool_codes SET experiment_id = 'b:1', customer_id = 'c2'"))


def test_only_codes_that_nobody_can_have_seen_are_taken_back(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 3)  # c000000 in offer, c000001 in points, c000002 in control
    fill(ledger, "p", 2)
    codes = reserve(ledger, experiment_id, ["c000000", "c000001"])
    with ledger.begin() as tx:
        tx.execute(sa.text("UPDATE outbox SET state = 'skipped', reason = 'expired'"))
        assert release_unshown(tx, "p") == 0, "the experiment still runs"
        end_experiment(tx, experiment_id, reason="over", ended_at=T0)
        tx.execute(sa.text("UPDATE outbox SET attempts = 1 WHERE customer_id = 'c000001'"))
    with ledger.begin() as tx:
        assert release_unshown(tx, "p") == 1
        rows = code_rows(tx, codes.values())
    assert rows[codes["c000000"].casefold()]["customer_id"] is None
    assert rows[codes["c000001"].casefold()]["customer_id"] == "c000001"


def promise(ledger: Ledger, wave_id: str, euros: int, *, limit: int) -> None:
    with ledger.begin() as tx:
        row = Promised("offer", "ten", 10, euros * 1_000_000)
        record_promises(tx, "winback", wave_id, [row], limit_micros=limit * 1_000_000)


def test_a_budget_of_discounts_holds_over_all_runs_and_a_repeated_one_counts_once(ledger: Ledger) -> None:
    promise(ledger, "w1", 60, limit=100)
    promise(ledger, "w1", 60, limit=100)
    with pytest.raises(OverBudgetError, match=r"promises 41.00 of discounts, the budget has 40.00 left"):
        promise(ledger, "w2", 41, limit=100)
    promise(ledger, "w2", 40, limit=100)
    with ledger.read() as tx:
        assert promised_cost(tx, "winback") == 100_000_000
        assert promised_cost(tx, "winback", but="w2") == 60_000_000


def test_two_campaigns_applied_at_once_from_one_pool_give_every_customer_a_code_of_its_own(ledger: Ledger) -> None:
    fill(ledger, "p", 500)
    waves = []
    for campaign in ("winback", "loyal"):
        experiment_id = start(ledger, campaign=campaign)
        people, messages = cohort(240)
        waves.append((wave_of(experiment_id, people), people, messages))

    def apply(wave: Wave, people: pd.DataFrame, messages: pd.DataFrame) -> None:
        customers = people["customer_id"][people["arm"] != "control"].tolist()

        def opening(tx: sa.Connection) -> None:
            reserve_codes(tx, wave.experiment_id, {"p": customers}, at=T0, until={"p": T0 + DAY})

        record_wave(ledger, wave, wave_batches(people, messages, rows=50), opening=opening)

    assert at_once(*(lambda w=wave: apply(*w) for wave in waves)) == []
    with ledger.read() as tx:
        found = [reserved_codes(tx, wave.experiment_id) for wave, _, _ in waves]
    assert [len(pairs) for pairs in found] == [160, 160]
    assert not {key for key, _ in found[0]} & {key for key, _ in found[1]}
