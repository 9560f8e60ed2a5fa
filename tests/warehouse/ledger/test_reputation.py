"""How messages fare: counted by the slot in which they left, each trouble once; a paused channel is claimed no more."""

from __future__ import annotations

import pytest

from tests.warehouse.ledger.story import HOUR, MINUTE, T0, keys_of, record, send, start, states, take
from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import intend
from warehouse.ledger.reputation import count_sent, count_troubles, tallies
from warehouse.ledger.switches import is_stopped, pause, resume

NOW = T0 + HOUR


def listed(ledger: Ledger) -> list[tuple[str, str, int, int, int]]:
    with ledger.read() as tx:
        return [(t.campaign, t.channel, t.sent, t.bounced, t.complained) for t in tallies(tx, since=T0)]


def test_a_trouble_counts_once_and_in_the_slot_in_which_its_message_left(ledger: Ledger) -> None:
    record(ledger, start(ledger))
    claimed = take(ledger)
    send(ledger, claimed)
    count_sent(ledger, [(message.campaign, message.channel) for message in claimed], at=NOW)
    key = keys_of(claimed)[0]
    later = NOW + 30 * HOUR
    assert count_troubles(ledger, [(key, "complaint"), (key, "complaint")], at=later) == 1
    assert count_troubles(ledger, [(key, "complaint"), (key, "bounce")], at=later + HOUR) == 1
    assert count_troubles(ledger, [("winback:1/nobody/1", "bounce")], at=later) == 0
    with ledger.read() as tx:
        (tally,) = tallies(tx, since=T0)
    assert (tally.slot_at, tally.sent, tally.bounced, tally.complained) == (NOW, len(claimed), 1, 1)


def test_counts_of_many_workers_add_up(ledger: Ledger) -> None:
    for minute in range(25):
        count_sent(ledger, [("a", "sms"), ("a", "email"), ("a", "sms")], at=NOW + minute * MINUTE)
    assert listed(ledger) == [("a", "email", n, 0, 0) for n in (10, 10, 5)] + [
        ("a", "sms", n, 0, 0) for n in (20, 20, 10)
    ]


@pytest.mark.parametrize("scope", ["winback/sms", "*/sms"])
def test_a_paused_channel_is_not_claimed_and_what_was_claimed_is_not_sent(ledger: Ledger, scope: str) -> None:
    record(ledger, start(ledger), at=T0)
    early = take(ledger, limit=2)
    assert {message.channel for message in early} == {"sms"}
    pause(ledger, scope, by="me", reason="test", at=NOW)
    assert intend(ledger, keys_of(early), "w1", early[0].fence, NOW) == []
    assert take(ledger, worker="w2") == []
    mails = take(ledger, worker="w2", now=T0 + 97 * HOUR)
    assert {message.channel for message in mails} == {"email"}
    assert len(intend(ledger, keys_of(mails), "w2", mails[0].fence, T0 + 97 * HOUR)) == len(mails) > 0
    resume(ledger, scope, by="me", reason="test", at=NOW)
    assert take(ledger, worker="w3") != []
    assert states(ledger)["sending"] == len(mails)


def test_a_channel_of_one_campaign_is_no_other_campaigns() -> None:
    assert is_stopped({"a/sms"}, "a", "sms")
    assert is_stopped({"*/sms"}, "a", "sms")
    assert not is_stopped({"a/sms", "*/email", "b"}, "a", "push")
    assert not is_stopped({"a/sms"}, "ab", "sms")
