"""The outbox's verbs: what is claimed, intended, settled, swept and moved, and what is refused."""

from __future__ import annotations

from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import Settlement, counts, intend, settle, sweep

from .story import DAY, HOUR, T0, record, start, take


def test_a_message_goes_from_pending_over_claimed_and_sending_to_sent(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    claimed = take(ledger)
    assert len(claimed) == 6
    assert take(ledger, worker="w2") == []
    now = T0 + HOUR
    keys = [message.message_key for message in claimed]
    assert intend(ledger, keys, "w1", claimed[0].fence, now) == keys
    done = settle(ledger, [Settlement(message_key=key, state="sent", provider="local") for key in keys], now)
    assert (done.applied, done.ignored) == (6, ())
    with ledger.read() as tx:
        total = counts(tx, experiment_id).total
    assert total == {"planned": 9, "sent": 6, "failed": 0, "skipped": 0, "in_doubt": 0, "pending": 3}


def test_a_sweep_after_a_crash_gives_claims_back_and_doubts_intents(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    claimed = take(ledger)
    intend(ledger, [claimed[0].message_key], "w1", claimed[0].fence, T0 + HOUR)
    swept = sweep(ledger, T0 + 2 * HOUR)
    assert (swept.released, swept.in_doubt, swept.expired) == (5, 1, 0)
    assert sweep(ledger, T0 + 20 * DAY).expired == 8
