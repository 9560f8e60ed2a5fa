"""Whom messages and links belong to, and messages in doubt as they had been claimed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from warehouse.ledger.addressees import customer_of_link, customers_of_messages, number_links
from warehouse.ledger.doubts import doubts
from warehouse.ledger.engine import Ledger
from warehouse.ledger.outbox import intend, sweep

from .story import HOUR, MINUTE, T0, keys_of, record, start, take


def test_every_customer_has_one_number_for_ever(ledger: Ledger) -> None:
    first = number_links(ledger, ["b", "a", "b"])
    again = number_links(ledger, ["a", "c"])
    assert again["a"] == first["a"]
    assert len({*first.values(), *again.values()}) == 3
    with ledger.read() as tx:
        assert [customer_of_link(tx, first[name]) for name in "ab"] == ["a", "b"]
        assert customer_of_link(tx, 10**12) is None


def test_numbering_at_the_same_time_gives_the_same_numbers(ledger: Ledger) -> None:
    names = [f"c{number}" for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda turn: number_links(ledger, names[turn:] + names[:turn]), range(4)))
    assert all(numbers == given[0] for numbers in given)
    assert len(set(given[0].values())) == 40


def test_messages_name_their_customers_and_unknown_keys_none(ledger: Ledger) -> None:
    record(ledger, start(ledger))
    with ledger.read() as tx:
        found = customers_of_messages(tx, ["winback:1/c000000/1", "winback:1/nobody/1", "x"])
    assert found == {"winback:1/c000000/1": "c000000"}


def test_a_message_in_doubt_comes_back_as_it_was_claimed(ledger: Ledger) -> None:
    record(ledger, start(ledger))
    claimed = take(ledger, channels=["sms"], limit=2)
    intend(ledger, keys_of(claimed), "w1", claimed[0].fence, T0 + HOUR)
    sweep(ledger, T0 + 2 * HOUR)
    with ledger.read() as tx:
        found = doubts(tx, channel="sms", since_before=T0 + 2 * HOUR + MINUTE)
        early = doubts(tx, channel="sms", since_before=T0 + 2 * HOUR)
        other = doubts(tx, channel="email", since_before=T0 + 9 * HOUR)
    assert (early, other) == ([], [])
    assert [doubt.intent_at for doubt in found] == [T0 + HOUR] * 2
    for doubt, message in zip(found, sorted(claimed, key=lambda m: m.message_key), strict=True):
        assert doubt.message.message_key == message.message_key
        assert doubt.message.assigned_at == message.assigned_at
        assert (doubt.message.template, doubt.message.zones) == (message.template, message.zones)
        assert doubt.message.attempts == 1
