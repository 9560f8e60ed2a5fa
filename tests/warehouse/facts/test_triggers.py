"""Moments that bring customers in, on every engine, against an oracle in plain Python."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from campaigns.birthdays import birthdays_between, day_begins
from campaigns.journey_terms import Trigger
from campaigns.timing import candidate_zones
from warehouse.facts.store import Facts
from warehouse.facts.triggers import trigger_moments

START, END = datetime(2025, 2, 20, 9, 30, tzinfo=UTC), datetime(2025, 4, 1, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
VOID = {"refunded", "returned", "cancelled", "canceled", "voided", "failed"}


def found(facts: Facts, trigger: Trigger, start: datetime = START, end: datetime = END) -> dict[str, datetime]:
    frame = trigger_moments(facts, trigger, start=start, end=end, default_zone="Europe/London")
    assert frame["customer_id"].tolist() == sorted(frame["customer_id"], key=str.encode)
    return dict(zip(frame["customer_id"], frame["triggered_at"].dt.to_pydatetime(), strict=True))


def on(event: str, *, after: timedelta = timedelta(0), before: timedelta = timedelta(0)) -> Trigger:
    """A trigger as a campaign file writes it."""
    given = {"after": after} if after else {"before": before} if before else {}
    return Trigger(event=event, **{key: f"{gap // timedelta(hours=1)} hours" for key, gap in given.items()})  # type: ignore[arg-type]  # parsed


def last_within(moments: list[tuple[str, datetime]], start: datetime, end: datetime) -> dict[str, datetime]:
    last: dict[str, datetime] = {}
    for customer, at in moments:
        if start <= at < end:
            last[customer] = max(at, last.get(customer, at))
    return last


def anniversary(born: date, year: int) -> date:
    try:
        return born.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


@pytest.mark.parametrize("after", [timedelta(0), 7 * DAY, timedelta(hours=30)])
def test_the_last_event_of_each_customer_counts_so_long_after_it(shop: Any, facts: Facts, after: timedelta) -> None:
    name = shop.events[0]["event"]
    moments = [(e["customer_id"], e["occurred_at"] + after) for e in shop.events if e["event"] == name]
    wide = START - 400 * DAY
    assert found(facts, on(name, after=after), wide) == last_within(moments, wide, END)
    assert found(facts, on(name, after=after), wide)


def test_only_a_customers_very_first_purchase_counts_as_one(shop: Any, facts: Facts) -> None:
    bought: dict[str, datetime] = {}
    for order in shop.orders:
        if order["amount"] >= 0 and (order["status"] or "").lower() not in VOID:
            at = order["ordered_at"]
            bought[order["customer_id"]] = min(at, bought.get(order["customer_id"], at))
    for start in (START, START - 300 * DAY):
        expected = last_within([(c, at + 7 * DAY) for c, at in bought.items()], start, END)
        assert found(facts, on("first_purchase", after=7 * DAY), start) == expected
    assert expected


@pytest.mark.parametrize("before", [0, 3])
def test_a_birthday_begins_at_midnight_where_the_customer_lives(shop: Any, facts: Facts, before: int) -> None:
    moments = []
    for customer in shop.customers:
        if customer["birthday"] is None:
            continue
        zones = candidate_zones(customer["time_zone"], customer["country"]) or ("Europe/London",)
        for year in (2024, 2025, 2026):
            day = anniversary(customer["birthday"], year) - before * DAY
            midnights = [datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)) for zone in zones]
            moments.append((customer["customer_id"], max(at.astimezone(UTC) for at in midnights)))
    for start in (START, START - 200 * DAY):
        expected = last_within(moments, start, END)
        assert found(facts, on("birthday", before=before * DAY), start) == expected
    assert expected


def test_windows_that_meet_find_every_moment_once(shop: Any, facts: Facts) -> None:
    cuts = [START - 300 * DAY + n * 17 * DAY + timedelta(hours=n) for n in range(18)]
    for trigger in (on("first_purchase", after=DAY), on("birthday", before=3 * DAY)):
        pieces = [found(facts, trigger, a, b) for a, b in pairwise(cuts)]
        if trigger.event == "first_purchase":
            assert sum(map(len, pieces)) == len(found(facts, trigger, cuts[0], cuts[-1]))
        assert {c: at for piece in pieces for c, at in piece.items()} == found(facts, trigger, cuts[0], cuts[-1])


def test_the_29th_of_february_is_kept_on_the_1st_of_march_where_there_is_none() -> None:
    assert birthdays_between(date(2025, 2, 27), date(2025, 3, 1)) == {
        227: [date(2025, 2, 27)],
        228: [date(2025, 2, 28)],
        301: [date(2025, 3, 1)],
        229: [date(2025, 3, 1)],
    }
    assert birthdays_between(date(2028, 2, 29), date(2028, 3, 1)) == {229: [date(2028, 2, 29)], 301: [date(2028, 3, 1)]}


def test_a_day_begins_when_every_zone_has_it_even_where_the_clock_skips_midnight() -> None:
    assert day_begins(date(2026, 7, 1), ("America/New_York", "America/Los_Angeles")) == datetime(
        2026, 7, 1, 7, tzinfo=UTC
    )
    # clocks in Beirut went from 0:00 to 1:00 on 2022-03-27
    assert day_begins(date(2022, 3, 27), ("Asia/Beirut",)) == datetime(2022, 3, 26, 22, tzinfo=UTC)
