"""The short way for the news that nearly every message has leaves what the long way leaves."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import sqlalchemy as sa

from warehouse.ledger import dialect, outbox
from warehouse.ledger.acceptances import accept, part
from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import Settlement, intend, settle

from .story import HOUR, MINUTE, T0, keys_of, record, start, take

NOW = T0 + HOUR + MINUTE


def sending(ledger: Ledger) -> tuple[list[str], int]:
    """Two experiments' messages, intended under one fence; their keys, and the fence."""
    for campaign in ("winback", "welcome"):
        record(ledger, start(ledger, campaign), 30)
    claimed = take(ledger, limit=24)
    keys = keys_of(claimed)
    return intend(ledger, keys, "w1", claimed[0].fence, T0 + HOUR), claimed[0].fence


def news(keys: list[str], fence: int) -> list[Settlement]:
    """Acceptances that know much, little, and odd texts."""
    told = [
        Settlement(message_key=key, state="sent", provider="local", provider_id=f'"{n}"\\{{,', fence=fence)
        for n, key in enumerate(keys[:8])
    ]
    told += [
        Settlement(message_key=key, state="sent", provider="sms", segments=2, cost_micros=90_000 + n, fence=fence)
        for n, key in enumerate(keys[8:16])
    ]
    return told + [Settlement(message_key=key, state="sent", provider_code="NULL", fence=fence) for key in keys[16:]]


def test_the_short_way_and_the_long_way_leave_the_same(ledger: Ledger) -> None:
    keys, fence = sending(ledger)
    short, long = (_left_by(ledger, way, news(keys, fence)) for way in (accept, outbox._settle_each))
    assert short == long
    assert {row[0] for row in short[1]} == set(keys)


class _Back(Exception):  # noqa: N818 (no error)
    """Takes a transaction back."""


def _left_by(ledger: Ledger, way: Any, told: list[Settlement]) -> list[list[Any]]:
    """What the tables hold after news taken in one way; nothing of it stays."""
    with contextlib.suppress(_Back), ledger.begin() as tx:
        way(tx, told, NOW)
        found = _tables(tx)
        raise _Back
    return found


def _tables(tx: sa.Connection) -> list[list[Any]]:
    events = (
        "message_key, at, event, state, applied, attempt, began_at, worker, reason, provider, provider_id, "
        "provider_code, event_key"
    )
    return [
        [tuple(row) for row in tx.execute(sa.text(sql))]
        for sql in (
            "SELECT * FROM outbox ORDER BY message_key",
            f"SELECT {events} FROM message_events ORDER BY message_key",
            "SELECT * FROM budgets ORDER BY campaign",
        )
    ]


def test_an_acceptance_that_a_receipt_overtook_is_decided_by_itself_and_the_others_are_taken(ledger: Ledger) -> None:
    keys, fence = sending(ledger)
    settle(ledger, [Settlement(message_key=keys[0], state="delivered")], NOW)
    settled = settle(ledger, news(keys, fence), NOW)
    assert settled.applied == 23
    assert settled.ignored == (keys[0],)
    with ledger.read() as tx:
        settled_rows = tx.execute(sa.text("SELECT message_key, state FROM outbox WHERE settled_at IS NOT NULL"))
        states = {row.message_key: row.state for row in settled_rows}
    assert states == {key: "delivered" if key == keys[0] else "sent" for key in keys}


def test_news_under_another_fence_of_a_message_named_twice_or_with_more_to_say_goes_the_long_way() -> None:
    plain = Settlement(message_key="a", state="sent", fence=1)
    others = [
        Settlement(message_key="b", state="sent", fence=2),
        Settlement(message_key="c", state="sent"),
        Settlement(message_key="d", state="failed", reason="refused", fence=1),
        Settlement(message_key="e", state="sent", fence=1),
        Settlement(message_key="e", state="delivered"),
        Settlement(message_key="f", state="sent", fence=1, event_key="x"),
        Settlement(message_key="g", state="sent", fence=1, at=NOW),
    ]
    assert part([plain, *others]) == ([plain], others)


@pytest.mark.postgres
def test_an_array_written_as_text_is_read_as_it_was(postgres_ledger: Ledger) -> None:
    for values in (
        [],
        ["a"],
        ["a,b", '"', "\\", "{}", "NULL", "", " x ", "ü🦊"],
        ["x", None, "NULL"],
        [None],
        ["\n", "\t"],
        ["'", "%s"],
    ):
        with postgres_ledger.read() as tx:
            sql = "SELECT %s::text[]"
            assert tx.exec_driver_sql(sql, (dialect.array_text(values),)).scalar() == values
