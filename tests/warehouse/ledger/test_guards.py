"""What the database itself refuses, whoever asks: every guard and every constraint of the tables."""

from __future__ import annotations

import itertools

import pytest
import sqlalchemy as sa

from warehouse.ledger.address_suppressions import AddressSuppression, release_addresses, suppress_addresses
from warehouse.ledger.audit import record_audit
from warehouse.ledger.code_pools import import_codes, reserve_codes
from warehouse.ledger.consents import Statement, record_consents
from warehouse.ledger.engine import Ledger
from warehouse.ledger.erasures import ErasureRequest, erase_from_ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.exits import record_exits
from warehouse.ledger.guards import GUARDS
from warehouse.ledger.launches import LaunchAnswer, LaunchRequest, answer_launch, request_launch
from warehouse.ledger.points import Posting, begin_export, finish_export, post
from warehouse.ledger.programme import record_holdout, record_programme
from warehouse.ledger.promises import Promised, record_promises
from warehouse.ledger.results import append_decision, record_look, record_measurement
from warehouse.ledger.schema import STATES, TRANSITIONS
from warehouse.ledger.suppressions import release_suppression, suppress

from .story import HOUR, T0, record, send, start, take

VALUES = {
    "state": "'sent'",
    "fence": "-1",
    "attempts": "-1",
    "status": "'running'",
    "recorded": "'{}'",
    "released_at": "NULL",
    "release_source": "NULL",
}


def fill(ledger: Ledger) -> None:
    """One row at least in every guarded table, ended, complete or released where a guard asks for it."""
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    send(ledger, take(ledger, limit=2))
    launch = LaunchRequest(
        experiment_id=experiment_id, as_of=T0, config_hash="c", campaign="winback", requested_at=T0,
        requested_by="olga", extent={}, audience=(), reasons=("large",),
    )  # fmt: skip
    request_launch(ledger, launch)
    answer_launch(ledger, request_launch(ledger, launch).request, LaunchAnswer(True, "ana", T0, ""))
    suppress(ledger, "c000000", "sms", "stop", "test", T0)
    release_suppression(ledger, "c000000", "sms", source="test", at=T0)
    record_exits(ledger, experiment_id, ["c000000"], reason="purchased", at=T0)
    record_consents(ledger, [Statement("c000000", "sms", True, T0, "form")])
    suppress_addresses(ledger, [AddressSuppression(("a",), ("k",), "sms", "stop", "test", T0)])
    release_addresses(ledger, ["a"], channel="sms", source="test", at=T0)
    erase_from_ledger(ledger, ErasureRequest("c000008", "erased-1", "m", "k", "test", T0))
    with ledger.begin() as tx:
        record_look(tx, experiment_id, 1, at=T0, information=0.5)
        record_measurement(tx, experiment_id, {"n": 1}, measured_at=T0)
        append_decision(
            tx, experiment_id, decided_at=T0, verdict="keep_testing", arm=None, rule_version="1", evidence={}
        )
        record_audit(tx, at=T0, actor="me", action="looked", subject=experiment_id)
        record_holdout(tx, "salt", 0.1, at=T0)
        record_programme(tx, {"n": 1}, measured_at=T0)
        fill_offers(tx, experiment_id)
        tx.execute(sa.text("UPDATE experiments SET status = 'ended', ended_at = :at"), {"at": T0.isoformat()})


def fill_offers(tx: sa.Connection, experiment_id: str) -> None:
    """A code that is reserved, a promise, and points that were handed on."""
    import_codes(tx, "p", [("AAA", None)], at=T0)
    reserve_codes(tx, experiment_id, {"p": ["c000000"]}, at=T0, until={"p": T0})
    record_promises(tx, "winback", "w", [Promised("offer", "ten", 1, 1)], limit_micros=None)
    bonus = Posting(
        posting_key="k", customer_id="c000000", experiment_id=experiment_id, offer="ten", kind="bonus", points=5,
        at=T0, posted_at=T0,
    )  # fmt: skip
    post(tx, [bonus])
    finish_export(tx, begin_export(tx, "points.csv", at=T0).export_id, at=T0)


