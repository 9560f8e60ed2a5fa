"""The order of a journey: what comes too soon after the message before it, and how long it must wait."""

from __future__ import annotations

from datetime import datetime

from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import move, skip
from warehouse.ledger.sequence import Gaps, too_soon

from .story import DAY, HOUR, T0, record, send, start, take

DUE = T0 + 4 * DAY + HOUR


def waits(ledger: Ledger, gaps: Gaps, until: datetime, *, after: datetime | None = None) -> dict[str, datetime]:
    return {message.message_key: at for message, at in too_soon(ledger, gaps, after=after, until=until)}


def test_a_message_waits_its_delay_after_one_that_waits_itself(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 3, closes_at=T0 + 9 * DAY)
    gaps = {(experiment_id, "points", 2, False): 3 * DAY}
    reminder = f"{experiment_id}/c000001/2"
    assert waits(ledger, gaps, DUE) == {reminder: DUE + 3 * DAY}
    assert waits(ledger, gaps, DUE, after=DUE) == {}
    skip(ledger, {f"{experiment_id}/c000001/1": "purchased"}, DUE)
    assert waits(ledger, gaps, DUE) == {}


def test_a_message_counts_from_the_moment_to_which_the_one_before_was_put_off(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 3, closes_at=T0 + 9 * DAY)
    gaps = {(experiment_id, "points", 2, False): 3 * DAY}
    sent_at = T0 + 2 * DAY
    move(ledger, {f"{experiment_id}/c000001/1": (sent_at, sent_at + 8 * HOUR)}, sent_at)
    send(ledger, take(ledger, now=sent_at), now=sent_at)
    assert waits(ledger, gaps, DUE) == {f"{experiment_id}/c000001/2": sent_at + 3 * DAY}
    assert waits(ledger, gaps, sent_at + 3 * DAY) == {}
