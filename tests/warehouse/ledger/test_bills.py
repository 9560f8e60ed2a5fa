"""What a message costs and who carries it is known from the intent on, whoever learns its fate."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import Bill, Cost, Settlement, intend, settle, sweep

from .story import HOUR, MINUTE, T0, keys_of, record, start, take

NOW = T0 + HOUR


def intended(ledger: Ledger) -> list[str]:
    """Six SMS about to go to Twilio, two segments each; they were planned to cost 50,000."""
    record(ledger, start(ledger))
    claimed = take(ledger, channels=("sms",))
    bill = Bill("sms_twilio", {key: Cost(2, 90_000) for key in keys_of(claimed)})
    return intend(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW, bill=bill)


def spent(ledger: Ledger) -> tuple[int, int]:
    with ledger.read() as tx:
        messages, cost = tx.execute(sa.text("SELECT messages, cost_micros FROM budgets")).one()
        return messages, cost


def test_a_message_settled_by_its_receipt_alone_carries_segments_cost_and_provider(ledger: Ledger) -> None:
    keys = intended(ledger)
    assert len(keys) == 6
    assert spent(ledger) == (6, 6 * 90_000)
    settle(ledger, [Settlement(message_key=keys[0], state="delivered", event_key="e1")], NOW)
    with ledger.read() as tx:
        row = tx.execute(
            sa.text("SELECT provider, segments, cost_micros, state FROM outbox WHERE message_key = :key"),
            {"key": keys[0]},
        ).one()
    assert tuple(row) == ("sms_twilio", 2, 90_000, "delivered")
    assert spent(ledger) == (6, 6 * 90_000)


def test_a_doubt_left_by_a_dead_worker_names_the_provider_that_may_have_it(ledger: Ledger) -> None:
    keys = intended(ledger)
    assert sweep(ledger, NOW + HOUR).in_doubt == len(keys)
    with ledger.read() as tx:
        rows = tx.execute(sa.text("SELECT provider FROM outbox WHERE state = 'in_doubt'")).scalars().all()
        told = tx.execute(sa.text("SELECT provider FROM message_events WHERE event = 'lease_ended'")).scalars().all()
    assert rows == told == ["sms_twilio"] * len(keys)
    assert spent(ledger) == (6, 6 * 90_000)


def test_what_was_surely_not_taken_gives_its_cost_back(ledger: Ledger) -> None:
    keys = intended(ledger)
    settle(ledger, [Settlement(message_key=key, state="failed", reason="refused") for key in keys], NOW + MINUTE)
    assert spent(ledger) == (0, 0)
