"""Erasing a customer from the ledger: nothing names the customer any more, and every count stays what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from warehouse.ledger.address_suppressions import AddressSuppression, erased_macs, suppressed_macs
from warehouse.ledger.addressees import number_links
from warehouse.ledger.audit import audit_log, record_audit
from warehouse.ledger.consents import Statement, record_consents
from warehouse.ledger.counts import counts
from warehouse.ledger.engine import Ledger
from warehouse.ledger.erasures import ErasureRequest, erase_from_ledger, personal_tables
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.exits import record_exits
from warehouse.ledger.outbox import Settlement, intend, release, settle, skip
from warehouse.ledger.schema_parts import metadata
from warehouse.ledger.suppressions import suppress
from warehouse.ledger.tallies import tally
from warehouse.ledger.waves import waves

from .story import DAY, HOUR, T0, keys_of, record, send, start, take

WHO = "c000001"
NAME = "erased-" + "0" * 24


def request_of(customer_id: str = WHO, **changes: Any) -> ErasureRequest:
    """The erasure of a customer who has one phone number."""
    given: dict[str, Any] = {
        "customer_id": customer_id,
        "pseudonym": NAME,
        "customer_mac": "m" * 40,
        "key_id": "k" * 8,
        "actor": "ann",
        "at": T0 + 2 * HOUR,
        "addresses": [AddressSuppression(("a" * 40,), ("k" * 8,), "sms", "erased", "ann", T0 + 2 * HOUR)],
    }
    return ErasureRequest(**given | changes)


def live(ledger: Ledger) -> str:
    """A customer with a past in every table: messages sent and waiting, wishes, consents, a link, a line in the log."""
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    send(ledger, take(ledger))
    suppress(ledger, WHO, "email", "stop", "test", T0 + HOUR)
    record_consents(ledger, [Statement(WHO, "sms", True, T0, "form", "v1")])
    record_exits(ledger, experiment_id, [WHO], reason="purchased", at=T0 + HOUR)
    number_links(ledger, [WHO])
    with ledger.begin() as tx:
        record_audit(tx, at=T0, actor="ann", action="suppress", subject=WHO, detail={"channel": "email"})
        record_audit(tx, at=T0, actor="ann", action="resolve", subject=f"{experiment_id}/{WHO}/1")
    return experiment_id


def everything(ledger: Ledger) -> str:
    """Every value of every table as one text."""
    with ledger.read() as tx:
        return "\n".join(str(tuple(row)) for table in metadata.sorted_tables for row in tx.execute(sa.select(table)))


def test_after_an_erasure_no_row_names_the_customer_and_all_counts_stay(ledger: Ledger) -> None:
    experiment_id = live(ledger)
    with ledger.read() as tx:
        before = counts(tx, experiment_id), tally(tx, waves(tx, experiment_id)[0].wave_id, horizon=30 * DAY)
    assert WHO in everything(ledger)
    done = erase_from_ledger(ledger, request_of())
    assert (done.skipped, done.addresses, done.was_erased) == (1, 1, False)
    assert done.renamed > 5
    text = everything(ledger)
    assert WHO not in text
    assert NAME in text
    with ledger.read() as tx:
        after = counts(tx, experiment_id), tally(tx, waves(tx, experiment_id)[0].wave_id, horizon=30 * DAY)
        assert erased_macs(tx) == {"m" * 40}
        assert suppressed_macs(tx, "sms") == {"a" * 40}
        assert audit_log(tx, limit=1)[0].subject == NAME
    assert after[1] == before[1]
    assert after[0].total["planned"] == before[0].total["planned"]
    assert after[0].total["sent"] == before[0].total["sent"]


def test_not_even_the_bytes_of_the_file_name_the_erased_customer(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    live(sqlite_ledger)
    erase_from_ledger(sqlite_ledger, request_of())
    for path in tmp_path.glob("ledger.db*"):
        assert WHO.encode() not in path.read_bytes(), path.name


def test_erasing_again_does_only_what_is_left_to_do(ledger: Ledger) -> None:
    live(ledger)
    erase_from_ledger(ledger, request_of())
    first = everything(ledger)
    again = erase_from_ledger(ledger, request_of())
    assert (again.skipped, again.addresses, again.was_erased) == (0, 0, True)
    assert len(everything(ledger)) > len(first)  # the second erasure is in the log, too
    assert WHO not in everything(ledger)


def test_pending_messages_of_the_erased_are_skipped_with_that_reason(ledger: Ledger) -> None:
    live(ledger)
    erase_from_ledger(ledger, request_of())
    with ledger.read() as tx:
        rows = tx.execute(
            sa.text("SELECT state, reason FROM outbox WHERE customer_id = :who ORDER BY step"), {"who": NAME}
        ).all()
    assert [tuple(row) for row in rows] == [("sent", None), ("skipped", "erased")]


def test_a_message_that_is_just_leaving_holds_the_erasure_up_but_not_the_suppression(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    claimed = [message for message in take(ledger) if message.customer_id == WHO]
    intend(ledger, keys_of(claimed), "w1", claimed[0].fence, T0 + HOUR)
    with pytest.raises(LedgerError, match="leaving at this moment"):
        erase_from_ledger(ledger, request_of())
    assert take(ledger, now=T0 + 4 * DAY) == [] or WHO not in {
        m.customer_id for m in take(ledger, now=T0 + 4 * DAY + HOUR)
    }
    fence = claimed[0].fence
    settle(ledger, [Settlement(message_key=key, state="sent", fence=fence) for key in keys_of(claimed)], T0 + HOUR)
    erase_from_ledger(ledger, request_of())
    assert WHO not in everything(ledger)


def test_a_worker_that_held_a_message_of_the_erased_goes_on_with_the_others(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    claimed = take(ledger)
    fence, keys = claimed[0].fence, keys_of(claimed)
    gone = next(key for key in keys if WHO in key)
    erase_from_ledger(ledger, request_of())
    allowed = intend(ledger, keys, "w1", fence, T0 + HOUR)
    assert set(allowed) == set(keys) - {gone}
    assert release(ledger, [gone], "w1", fence, T0 + HOUR) == 0
    assert skip(ledger, {gone: "no_address"}, T0 + HOUR, worker="w1", fence=fence) == 0
    news = [Settlement(message_key=key, state="sent", fence=fence) for key in keys]
    settled = settle(ledger, news, T0 + HOUR)
    assert (settled.applied, settled.ignored) == (len(keys) - 1, (gone,))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE assignments SET customer_id = 'somebody-else' WHERE customer_id = :who",
        "UPDATE assignments SET customer_id = :name, arm = 'control' WHERE customer_id = :who",
        "UPDATE exits SET customer_id = 'somebody-else' WHERE customer_id = :who",
        "UPDATE suppressions SET customer_id = 'somebody-else' WHERE customer_id = :who",
        "UPDATE consents SET customer_id = 'somebody-else' WHERE customer_id = :who",
        "UPDATE consents SET customer_id = :name, given = NOT given WHERE customer_id = :who",
        "UPDATE outbox SET customer_id = 'x', message_key = experiment_id || '/x/' || step WHERE customer_id = :who",
        "UPDATE message_events SET message_key = 'winback:1/c000000/1' WHERE message_key = 'winback:1/c000001/1'",
        "UPDATE audit SET subject = 'somebody-else' WHERE subject = :who",
        "UPDATE audit SET subject = :name, actor = 'nobody' WHERE subject = :who",
    ],
)
def test_the_guards_let_through_an_erasure_and_nothing_else(ledger: Ledger, statement: str) -> None:
    live(ledger)
    erase_from_ledger(ledger, request_of("c000008", pseudonym="erased-" + "1" * 24, customer_mac="n" * 40))
    values = {key: value for key, value in (("who", WHO), ("name", NAME)) if f":{key}" in statement}
    with pytest.raises(LedgerError, match="refused"), ledger.begin() as tx:
        tx.execute(sa.text(statement), values)


def test_a_pseudonym_is_final(ledger: Ledger) -> None:
    live(ledger)
    erase_from_ledger(ledger, request_of())
    erase_from_ledger(ledger, request_of("c000004", pseudonym="erased-" + "1" * 24, customer_mac="n" * 40))
    with pytest.raises(LedgerError, match="append-only"), ledger.begin() as tx:
        tx.execute(sa.text(f"UPDATE consents SET customer_id = 'erased-{'1' * 24}' WHERE customer_id = '{NAME}'"))


def test_every_reference_to_a_customer_or_a_message_can_follow_an_erasure() -> None:
    for table in personal_tables():
        for key in table.foreign_keys:
            if key.column.name in ("customer_id", "message_key"):
                assert key.constraint is not None
                assert key.constraint.deferrable or key.onupdate == "CASCADE", f"{table.name}.{key.parent.name}"
