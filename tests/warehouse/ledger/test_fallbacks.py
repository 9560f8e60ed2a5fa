"""Fallbacks in the ledger: one successor for one message, whoever asks, and every message accounted for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
import sqlalchemy as sa

from warehouse.ledger import schema
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.fallbacks import Successor, Unreported, add_fallbacks, count_fallbacks, skip_arrived, undelivered
from warehouse.ledger.history import message_history
from warehouse.ledger.outbox import Settlement, counts, settle, skip

from .story import DAY, HOUR, T0, record, send, start, take

NOW = T0 + 2 * HOUR


def after(channel: str, at: datetime = NOW) -> Successor:
    return Successor(channel, at, at + 8 * HOUR, at + DAY, 1_000)


def fail(ledger: Ledger, *keys: str, reason: str = "bounce") -> None:
    settle(ledger, [Settlement(message_key=key, state="failed", reason=reason) for key in keys], NOW)


@pytest.fixture
def experiment_id(ledger: Ledger) -> str:
    """An experiment whose SMS have been sent, with e-mail and push left to try."""
    experiment_id = start(ledger)
    record(ledger, experiment_id, 9, arms=("offer", "control"), fallback="email,push")
    send(ledger, take(ledger))
    return experiment_id


def test_only_what_did_not_arrive_and_has_channels_left_is_listed(ledger: Ledger, experiment_id: str) -> None:
    record(ledger, experiment_id, 4, first=20, arms=("offer",), at=T0 + HOUR, fallback="email")
    fail(ledger, f"{experiment_id}/c000000/1")
    fail(ledger, f"{experiment_id}/c000002/1", reason="render_failed")
    waiting = {f"{experiment_id}/c00002{n}/1": why for n, why in enumerate(("suppressed", "no_consent", "purchased"))}
    skip(ledger, waiting, NOW)
    with ledger.read() as tx:
        found = {message.customer_id: message.left for message in undelivered(tx, [experiment_id], [])}
        assert found == {"c000000": ("email", "push"), "c000020": ("email",), "c000021": ("email",)}
        assert undelivered(tx, [], []) == []
        silent = [Unreported(experiment_id, "offer", 1, T0 + HOUR)]
        assert {m.customer_id for m in undelivered(tx, [experiment_id], silent)} == {
            *found,
            "c000004",
            "c000006",
            "c000008",
        }
        early = [Unreported(experiment_id, "offer", 1, T0)]
        assert len(undelivered(tx, [experiment_id], early)) == 3


def test_a_successor_keeps_all_but_channel_and_time_and_is_made_once(ledger: Ledger, experiment_id: str) -> None:
    key = f"{experiment_id}/c000000/1"
    fail(ledger, key)
    assert add_fallbacks(ledger, {key: after("email")}, NOW) == 1
    assert add_fallbacks(ledger, {key: after("email")}, NOW) == 0
    with ledger.read() as tx:
        assert undelivered(tx, [experiment_id], []) == []
        first, second = (
            tx.execute(sa.select(schema.outbox).where(schema.outbox.c.message_key == name)).mappings().one()
            for name in (key, f"{key}/email")
        )
        assert count_fallbacks(tx, experiment_id) == 1
        assert [line["event"] for line in message_history(tx, key)][-1] == "fallback"
        total = counts(tx, experiment_id).total
    same = ("experiment_id", "customer_id", "step", "turn", "arm", "template", "offer", "code", "unless", "zones")
    assert [first[name] for name in same] == [second[name] for name in same]
    assert (second["hop"], second["fallback"], second["state"], first["fallback"]) == (1, "push", "pending", "")
    assert total["planned"] == 6 == total["sent"] + total["failed"] + total["pending"]
    (claimed,) = take(ledger, now=NOW)
    assert (claimed.message_key, claimed.channel) == (f"{key}/email", "email")


def test_a_message_without_a_moment_left_is_followed_by_none(ledger: Ledger, experiment_id: str) -> None:
    key = f"{experiment_id}/c000000/1"
    fail(ledger, key)
    assert add_fallbacks(ledger, {key: None}, NOW) == 0
    with ledger.read() as tx:
        assert undelivered(tx, [experiment_id], []) == []
        assert message_history(tx, key)[-1]["reason"] == "too_late"


def test_however_many_workers_ask_at_once_one_message_follows(ledger: Ledger, experiment_id: str) -> None:
    keys = [f"{experiment_id}/c{n:06d}/1" for n in (0, 2, 4, 6)]
    fail(ledger, *keys)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: add_fallbacks(ledger, dict.fromkeys(keys, after("email")), NOW), range(8)))
    assert sum(made) == len(keys)
    with ledger.read() as tx:
        assert count_fallbacks(tx, experiment_id) == len(keys)


def test_what_arrived_in_the_meantime_is_not_followed_and_calls_off_who_waits(
    ledger: Ledger, experiment_id: str
) -> None:
    one, other = (f"{experiment_id}/c{n:06d}/1" for n in (0, 2))
    arrived = Settlement(message_key=one, state="delivered")
    settle(ledger, [arrived], NOW)
    assert add_fallbacks(ledger, {one: after("email"), other: after("email")}, NOW) == 1
    settle(ledger, [Settlement(message_key=other, state="delivered")], NOW)
    assert skip_arrived(ledger, [experiment_id], NOW) == 1
    assert take(ledger, now=NOW) == []
    with ledger.read() as tx:
        assert counts(tx, experiment_id).skipped == {"arrived": 1}


def test_the_database_itself_refuses_a_key_that_does_not_fit_turn_and_channel(
    ledger: Ledger, experiment_id: str
) -> None:
    with pytest.raises(LedgerError), ledger.begin() as tx:
        tx.execute(sa.update(schema.outbox).values(turn=2))
    with ledger.read() as tx:
        row = dict(tx.execute(sa.select(schema.outbox).limit(1)).mappings().one())
    with pytest.raises(LedgerError), ledger.begin() as tx:
        tx.execute(sa.insert(schema.outbox).values(row | {"message_key": f"{row['message_key']}/push", "hop": 1}))
