"""Suppressions: kept for ever, released at most once each, read by channel."""

from __future__ import annotations

import pytest

from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.suppressions import (
    Suppression,
    release_suppression,
    suppress,
    suppress_many,
    suppressed,
    suppressions_of,
)

from .story import DAY, T0


def test_a_wish_told_twice_is_kept_once_and_another_reason_beside_it(ledger: Ledger) -> None:
    assert suppress(ledger, "c1", "sms", "stop", "inbound", T0)
    assert not suppress(ledger, "c1", "sms", "stop", "inbound", T0 + DAY)
    assert suppress(ledger, "c1", "sms", "complaint", "inbound", T0 + DAY)
    with ledger.read() as tx:
        assert [(row["reason"], row["at"]) for row in suppressions_of(tx, "c1")] == [
            ("stop", T0),
            ("complaint", T0 + DAY),
        ]


def test_a_wish_for_all_channels_holds_for_each(ledger: Ledger) -> None:
    wishes = [
        Suppression("c1", "sms", "stop", "inbound", T0),
        Suppression("c2", "all", "manual", "desk", T0),
        Suppression("c3", "email", "unsubscribe", "page", T0),
        Suppression("c3", "email", "unsubscribe", "page", T0),
    ]
    assert suppress_many(ledger, wishes) == 3
    with ledger.read() as tx:
        assert suppressed(tx, "sms") == {"c1", "c2"}
        assert suppressed(tx, "email") == {"c2", "c3"}
        assert suppressed(tx, "push") == {"c2"}


def test_a_release_leaves_the_row_and_a_new_wish_makes_a_new_one(ledger: Ledger) -> None:
    suppress(ledger, "c1", "sms", "stop", "inbound", T0)
    suppress(ledger, "c1", "sms", "bounce", "receipt", T0)
    assert release_suppression(ledger, "c1", "sms", source="START", at=T0 + DAY, reason="stop") == 1
    with ledger.read() as tx:
        assert suppressed(tx, "sms") == {"c1"}
    assert release_suppression(ledger, "c1", "sms", source="desk", at=T0 + DAY) == 1
    assert release_suppression(ledger, "c1", "sms", source="desk", at=T0 + DAY) == 0
    assert suppress(ledger, "c1", "sms", "stop", "inbound", T0 + 2 * DAY)
    with ledger.read() as tx:
        rows = suppressions_of(tx, "c1")
    assert [(row["reason"], row["released_at"], row["release_source"]) for row in rows] == [
        ("stop", T0 + DAY, "START"),
        ("bounce", T0 + DAY, "desk"),
        ("stop", None, None),
    ]


@pytest.mark.parametrize(("channel", "reason"), [("fax", "stop"), ("sms", "boredom")])
def test_unknown_channels_and_reasons_are_refused(ledger: Ledger, channel: str, reason: str) -> None:
    with pytest.raises(LedgerError, match="refused"):
        suppress(ledger, "c1", channel, reason, "test", T0)
