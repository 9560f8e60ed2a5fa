"""Exits: the conditions a message names, checked in the claim's own transaction."""

from __future__ import annotations

import pytest

from warehouse.ledger.engine import Ledger
from warehouse.ledger.exits import conditionals_of, due_conditionals, is_awaited, record_exits
from warehouse.ledger.outbox import counts, release, skip

from .story import HOUR, MINUTE, T0, keys_of, record, send, start, take

NOW = T0 + 2 * HOUR
SEVERAL = "purchased\ncountry in ('GB', '100% _x')\nuntil not open_complaint"


@pytest.mark.parametrize("reason", SEVERAL.split("\n"))
def test_any_of_the_reasons_a_message_names_keeps_it_back_and_is_said(ledger: Ledger, reason: str) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 6, unless=SEVERAL)
    held = take(ledger, now=NOW)
    # recorded while a worker held everything: the claim after that must see it
    assert record_exits(ledger, experiment_id, ["c000000", "c000003"], reason=reason, at=NOW) == 0
    release(ledger, keys_of(held), "w1", held[0].fence, NOW)
    assert {m.customer_id for m in take(ledger, now=NOW + MINUTE, worker="w2")} == {"c000001", "c000004"}
    with ledger.read() as tx:
        assert counts(tx, experiment_id).skipped == {reason: 2}


@pytest.mark.parametrize("other", ["purchase", "purchased ", "PURCHASED", "country in ('GB', '100x _x')", "until"])
def test_a_reason_that_only_looks_alike_keeps_nothing_back(ledger: Ledger, other: str) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 3, unless=SEVERAL)
    assert record_exits(ledger, experiment_id, ["c000000", "c000001"], reason=other, at=NOW) == 0
    assert len(take(ledger, now=NOW)) == 2


def test_messages_with_conditions_are_listed_once_they_are_due(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 9, unless="purchased")
    record(ledger, experiment_id, 9, first=9, at=T0 + MINUTE)

    def due(after: object, until: object) -> list[str]:
        parts = due_conditionals(ledger, after=after, until=until, experiments=[experiment_id], rows=2)  # type: ignore[arg-type]  # instants
        return [message.customer_id for part in parts for message in part]

    assert sorted(due(None, NOW)) == ["c000000", "c000001", "c000003", "c000004", "c000006", "c000007"]
    assert due(NOW, NOW + HOUR) == []
    skip(ledger, {f"{experiment_id}/c000000/1": "test"}, NOW)
    assert len(due(None, NOW)) == 5
    (first, *_) = next(due_conditionals(ledger, after=None, until=NOW, experiments=[experiment_id]))
    assert (first.unless, first.assigned_at) == ("purchased", T0)


def test_a_reply_counts_only_where_the_customer_was_written_to(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 9, unless="replied")
    everybody = [f"c{n:06d}" for n in range(9)]
    with ledger.read() as tx:
        assert is_awaited(tx, "replied")
        assert not is_awaited(tx, "purchased")
        assert conditionals_of(tx, everybody, "replied", written_by="sms") == {}
    send(ledger, take(ledger, now=NOW, limit=2), now=NOW)
    with ledger.read() as tx:
        found = conditionals_of(tx, everybody, "replied", written_by="sms")
        assert {experiment: len(members) for experiment, members in found.items()} == {experiment_id: 2}
        assert conditionals_of(tx, everybody, "replied", written_by="email") == {}