def test_every_guard_refuses_what_it_says(ledger: Ledger) -> None:
    fill(ledger)
    for guard in GUARDS:
        if guard.event == "DELETE":
            statement = f"DELETE FROM {guard.table}"
        else:
            columns = guard.event.removeprefix("UPDATE").removeprefix(" OF ").split(", ")
            column = columns[0] or {
                "exits": "reason",
                "launch_answers": "note",
                "assignments": "arm",
                "holdout_periods": "salt",
                "programme_results": "measured_at",
                "promises": "arm",
                "point_exports": "file",
                "point_exported": "export_id",
            }.get(guard.table, "experiment_id")
            if guard.table in ("message_events", "audit", "consents", "erasures"):
                column = "at"
            statement = f"UPDATE {guard.table} SET {column} = {VALUES.get(column, column)}"
            if guard.name == "outbox_forward":
                statement = "UPDATE outbox SET state = 'pending' WHERE state = 'sent'"
        with pytest.raises(LedgerError) as caught, ledger.begin() as tx:
            tx.execute(sa.text(statement))
        assert guard.message in str(caught.value), guard.name


@pytest.mark.postgres
@pytest.mark.parametrize("table", ["message_events", "outbox", "decisions", "audit"])
def test_no_kept_table_can_be_emptied_at_once(postgres_ledger: Ledger, table: str) -> None:
    with pytest.raises(LedgerError, match=table), postgres_ledger.begin() as tx:
        tx.execute(sa.text(f"TRUNCATE {table} CASCADE"))


def test_states_change_exactly_as_the_table_of_transitions_says(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 64 * 3, rows=500)
    with ledger.read() as tx:
        keys = list(tx.execute(sa.text("SELECT message_key FROM outbox ORDER BY message_key")).scalars())
    for key, (old, new) in zip(keys, itertools.product(STATES, STATES), strict=False):
        for step in _way_to(old):
            _set_state(ledger, key, step)
        legal = new == old or new in TRANSITIONS[old]
        if legal:
            _set_state(ledger, key, new)
        else:
            with pytest.raises(LedgerError, match="only move forward"):
                _set_state(ledger, key, new)


def _way_to(state: str) -> list[str]:
    ways = {"pending": [], "claimed": ["claimed"], "sending": ["claimed", "sending"]}
    return ways.get(state, ["claimed", "sending", state] if state != "skipped" else ["skipped"])


def _set_state(ledger: Ledger, key: str, state: str) -> None:
    leased = state in ("claimed", "sending")
    values = {
        "state": state,
        "reason": "test" if state in ("skipped", "failed", "in_doubt") else None,
        "owner": "w1" if leased else None,
        "until": (T0 + HOUR).isoformat() if leased else None,
        "key": key,
    }
    with ledger.begin() as tx:
        tx.execute(
            sa.text(
                "UPDATE outbox SET state = :state, reason = :reason, lease_owner = :owner, "
                "lease_until = :until WHERE message_key = :key"
            ),
            values,
        )


@pytest.mark.parametrize(
    "change",
    [
        "state = 'lost'",
        "channel = 'fax'",
        "state = 'skipped', reason = NULL",
        "state = 'claimed'",
        "lease_owner = 'w1'",
        "cost_micros = -1",
    ],
)
def test_illegal_rows_are_refused_by_constraints(ledger: Ledger, change: str) -> None:
    record(ledger, start(ledger))
    with pytest.raises(LedgerError, match="refused"), ledger.begin() as tx:
        tx.execute(sa.text(f"UPDATE outbox SET {change} WHERE step = 1"))


def test_a_message_needs_an_assignment_and_the_key_of_its_customer_and_step(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    columns = "experiment_id, arm, channel, template, not_before, closes_at, expires_at, updated_at"
    at = "2026-03-02T10:00:00.000000Z"
    rest = f"'{experiment_id}', 'offer', 'sms', 't', '{at}', '{at}', '{at}', '{at}'"
    for key, customer in ((f"{experiment_id}/nobody/1", "nobody"), (f"{experiment_id}/c000000/7", "c000000")):
        with pytest.raises(LedgerError, match="refused"), ledger.begin() as tx:
            tx.execute(
                sa.text(
                    f"INSERT INTO outbox (message_key, customer_id, step, {columns}) "
                    f"VALUES ('{key}', '{customer}', 1, {rest})"
                )
            )


def test_one_experiment_of_a_campaign_runs_at_a_time(ledger: Ledger) -> None:
    start(ledger)
    with pytest.raises(LedgerError, match="refused"), ledger.begin() as tx:
        tx.execute(
            sa.text(
                "INSERT INTO experiments (experiment_id, campaign, epoch, salt, design, design_hash, started_at) "
                "VALUES ('winback:2', 'winback', 2, 's', '{}', 'h', '2026-03-02T10:00:00.000000Z')"
            )
        )
