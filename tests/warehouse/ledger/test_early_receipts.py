"""Receipts that name a message by an id the ledger does not know yet: kept once, while something may be theirs."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.early_receipts import (
    EarlyReceipt,
    awaits_answers,
    early_receipts,
    forget_early,
    keep_early,
)
from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import Settlement, intend, settle

from .story import HOUR, MINUTE, T0, record, start, take

NOW = T0 + HOUR


def early(name: str, *, minutes: int = 0) -> EarlyReceipt:
    told = ("twilio", name, "undelivered", "failed", "undelivered", "30005", "bounce")
    return EarlyReceipt(f"twilio:{name}:undelivered", *told, NOW + minutes * MINUTE)


def test_something_may_be_early_only_while_an_sms_waits_for_its_answer(ledger: Ledger) -> None:
    def awaits() -> bool:
        with ledger.read() as tx:
            return awaits_answers(tx)

    record(ledger, start(ledger), 1, arms=("offer",))
    record(ledger, start(ledger, "digest"), 1, arms=("offer",), channel="email")
    (mail,) = take(ledger, channels=("email",))
    intend(ledger, [mail.message_key], "w1", mail.fence, NOW)
    (text,) = take(ledger, channels=("sms",))
    assert not awaits()
    intend(ledger, [text.message_key], "w1", text.fence, NOW)
    assert awaits()
    settle(ledger, [Settlement(message_key=text.message_key, state="in_doubt", reason="x", fence=text.fence)], NOW)
    assert awaits()
    settle(ledger, [Settlement(message_key=text.message_key, state="sent", provider_id="SM1")], NOW)
    assert not awaits()


def test_an_early_receipt_is_kept_once_in_the_order_of_arrival_until_it_is_taken_or_too_old(ledger: Ledger) -> None:
    first, second, third = early("SM2"), early("SM1", minutes=1), early("SM3", minutes=2)
    keep_early(ledger, [])
    keep_early(ledger, [second, first])
    keep_early(ledger, [first, third, first])
    with ledger.read() as tx:
        assert early_receipts(tx) == [first, second, third]
    forget_early(ledger, [second.event_key], before=NOW)
    with ledger.read() as tx:
        assert early_receipts(tx) == [first, third]
    forget_early(ledger, [], before=NOW + MINUTE)
    with ledger.read() as tx:
        assert early_receipts(tx) == [third]


def test_the_question_whether_something_may_be_early_reads_no_more_than_what_is_under_way(
    sqlite_ledger: Ledger,
) -> None:
    asked: list[str] = []
    with sqlite_ledger.read() as tx:
        sa.event.listen(tx, "before_cursor_execute", lambda *told: asked.append(told[2]))
        awaits_answers(tx)
        (query,) = asked
        plan = [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    scans = sorted(line for line in plan if "outbox" in line)
    assert scans == ["SCAN outbox USING INDEX outbox_in_doubt", "SCAN outbox USING INDEX outbox_leased"]
