"""What claimed messages really cost counts against their budget before anybody intends to send them."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import Cost, release
from warehouse.ledger.prices import price

from .story import HOUR, T0, keys_of, record, start, take

NOW = T0 + HOUR
DEARER = Cost(3, 150_000)


def spent(ledger: Ledger) -> int:
    with ledger.read() as tx:
        return int(tx.execute(sa.text("SELECT cost_micros FROM budgets")).scalar_one())


def test_a_price_counts_at_once_and_goes_back_with_its_message(ledger: Ledger) -> None:
    record(ledger, start(ledger))
    claimed = take(ledger, channels=("sms",))
    before, keys = spent(ledger), keys_of(claimed)
    used = price(ledger, dict.fromkeys(keys[:2], DEARER), "w1", claimed[0].fence)
    assert used == {claimed[0].campaign: spent(ledger)}
    assert spent(ledger) == before + 2 * (150_000 - claimed[0].cost_micros)
    release(ledger, keys, "w1", claimed[0].fence, NOW)
    assert spent(ledger) == 0
    again = {message.message_key: message.cost_micros for message in take(ledger, channels=("sms",))}
    assert [again[key] for key in keys[:2]] == [150_000, 150_000]


def test_nobody_prices_what_another_has_claimed(ledger: Ledger) -> None:
    record(ledger, start(ledger))
    claimed = take(ledger, channels=("sms",))
    before = spent(ledger)
    costs = dict.fromkeys(keys_of(claimed), DEARER)
    assert price(ledger, costs, "w2", claimed[0].fence) == {}
    assert price(ledger, costs, "w1", claimed[0].fence + 1) == {}
    assert spent(ledger) == before
