"""What the ledger holds against a plan, and what it tells about customers and deliveries."""

from __future__ import annotations

from datetime import datetime

import pytest

from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.deliveries import sent_messages
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.experiments import end_experiment
from warehouse.ledger.history import customer_history
from warehouse.ledger.layers import layer_busy
from warehouse.ledger.outbox import Cap, skip
from warehouse.ledger.standing import assigned_elsewhen, assigned_in_earlier_epochs, customers_at_cap, promised
from warehouse.ledger.suppressions import suppress

from .story import DAY, HOUR, T0, keys_of, record, send, start, take

NOW = T0 + HOUR


def test_a_layer_is_busy_until_the_horizon_is_over(ledger: Ledger) -> None:
    record(ledger, start(ledger), 3)
    record(ledger, start(ledger, "other"), 3, first=10, at=T0 + DAY)
    with ledger.read() as tx:
        everyone = {f"c{n:06d}" for n in (0, 1, 2, 10, 11, 12)}
        assert layer_busy(tx, ["winback", "other"], as_of=T0 + DAY) == everyone
        assert layer_busy(tx, ["winback"], as_of=T0 + DAY) == {"c000000", "c000001", "c000002"}
        assert layer_busy(tx, ["winback", "other"], as_of=T0 + 30 * DAY) == {"c000010", "c000011", "c000012"}
        assert layer_busy(tx, ["other"], as_of=T0) == set()
        assert layer_busy(tx, [], as_of=T0) == set()


def test_the_run_itself_is_left_out_so_that_it_can_be_resumed(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 3)
    record(ledger, experiment_id, 3, first=10, at=T0 + DAY)
    with ledger.read() as tx:
        assert assigned_elsewhen(tx, experiment_id, T0) == {"c000010", "c000011", "c000012"}
        assert assigned_elsewhen(tx, experiment_id, T0 + DAY) == {"c000000", "c000001", "c000002"}
        assert promised(tx, "winback", experiment_id=experiment_id, as_of=T0) == (3, 2 * 50_000 + 1_000)
        assert promised(tx, "winback", experiment_id="winback:2", as_of=T0) == (6, 2 * (2 * 50_000 + 1_000))


def test_earlier_epochs_count_by_time_of_assignment(ledger: Ledger) -> None:
    record(ledger, start(ledger), 3)
    with ledger.begin() as tx:
        end_experiment(tx, "winback:1", reason="promoted", ended_at=T0 + DAY)
    record(ledger, start(ledger, epoch=2), 3, first=2, at=T0 + DAY)
    with ledger.read() as tx:
        assert assigned_in_earlier_epochs(tx, "winback", "winback:2", since=None) == {"c000000", "c000001", "c000002"}
        assert assigned_in_earlier_epochs(tx, "winback", "winback:2", since=T0) == set()
        assert len(assigned_in_earlier_epochs(tx, "winback", "winback:3", since=T0)) == 3


def test_a_customer_is_at_cap_by_what_left_and_what_waits_elsewhere(ledger: Ledger) -> None:
    record(ledger, start(ledger), 3)
    send(ledger, take(ledger))
    with ledger.read() as tx:
        caps = {
            "two of all": customers_at_cap(tx, [Cap(2, 7 * DAY)], at=NOW, experiment_id="other:1"),
            "one of all": customers_at_cap(tx, [Cap(1, 7 * DAY)], at=NOW, experiment_id="other:1"),
            "one e-mail": customers_at_cap(tx, [Cap(1, 7 * DAY, "email")], at=NOW, experiment_id="other:1"),
            "long ago": customers_at_cap(tx, [Cap(1, DAY)], at=T0 + 40 * DAY, experiment_id="other:1"),
            "own": customers_at_cap(tx, [Cap(1, 7 * DAY)], at=NOW, experiment_id="winback:1"),
        }
    assert caps == {
        "two of all": {"c000001"},
        "one of all": {"c000000", "c000001"},
        "one e-mail": {"c000001"},
        "long ago": set(),
        "own": set(),
    }


def test_a_calendar_cap_of_a_plan_counts_what_left_today_and_what_waits(ledger: Ledger) -> None:
    record(ledger, start(ledger), 3)
    send(ledger, take(ledger))  # the first message of both; the second one of c000001 waits
    day, week = Cap(1, DAY, period="day"), Cap(1, 7 * DAY, period="week")

    def full(*caps: Cap, at: datetime = NOW, planned: dict[str, list[tuple[str, str]]] | None = None) -> set[str]:
        with ledger.read() as tx:
            return customers_at_cap(tx, caps, at=at, experiment_id="other:1", planned=planned)

    assert full(day) == full(week) == {"c000000", "c000001"}
    assert full(day, at=NOW + DAY) == {"c000001"}
    assert full(Cap(2, DAY, period="day")) == {"c000001"}
    assert full(Cap(2, DAY, period="day"), planned={"c000000": [("sms", "offers")]}) == {"c000000", "c000001"}
    assert full(Cap(2, DAY), planned={"c000000": [("sms", "offers")], "c000007": [("sms", "offers")]}) == {
        "c000000",
        "c000001",
    }
    assert full(day, week, at=T0 + 40 * DAY) == set()


def test_a_history_tells_all_of_one_customer(ledger: Ledger) -> None:
    record(ledger, start(ledger), 3)
    record(ledger, start(ledger, "other"), 3)
    claimed = take(ledger, experiments=frozenset({"winback:1"}))
    send(ledger, claimed)
    skip(ledger, {"winback:1/c000001/2": "purchased"}, NOW + HOUR)
    suppress(ledger, "c000001", "email", "unsubscribe", "page", NOW)
    with ledger.read() as tx:
        one = customer_history(tx, "c000001", campaign="winback")
        both = customer_history(tx, "c000001")
        nobody = customer_history(tx, "nobody")
    assert [(row["experiment_id"], row["arm"], row["as_of"]) for row in one.assignments] == [
        ("winback:1", "points", T0)
    ]
    assert [(row["step"], row["state"]) for row in one.messages] == [(1, "sent"), (2, "skipped")]
    assert [(row["event"], row["reason"]) for row in one.events] == [("sent", None), ("skipped", "purchased")]
    assert [row["reason"] for row in one.suppressions] == ["unsubscribe"]
    assert (len(both.assignments), len(both.messages)) == (2, 4)
    assert (nobody.assignments, nobody.messages, nobody.events, nobody.exits) == ((), (), (), ())


def test_deliveries_list_what_a_provider_took(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, code="TEN")
    with ledger.read() as tx:
        assert sent_messages(tx, experiment_id).empty
    claimed = take(ledger, limit=2)
    send(ledger, claimed)
    with ledger.read() as tx:
        frame = sent_messages(tx, experiment_id)
    assert frame["customer_id"].tolist() == ["c000000", "c000001"]
    assert frame["code"].tolist() == ["TEN", "TEN"]
    assert frame["sent_at"].tolist() == [NOW, NOW]
    assert keys_of(claimed) == [f"{experiment_id}/{customer}/1" for customer in frame["customer_id"]]


def test_an_unknown_wave_has_no_assignments(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no wave x@y"), ledger.read() as tx:
        assignments_frame(tx, "x@y")
