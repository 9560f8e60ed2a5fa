"""Timing end to end: zones and law in the plan, the last look at the clock, best hours, spread, timing as an arm."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from campaigns.timing import tzdata_version
from channels.receipts import sendgrid_receipts
from flows.steps.deliver_messages import deliver_messages
from flows.steps.explain_customer import explain_customer
from flows.steps.load_facts import load_facts
from flows.steps.measure_experiment import measure_experiment
from flows.steps.plan_campaign import plan_campaign
from flows.steps.receive_receipts import receive_receipts
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from warehouse.ledger import schema
from warehouse.ledger.history import customer_history
from warehouse.ledger.waves import waves

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Shop = Callable[..., Workspace]
CAMPAIGN = """\
campaign: back
status: active
audience:
  segment: recency_days >= 60 and orders >= 2
experiment: {control: 20%, horizon: 30 days, primary: repurchase, minimum_effect: 10pp}
arms:
  text:
    weight: 80%
    steps:
      - {channel: sms, template: hello}
timing: {window: {from: "00:00", to: "00:00"}}
"""
PLACES = (
    # time_zone, country, region, phone
    ("Europe/London", "GB", "", "+447911123{:03d}"),
    ("", "US", "TX", "+15125550{:03d}"),
    ("", "US", "", "+14155550{:03d}"),
    ("", "", "", "+331234560{:02d}"),
    ("", "US", "", "+18005550{:03d}"),
    ("", "", "", "0791112{:04d}"),
)


def move_house(ws: Workspace, customers: int) -> None:
    """Let the customers live, by turns, in the PLACES."""
    lines = ["customer_id,created_at,email,phone,consent_email,consent_sms,time_zone,country,region"]
    for n in range(customers):
        zone, country, region, phone = PLACES[n % len(PLACES)]
        lines.append(f"C{n:04d},2024-01-01,c{n}@example.com,{phone.format(n)},yes,yes,{zone},{country},{region}")
    path = ws.root / "moved.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    load_facts(ws, "customers", [path], renames={}, now=datetime(2026, 3, 2, 9, tzinfo=UTC))
    ws.facts.refresh()


def messages_of(ws: Workspace, customer: str) -> list[Any]:
    with ws.ledger.read() as tx:
        return list(customer_history(tx, customer).messages)


def test_the_plan_tells_what_told_the_zones_and_whose_hours_hold_and_no_number_travels(
    shop: Shop, monday: datetime, tmp_path: Path
) -> None:
    ws = shop(customers=60, campaign=CAMPAIGN)
    move_house(ws, 60)
    planned = plan_campaign(ws, "back", as_of=monday)
    summary = planned.summary
    assert summary["zones"] == {
        "profile": 10, "address": 10, "phone": 30, "country": 0, "default": 10, "unknown": 0,
    }  # fmt: skip
    assert summary["zones_guessed"] == pytest.approx(40 / 60)
    assert {"us-federal", "us-tx", "uk", "eu", "fr"} <= set(summary["jurisdictions"])
    assert summary["tzdata"] == tzdata_version()
    assert summary["holidays"]
    written = planned.write(tmp_path / "plan").parent
    run_campaign(ws, "back", as_of=monday)
    ledger = (ws.root / "data" / "ledger.db").read_bytes() + (ws.root / "data" / "ledger.db-wal").read_bytes()
    everything = b"".join(path.read_bytes() for path in written.iterdir()) + ledger
    assert b"1512555" not in everything
    assert b"+3312" not in everything


def test_a_text_leaves_only_in_the_legal_hours_of_its_place_whatever_the_window_says(
    shop: Shop, monday: datetime
) -> None:
    ws = shop(customers=60, campaign=CAMPAIGN)
    move_house(ws, 60)
    planned = plan_campaign(ws, "back", as_of=monday).plan.messages
    places = planned.set_index("customer_id")[["place", "not_before", "closes_at"]]
    texan = places[places["place"] == "US-TX"].iloc[0]
    assert texan["not_before"] == datetime(2026, 3, 2, 16, 0, tzinfo=UTC)  # nine in El Paso
    assert texan["closes_at"] == datetime(2026, 3, 3, 3, 0, tzinfo=UTC)  # nine in the evening in Houston
    french = places[places["place"] == "FR"].iloc[0]
    assert french["not_before"] == monday
    assert french["closes_at"] == datetime(2026, 3, 2, 19, 30, tzinfo=UTC)


def test_a_slot_that_slipped_sends_nothing_at_a_forbidden_minute(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=60, campaign=CAMPAIGN)
    move_house(ws, 60)
    run_campaign(ws, "back", as_of=monday)
    night = datetime(2026, 3, 3, 5, 0, tzinfo=UTC)
    with ws.ledger.begin() as tx:
        slipped = sa.update(schema.outbox).where(schema.outbox.c.place == "US-TX")
        tx.execute(slipped.values(not_before=night - HOUR, closes_at=night + 2 * HOUR))
        tx.execute(sa.update(schema.outbox).where(schema.outbox.c.place != "US-TX").values(not_before=night + 30 * DAY))
    refused = deliver_messages(ws, now=night, worker="test")
    assert refused.sent == 0
    assert refused.put_off > 0
    held = [m for n in range(1, 60, 6) for m in messages_of(ws, f"C{n:04d}")]
    assert {m["reason"] for m in held} == {"outside_hours"}
    assert {m["not_before"] for m in held} == {datetime(2026, 3, 3, 16, 0, tzinfo=UTC)}  # nine in El Paso
    told = explain_customer(ws, "back", str(held[0]["customer_id"]), now=night)
    assert any(event["why"].startswith("outside_hours") for event in told["events"])
    morning = deliver_messages(ws, now=datetime(2026, 3, 3, 16, 0, tzinfo=UTC), worker="test")
    assert morning.sent == refused.put_off


def test_a_message_without_a_later_permitted_moment_is_skipped_and_says_so(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=60, campaign=CAMPAIGN)
    move_house(ws, 60)
    run_campaign(ws, "back", as_of=monday)
    night = datetime(2026, 3, 3, 5, 0, tzinfo=UTC)
    with ws.ledger.begin() as tx:
        slipped = sa.update(schema.outbox).where(schema.outbox.c.place == "US-TX")
        tx.execute(slipped.values(not_before=night - HOUR, closes_at=night + HOUR, expires_at=night + HOUR))
    assert deliver_messages(ws, now=night, worker="test").skipped["outside_hours"] > 0


def test_every_wave_and_every_story_names_the_rules_it_was_decided_by(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=60, campaign=CAMPAIGN)
    move_house(ws, 60)
    run_campaign(ws, "back", as_of=monday)
    with ws.ledger.read() as tx:
        assert [wave.tzdata for wave in waves(tx, "back:1")] == [tzdata_version()]
    texan = next(f"C{n:04d}" for n in range(1, 60, 6) if messages_of(ws, f"C{n:04d}"))
    told = explain_customer(ws, "back", texan, now=monday)
    whys = [event["why"] for event in told["events"]]
    assert any(f"time-zone rules {tzdata_version()}" in why for why in whys)
    assert any("America/Chicago, America/Denver; legal hours of us-federal, us-tx" in why for why in whys)


TIMING = 'timing: {window: {from: "00:00", to: "00:00"}}'
MAIL = CAMPAIGN.replace("sms", "email").replace("text:", "mail:\n    offer: ten")


def test_a_best_hour_is_learned_from_the_opens_and_clicks_of_earlier_messages(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=60, campaign=MAIL)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    looked_at: dict[str, int] = {}
    events = []
    for n in range(60):
        for message in messages_of(ws, f"C{n:04d}"):
            hour = (9, 20)[n % 2]
            looked_at[f"C{n:04d}"] = hour
            clicked = monday.replace(hour=hour) + DAY
            events.append(
                {
                    "event": "click",
                    "sg_event_id": f"E{n}",
                    "message_key": message["message_key"],
                    "timestamp": int(clicked.timestamp()),
                }
            )
            machine = {"event": "open", "sg_machine_open": True, "sg_event_id": f"M{n}"}
            events += [
                {**events[-1], **machine, "sg_event_id": f"M{n}-{k}", "timestamp": int(monday.timestamp())}
                for k in range(9)
            ]
    receive_receipts(ws, sendgrid_receipts(events)[0], now=monday + 2 * DAY)
    other = MAIL.replace("campaign: back", "campaign: other").replace(
        TIMING, 'timing: {window: {from: "06:00", to: "22:00"}, at: best_hour, explore: 0%}'
    )
    (ws.root / "campaigns" / "book" / "other.yaml").write_text(other, encoding="utf-8")
    ws.__dict__.pop("book", None)
    planned = plan_campaign(ws, "other", as_of=monday + 3 * DAY).plan.messages.set_index("customer_id")
    hours = {customer: planned["not_before"][customer].hour for customer in looked_at if customer in planned.index}
    assert len(hours) > 20
    assert hours == {customer: looked_at[customer] for customer in hours}
    crowd = {planned["not_before"][customer].hour for customer in planned.index if customer not in looked_at}
    assert crowd == {9}  # of the two busiest hours the earlier


def test_who_clicks_at_eight_in_summer_is_written_to_at_eight_in_winter(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=60, campaign=MAIL)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    summer = datetime(2026, 7, 1, 7, 30, tzinfo=UTC)  # half past eight in London
    keys = {
        who: messages_of(ws, who)[0]["message_key"] for who in (f"C{n:04d}" for n in range(60)) if messages_of(ws, who)
    }
    clicks = [
        {"event": "click", "sg_event_id": f"E{who}", "message_key": key, "timestamp": int(summer.timestamp())}
        for who, key in keys.items()
    ]
    receive_receipts(ws, sendgrid_receipts(clicks)[0], now=summer + DAY)
    other = MAIL.replace("campaign: back", "campaign: other").replace(
        TIMING, 'timing: {window: {from: "06:00", to: "22:00"}, at: best_hour, explore: 0%}'
    )
    (ws.root / "campaigns" / "book" / "other.yaml").write_text(other, encoding="utf-8")
    planned = plan_campaign(ws, "other", as_of=datetime(2026, 12, 1, tzinfo=UTC)).plan.messages
    first = planned[planned["customer_id"].isin(keys) & (planned["step"] == 1)]
    assert len(first) > 20
    assert set(first["not_before"].dt.hour) == {8}


def test_a_rate_in_the_file_holds_in_the_outbox_minute_by_minute(shop: Shop, monday: datetime) -> None:
    ws = shop(
        customers=60,
        campaign=MAIL.replace(TIMING, 'timing: {window: {from: "10:00", to: "19:00"}, spread: 2 per minute}'),
    )
    run_campaign(ws, "back", as_of=monday)
    moments = [m["not_before"] for n in range(60) for m in messages_of(ws, f"C{n:04d}")]
    by_minute = Counter(moment.replace(second=0, microsecond=0) for moment in moments)
    assert len(moments) > 40
    assert max(by_minute.values()) == 2
    assert min(moments) == monday + HOUR
    sent = [deliver_messages(ws, now=monday + HOUR + k * timedelta(minutes=1), worker="test").sent for k in range(40)]
    assert max(sent) <= 3  # two of this minute, and one of the second in which the last minute ended
    assert sum(sent) == len(moments)


EARLY_AND_LATE = """\
campaign: back
status: active
audience:
  segment: recency_days >= 60 and orders >= 2
