"""Tallies by arm: wishes and complaints within the window, costs, reach and contamination."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.outbox import Settlement, intend, settle
from warehouse.ledger.suppressions import release_suppression, suppress
from warehouse.ledger.tallies import ArmTally, tally

from .story import DAY, HOUR, T0, keys_of, record, send, start, take

NOW = T0 + HOUR
HORIZON = 30 * DAY


def test_wishes_count_from_assignment_to_horizon_once_a_customer(ledger: Ledger) -> None:
    wave = record(ledger, start(ledger))
    other = record(ledger, "winback:1", 3, first=20, at=T0 + DAY)
    wishes = [
        ("c000000", "stop", T0),
        ("c000000", "unsubscribe", T0 + DAY),
        ("c000003", "complaint", T0 + HORIZON - timedelta(microseconds=1)),
        ("c000006", "stop", T0 + HORIZON),
        ("c000001", "unsubscribe", T0 - timedelta(microseconds=1)),
        ("c000002", "stop", T0 + DAY),
        ("c000004", "bounce", T0 + DAY),
        ("c000020", "stop", T0 + 2 * DAY),
    ]
    for customer, reason, at in wishes:
        suppress(ledger, customer, "sms", reason, "test", at)
    release_suppression(ledger, "c000002", "sms", source="START", at=T0 + 2 * DAY)
    with ledger.read() as tx:
        found = tally(tx, wave.wave_id, horizon=HORIZON)
        second = tally(tx, other.wave_id, horizon=HORIZON)
    assert {arm: (t.assigned, t.unsubscribed, t.complained) for arm, t in found.items()} == {
        "control": (3, 1, 0),
        "offer": (3, 1, 1),
        "points": (3, 0, 0),
    }
    assert second["offer"].unsubscribed == 1
    both = found["offer"] + second["offer"]
    assert (both.assigned, both.unsubscribed, both.complained) == (4, 2, 1)


def test_costs_are_of_messages_that_left_and_zero_for_everybody_else(ledger: Ledger) -> None:
    wave = record(ledger, start(ledger))
    claimed = take(ledger, limit=4)
    intend(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW)
    by_customer = {message.customer_id: message.message_key for message in claimed}
    settle(
        ledger,
        [
            Settlement(message_key=by_customer["c000000"], state="sent", cost_micros=140_000),
            Settlement(message_key=by_customer["c000001"], state="delivered"),
            Settlement(message_key=by_customer["c000003"], state="failed", reason="30006"),
            Settlement(message_key=by_customer["c000004"], state="in_doubt"),
        ],
        NOW,
    )
    with ledger.read() as tx:
        found = tally(tx, wave.wave_id, horizon=HORIZON)
    assert found["offer"].costs == {0: 2, 140_000: 1}
    assert found["points"].costs == {0: 1, 50_000: 2}
    assert found["control"].costs == {0: 3}
    assert [found[arm].reached for arm in ("offer", "points", "control")] == [1, 1, 0]
    assert found["points"].cost_micros == 100_000


def test_moments_are_those_of_the_customers_themselves() -> None:
    one = ArmTally(assigned=7, unsubscribed=2, complained=1, costs={0: 3, 50_000: 3, 140_000: 1})
    costs = np.repeat([0.0, 0.05, 0.14], [3, 3, 1])
    moments = one.moments("message_cost")
    assert (moments.n, moments.columns) == (7, ("message_cost",))
    assert moments.mean("message_cost") == pytest.approx(costs.mean(), rel=1e-12)
    assert moments.var("message_cost") == pytest.approx(costs.var(ddof=1), rel=1e-12)
    assert moments.cubes[0] == pytest.approx(((costs - costs.mean()) ** 3).sum(), rel=1e-12)
    assert one.moments("unsubscribed").mean("unsubscribed") == pytest.approx(2 / 7)
    assert one.moments("complained").mean("complained") == pytest.approx(1 / 7)
    twice = one + one
    assert twice.moments("message_cost") == (moments + moments) or twice.moments("message_cost").var(
        "message_cost"
    ) == pytest.approx(np.tile(costs, 2).var(ddof=1), rel=1e-12)
    assert ArmTally().moments("message_cost").n == 0


def test_a_message_of_a_foreign_arm_is_contamination(sqlite_ledger: Ledger) -> None:
    wave = record(sqlite_ledger, start(sqlite_ledger))
    send(sqlite_ledger, take(sqlite_ledger))
    with sqlite_ledger.read() as tx:
        assert {t.contaminated for t in tally(tx, wave.wave_id, horizon=HORIZON).values()} == {0}
    with sqlite_ledger.begin() as tx:  # nothing of ours does this: only a hand in the database
        tx.execute(sa.text("DROP TRIGGER assignments_no_update"))
        tx.execute(sa.text("UPDATE assignments SET arm = 'control' WHERE customer_id = 'c000000'"))
        tx.execute(sa.text("UPDATE assignments SET arm = 'points' WHERE customer_id = 'c000003'"))
    with sqlite_ledger.read() as tx:
        found = tally(tx, wave.wave_id, horizon=HORIZON)
    assert {arm: t.contaminated for arm, t in found.items()} == {"control": 1, "offer": 0, "points": 1}


def test_an_unknown_wave_is_named(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no wave x@y"), ledger.read() as tx:
        tally(tx, "x@y", horizon=HORIZON)
