"""Opens and clicks by hour, and the places of messages: what timing reads from the ledger."""

from __future__ import annotations

from datetime import datetime, timedelta

from warehouse.ledger.engagement import engagement_hours
from warehouse.ledger.engine import Ledger
from warehouse.ledger.history import message_history
from warehouse.ledger.outbox import Settlement, settle
from warehouse.ledger.places import places_of
from warehouse.ledger.waves import find_wave, record_wave, wave_batches

from .story import DAY, HOUR, T0, cohort, start, wave_of


def told(key: str, event: str, at: datetime, number: int) -> Settlement:
    return Settlement(message_key=key, state="delivered", event=event, event_key=f"{key}-{event}-{number}", at=at)


def recorded(ledger: Ledger, n: int = 6) -> str:
    experiment = start(ledger)
    people, messages = cohort(n)
    wave = wave_of(experiment, people)
    record_wave(ledger, wave, wave_batches(people, messages.assign(place=["FR", "US-TX"] * (len(messages) // 2))))
    return experiment


def test_opens_and_clicks_are_counted_by_customer_and_hour_and_other_news_is_not(ledger: Ledger) -> None:
    experiment = recorded(ledger)
    text, mail = f"{experiment}/c000000/1", f"{experiment}/c000001/2"
    late = T0.replace(hour=21, minute=59)
    news = [
        told(mail, "open", late, 1),
        told(mail, "open", late + DAY, 2),
        told(mail, "open", late + DAY, 2),  # the same event again
        told(mail, "click", late + timedelta(minutes=1), 3),
        told(mail, "machine_open", T0, 4),
        told(text, "click", T0, 5),
        Settlement(message_key=text, state="delivered", event_key="d", at=T0),
    ]
    settle(ledger, news, T0 + 2 * DAY)
    with ledger.read() as tx:
        assert engagement_hours(tx, "email", since=T0, until=T0 + 9 * DAY) == [
            ("c000001", "click", 22, 1),
            ("c000001", "open", 21, 2),
        ]
        assert engagement_hours(tx, "sms", since=T0, until=T0 + DAY) == [("c000000", "click", 9, 1)]
        assert engagement_hours(tx, "email", since=late + HOUR, until=late + 2 * DAY) == [("c000001", "open", 21, 1)]
        assert engagement_hours(tx, "push", since=T0, until=T0 + DAY) == []
        assert [line["event"] for line in message_history(tx, text)] == ["click", "delivered"]


def test_an_open_before_the_delivery_leaves_the_message_as_the_other_order_does(ledger: Ledger) -> None:
    experiment = recorded(ledger)
    first, second = f"{experiment}/c000000/1", f"{experiment}/c000001/1"
    for key, order in ((first, (1, 2)), (second, (2, 1))):
        news = {1: told(key, "open", T0, 1), 2: Settlement(message_key=key, state="delivered", event_key=key, at=T0)}
        settle(ledger, [news[number] for number in order], T0 + DAY)
    from warehouse.ledger.history import customer_history

    with ledger.read() as tx:
        rows = [customer_history(tx, customer).messages[0] for customer in ("c000000", "c000001")]
    assert [(row["state"], row["reason"], row["provider_code"]) for row in rows] == [("delivered", None, None)] * 2


def test_the_place_of_a_message_is_recorded_with_it(ledger: Ledger) -> None:
    experiment = recorded(ledger)
    keys = [f"{experiment}/c000000/1", f"{experiment}/c000001/1", "nobody/1/1"]
    with ledger.read() as tx:
        assert places_of(tx, keys) == {keys[0]: "FR", keys[1]: "US-TX"}
        assert places_of(tx, []) == {}


def test_a_wave_keeps_the_version_of_the_time_zone_rules(ledger: Ledger) -> None:
    from dataclasses import replace

    experiment = start(ledger)
    people, messages = cohort(3)
    record_wave(ledger, replace(wave_of(experiment, people), tzdata="2026f"), wave_batches(people, messages))
    with ledger.read() as tx:
        found = find_wave(tx, experiment, T0)
    assert found is not None
    assert found.tzdata == "2026f"
