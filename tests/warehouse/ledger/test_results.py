"""What was measured and decided: appended once, chained, never edited."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from warehouse.ledger.audit import audit_log, record_audit
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.results import (
    FIRST_HASH,
    DecisionRow,
    append_decision,
    decisions,
    latest_measurement,
    looks,
    measurements,
    record_look,
    record_measurement,
    verify_decisions,
)

from .story import DAY, T0, start


def decide(ledger: Ledger, experiment_id: str, day: int = 0, verdict: str = "keep_testing") -> DecisionRow:
    with ledger.begin() as tx:
        return append_decision(
            tx,
            experiment_id,
            decided_at=T0 + day * DAY,
            verdict=verdict,
            arm="offer" if verdict == "promote" else None,
            rule_version="1",
            evidence={"reasons": [{"gate": "maturity", "passed": False}], "text": "退订"},
        )


def test_a_look_is_spent_once_and_never_goes_back(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    with ledger.begin() as tx:
        first = record_look(tx, experiment_id, 1, at=T0, information=0.25, detail={"mature": 10})
        assert record_look(tx, experiment_id, 1, at=T0 + DAY, information=0.5) == first
        record_look(tx, experiment_id, 3, at=T0 + DAY, information=0.5)
        assert [(row.look, row.information) for row in looks(tx, experiment_id)] == [(1, 0.25), (3, 0.5)]
    with pytest.raises(LedgerError, match="look 2 cannot follow look 3"), ledger.begin() as tx:
        record_look(tx, experiment_id, 2, at=T0, information=1.0)


def test_a_measurement_of_one_instant_is_recorded_once_and_a_different_one_beside_it(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    with ledger.begin() as tx:
        assert latest_measurement(tx, experiment_id) is None
        one = record_measurement(tx, experiment_id, {"n": 1, "results": []}, measured_at=T0)
        assert record_measurement(tx, experiment_id, {"results": [], "n": 1}, measured_at=T0) == one
        two = record_measurement(tx, experiment_id, {"n": 2}, measured_at=T0)
        assert measurements(tx, experiment_id) == [one, two]
        assert latest_measurement(tx, experiment_id) == two
    assert two.measurement == {"n": 2}


def test_decisions_form_a_chain_over_all_experiments(ledger: Ledger) -> None:
    one, other = start(ledger), start(ledger, "other")
    first = decide(ledger, one)
    second = decide(ledger, other)
    third = decide(ledger, one, day=1, verdict="promote")
    assert decide(ledger, one) == first
    with ledger.read() as tx:
        assert decisions(tx) == [first, second, third]
        assert decisions(tx, one) == [first, third]
        assert verify_decisions(tx) == 3
    assert first.previous_hash == FIRST_HASH
    assert (second.previous_hash, third.previous_hash) == (first.hash, second.hash)
    assert third.decided_at == T0 + DAY
    assert third.arm == "offer"


def test_decisions_are_equal_on_both_databases(sqlite_ledger: Ledger, postgres_ledger: Ledger) -> None:
    hashes = [decide(ledger, start(ledger)).hash for ledger in (sqlite_ledger, postgres_ledger)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("what", ["edited", "removed"])
def test_tampering_with_a_decision_is_found(sqlite_ledger: Ledger, what: str) -> None:
    experiment_id = start(sqlite_ledger)
    for day in range(3):
        decide(sqlite_ledger, experiment_id, day)
    statement = {
        "edited": "UPDATE decisions SET verdict = 'promote' WHERE decision_id = 2",
        "removed": "DELETE FROM decisions WHERE decision_id = 2",
    }[what]
    with sqlite_ledger.begin() as tx:
        for trigger in ("decisions_no_update", "decisions_no_delete"):
            tx.execute(sa.text(f"DROP TRIGGER {trigger}"))
        tx.execute(sa.text(statement))
    with pytest.raises(LedgerError, match=r"decision [23] does not fit"), sqlite_ledger.read() as tx:
        verify_decisions(tx)


def test_decisions_of_many_at_once_stay_one_chain(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    threads = [threading.Thread(target=decide, args=(ledger, experiment_id, day % 5)) for day in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.read() as tx:
        assert verify_decisions(tx) == 5


def test_the_audit_log_tells_who_did_what_newest_first(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        record_audit(tx, at=T0, actor="crm", action="pause", subject="winback", detail={"reason": "complaints"})
        record_audit(tx, at=T0 + DAY, actor="crm", action="resume", subject="winback")
        record_audit(tx, at=T0 + DAY, actor="bot", action="decide", subject="other:1")
    with ledger.read() as tx:
        assert [row.action for row in audit_log(tx)] == ["decide", "resume", "pause"]
        assert [row.action for row in audit_log(tx, limit=1)] == ["decide"]
        lines = audit_log(tx, subject="winback")
    assert [(row.actor, row.action, row.detail) for row in lines] == [
        ("crm", "resume", {}),
        ("crm", "pause", {"reason": "complaints"}),
    ]
