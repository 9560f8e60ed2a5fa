"""Campaigns that begin with a moment in a customer's life: who gets in, when, and that nobody does twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from flows.steps.deliver_messages import deliver_messages
from flows.steps.explain_customer import explain_customer
from flows.steps.load_facts import load_facts
from flows.steps.plan_campaign import plan_campaign
from flows.steps.run_campaign import run_campaign
from flows.steps.show_power import show_power
from flows.wiring import Workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.deliveries import sent_messages
from warehouse.ledger.waves import waves

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

TRIGGERED = """\
campaign: back
status: active
schedule: {cron: "0 * * * *", timezone: UTC}
audience: {trigger: {TRIGGER}}
experiment: {control: 25%, horizon: 30 days, primary: repurchase, minimum_effect: 10pp}
arms:
  care:
    weight: 75%
    offer: ten
    steps:
      - {channel: email, template: hello}
      - {channel: sms, template: hello, after: 2 days, unless: purchased}
timing: {window: {from: "09:00", to: "19:00"}, max_lateness: 3 days}
"""


def campaign(trigger: str) -> str:
    return TRIGGERED.replace("TRIGGER", trigger)


def assigned(ws: Workspace) -> dict[str, datetime]:
    """Everybody who took part so far, and as of which run."""
    found: dict[str, datetime] = {}
    with ws.ledger.read() as tx:
        for wave in waves(tx, "back:1"):
            ids = assignments_frame(tx, wave.wave_id)["customer_id"].tolist()
            assert not set(ids) & set(found)
            found |= dict.fromkeys(ids, wave.as_of)
    return found


def load_events(ws: Workspace, events: Iterable[tuple[str, datetime]], *, now: datetime, name: str = "served") -> None:
    lines = ["event_id,customer_id,occurred_at,event"]
    lines += [f"{name}-{c}-{at:%m%d%H%M%S},{c},{at.isoformat()},{name}" for c, at in events]
    path = ws.root / f"events-{now:%m%d%H%M}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    load_facts(ws, "events", [path], renames={}, now=now)


def run(ws: Workspace, at: datetime) -> Any:
    ws.facts.refresh()
    return run_campaign(ws, "back", as_of=at)


def customer(n: int) -> str:
    return f"C{n:04d}"


def test_each_run_takes_those_whose_moment_has_come_and_nobody_twice(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=campaign("event: served, after: 48 hours"))
    events = {customer(n): monday - 48 * HOUR + n * HOUR for n in range(40)}
    load_events(ws, events.items(), now=monday - HOUR)
    for hours in (1, 2, 2, 7, 30, 40):  # uneven, and one of them twice
        run(ws, monday + hours * HOUR)
    took_part = assigned(ws)
    assert set(took_part) == set(events)
    for who, as_of in took_part.items():
        moment = events[who] + 48 * HOUR
        assert moment < as_of
        assert not any(moment < monday + h * HOUR < as_of for h in (1, 2, 7, 30))


def test_an_event_that_comes_late_still_brings_its_customer_in_within_the_look_back(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=campaign("event: served, after: 24 hours, look_back: 2 days"))
    load_events(ws, [(customer(n), monday - 26 * HOUR) for n in range(20)], now=monday - HOUR)
    run(ws, monday)
    late = [(customer(n), monday - 30 * HOUR) for n in range(20, 30)]
    older = [(customer(n), monday - 80 * HOUR) for n in range(30, 40)]
    load_events(ws, [*late, *older], now=monday + HOUR)
    run(ws, monday + DAY)
    took_part = assigned(ws)
    assert {who for who, as_of in took_part.items() if as_of == monday + DAY} == {customer(n) for n in range(20, 30)}


def test_the_same_moment_is_taken_once_even_where_a_new_epoch_begins(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Callable[[Workspace, str, str], Any]
) -> None:
    ws = shop(campaign=campaign("event: served").replace("audience: {", "audience: {reentry_after: 1 hour, "))
    load_events(ws, [(customer(n), monday - HOUR) for n in range(20)], now=monday)
    run(ws, monday)
    rewrite(ws, "after: 2 days", "after: 3 days")  # another treatment, so another experiment
    assert plan_campaign(ws, "back", as_of=monday + 5 * HOUR).summary["audience"] == 0
    load_events(ws, [(customer(n), monday + 4 * HOUR) for n in range(5)], now=monday + 5 * HOUR)
    ws.facts.refresh()
    planned = plan_campaign(ws, "back", as_of=monday + 6 * HOUR).summary
    assert (planned["new_epoch"], planned["eligible"]) == (True, 5)


def test_a_second_moment_within_an_experiment_keeps_its_customer_out_and_the_plan_says_so(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=campaign("event: served").replace("audience: {", "audience: {reentry_after: 1 hour, "))
    load_events(ws, [(customer(n), monday - HOUR) for n in range(20)], now=monday)
    run(ws, monday)
    load_events(ws, [(customer(n), monday + 4 * HOUR) for n in range(5)], now=monday + 5 * HOUR)
    ws.facts.refresh()
    planned = plan_campaign(ws, "back", as_of=monday + 6 * HOUR).summary
    assert planned["skipped"] == {"already_assigned": 5}
    (warning,) = [text for text in planned["warnings"] if "5 customers whose moment has come again" in text]
    assert warning.endswith("takes them in again, after audience.reentry_after")


def test_delays_count_from_the_moment_and_not_from_the_run(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(campaign=campaign("event: served, after: 20 hours"))
    moments = {customer(n): monday + n * timedelta(minutes=7) for n in range(40)}
    load_events(ws, [(who, at - 20 * HOUR) for who, at in moments.items()], now=monday - HOUR)
    messages = plan_campaign(ws, "back", as_of=monday + 6 * HOUR).plan.messages
    for who, step, at in zip(messages["customer_id"], messages["step"], messages["not_before"], strict=True):
        # within the window of this Monday and Wednesday
        assert at.to_pydatetime() == moments[who] + (2 * DAY if step == 2 else timedelta(0))
    assert set(messages["step"]) == {1, 2}


def test_a_moment_that_went_by_long_ago_is_given_up_with_its_reason(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=campaign("event: served, look_back: 10 days"))
    load_events(ws, [(customer(n), monday - 6 * DAY) for n in range(10)], now=monday)
    load_events(ws, [(customer(n), monday - 30 * HOUR) for n in range(10, 20)], now=monday + timedelta(minutes=1))
    planned = plan_campaign(ws, "back", as_of=monday + HOUR)
    assert planned.summary["skipped"] == {"no_send_time": 10}
    assert planned.summary["eligible"] == 10


def test_a_segment_narrows_the_moments_and_eligibility_and_the_draw_are_as_always(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=campaign("event: served").replace("audience: {", "audience: {segment: club == 'gold', "))
    load_events(ws, [(customer(n), monday - HOUR) for n in range(60)], now=monday)
    load_events(ws, [(customer(0), monday - 2 * HOUR)], now=monday + timedelta(minutes=1), name="complaint_opened")
    planned = plan_campaign(ws, "back", as_of=monday + HOUR)
    assert planned.summary["audience"] == 30
    assert planned.summary["skipped"] == {"open_complaint": 1}
    run(ws, monday + HOUR)
    for hours in (1, 50):
        deliver_messages(ws, now=monday + hours * HOUR, worker="test")
    with ws.ledger.read() as tx:
        arms = assignments_frame(tx, waves(tx, "back:1")[0].wave_id).set_index("customer_id")["arm"]
        reached = sent_messages(tx, "back:1")
    assert {arms[who] for who in reached["customer_id"]} == {"care"}
    assert set(reached["customer_id"]) == set(arms[arms == "care"].index)
    assert (arms == "control").sum() > 0


def test_a_first_purchase_begins_a_campaign_a_week_later(shop: Callable[..., Workspace], monday: datetime) -> None:
    new = {n: [(monday - 7 * DAY + n * HOUR, 20.0)] for n in range(12)}
    ws = shop(campaign=campaign("event: first_purchase, after: 7 days"), bought=new)
    people = ["customer_id,created_at,email,phone,consent_email,consent_sms,time_zone,first_name"]
    orders = ["order_id,customer_id,ordered_at,amount"]
    for n in range(12):
        people.append(f"N{n:03d},2026-02-01,n{n}@example.com,+442079461{n:03d},yes,yes,Europe/London,Ann")
        orders.append(f"F{n},N{n:03d},{(monday - 7 * DAY + n * HOUR).isoformat()},20")
        orders.append(f"S{n},N{n:03d},{(monday - 6 * DAY + n * HOUR).isoformat()},20")
    for table, lines in (("customers", people), ("orders", orders)):
        path = ws.root / f"new-{table}.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        load_facts(ws, table, [path], renames={}, now=monday)
    for hours in (0, 5, 24):
        run(ws, monday + hours * HOUR)
    took_part = assigned(ws)
    assert set(took_part) == {f"N{n:03d}" for n in range(12)}, "whoever bought before is no new customer"
    assert {as_of for who, as_of in took_part.items() if int(who[1:]) < 5} == {monday + 5 * HOUR}
    told = explain_customer(ws, "back", "N007", now=monday + DAY)
    assert any(event["what"] == "moment of first_purchase + 7 days" for event in told["events"])


def test_a_birthday_mail_leaves_three_days_before_where_the_customer_lives_leap_days_included(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=campaign("event: birthday, before: 3 days"))
    zones = ("Pacific/Auckland", "Europe/London", "America/Los_Angeles")
    people = ["customer_id,created_at,email,phone,consent_email,consent_sms,time_zone,birthday,first_name"]
    for n in range(30):
        born = ("1990-03-12", "1988-02-29", "1977-03-20")[n % 3]
        zone = zones[n // 10]
        people.append(f"B{n:03d},2024-01-01,b{n}@example.com,+442079462{n:03d},yes,yes,{zone},{born},Bo")
    path = ws.root / "born.csv"
    path.write_text("\n".join(people) + "\n", encoding="utf-8")
    load_facts(ws, "customers", [path], renames={}, now=monday)
    for start in (datetime(2026, 2, 25, 9, tzinfo=UTC), datetime(2026, 3, 8, 9, tzinfo=UTC)):
        for hours in range(0, 42, 6):
            run(ws, start + hours * HOUR)
            deliver_messages(ws, now=start + hours * HOUR, worker="test")
    took_part = assigned(ws)
    assert set(took_part) == {f"B{n:03d}" for n in range(30) if n % 3 != 2}
    with ws.ledger.read() as tx:
        first = sent_messages(tx, "back:1").query("step == 1")
    assert len(first)
    for who, sent_at in zip(first["customer_id"], first["sent_at"], strict=True):
        n = int(who[1:])
        local = sent_at.tz_convert(zones[n // 10])
        day = ("2026-03-09", "2026-02-26")[n % 3]  # 29 February is 1 March in 2026
        assert str(local.date()) == day, who


@pytest.mark.parametrize("runs", [(24,), (8, 24), (3, 6, 9, 24), (1, 2, 3, 4, 5, 24)])
def test_however_the_runs_fall_the_same_customers_take_part_in_the_same_arms(
    shop: Callable[..., Workspace], monday: datetime, runs: tuple[int, ...]
) -> None:
    drawn: Mapping[str, str] = {}
    for name, hours in (("all-at-once", (24,)), ("pieces", runs)):
        ws = shop(campaign=campaign("event: served, look_back: 3 hours"), name=name)
        load_events(ws, [(customer(n), monday + n * timedelta(minutes=20)) for n in range(60)], now=monday + DAY)
        run(ws, monday)
        for at in hours:
            run(ws, monday + at * HOUR)
        with ws.ledger.read() as tx:
            frames = [assignments_frame(tx, wave.wave_id) for wave in waves(tx, "back:1")]
        everybody = pd.concat(frames)
        found = dict(zip(everybody["customer_id"], everybody["arm"], strict=True))
        assert set(found) == {customer(n) for n in range(60)}
        assert not drawn or found == drawn
        drawn = found


def test_explain_says_that_the_moment_has_not_come(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(campaign=campaign("event: served, after: 48 hours"))
    load_events(ws, [(customer(n), monday - 49 * HOUR) for n in range(10)], now=monday)
    run(ws, monday)
    told = explain_customer(ws, "back", customer(20), now=monday + HOUR)["answer"]
    assert "no moment of served + 2 days from" in told
    planned = plan_campaign(ws, "back", as_of=monday).summary
    assert planned["journey"]["trigger"]["moment"] == "served + 2 days"
    assert planned["eligible"] == 10


def test_power_is_told_by_what_those_did_whose_moment_had_come_before(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(customers=260, campaign=campaign("event: served"))
    load_events(ws, [(customer(n), monday - 45 * DAY + n * HOUR) for n in range(260)], now=monday)
    shown = show_power(ws, "back", as_of=monday, customers=1000, baseline=None)
    assert shown["history"] == 260