experiment:
  hypothesis: A warning in the morning brings back more customers than one in the evening
  control: 20%
  horizon: 30 days
  primary: repurchase
  minimum_effect: 10pp
arms:
  morning:
    weight: 40%
    offer: ten
    timing: {window: {from: "09:00", to: "11:00"}}
    steps:
      - {channel: email, template: hello}
  later:
    weight: 40%
    offer: ten
    steps:
      - {channel: email, template: hello, after: 2 days, timing: {at: "18:30"}}
timing: {window: {from: "09:00", to: "20:00"}}
"""


def test_early_against_late_is_an_experiment_like_any_other(
    shop: Shop, monday: datetime, arms_of: Callable[..., dict[str, list[str]]], answer: Callable[..., None]
) -> None:
    ws = shop(customers=600, campaign=EARLY_AND_LATE)
    run_campaign(ws, "back", as_of=monday)
    arms = arms_of(ws)
    moments = {
        arm: {m["not_before"] for customer in arms[arm] for m in messages_of(ws, customer)}
        for arm in ("morning", "later")
    }
    assert moments == {"morning": {monday}, "later": {monday + 2 * DAY + 9.5 * HOUR}}
    assert deliver_messages(ws, now=monday, worker="test").sent == len(arms["morning"])
    assert deliver_messages(ws, now=monday + 2 * DAY + 9.5 * HOUR, worker="test").sent == len(arms["later"])
    answer(ws, arms, {"morning": 0.6, "later": 0.2, "control": 0.2}, at=monday)
    measured = measure_experiment(ws, "back", now=monday + 34 * DAY).to_json()
    lifts = {row["arm"]: row for row in measured["results"] if row["metric"] == "repurchase"}
    assert set(lifts) == {"morning", "later"}
    assert lifts["morning"]["p_value"] < 0.001
    assert lifts["morning"]["low"] > 0.2
    assert lifts["later"]["p_value"] > 0.2
    json.dumps(measured, allow_nan=False)


def test_opening_a_workspace_forces_the_wheel_s_rules_on_the_whole_process(shop: Shop) -> None:
    import zoneinfo

    old = zoneinfo.TZPATH
    try:
        zoneinfo.reset_tzpath(["/usr/share/zoneinfo"])
        shop(customers=10, campaign=CAMPAIGN)
        assert zoneinfo.TZPATH == ()
    finally:
        zoneinfo.reset_tzpath(old)
        zoneinfo.ZoneInfo.clear_cache()
