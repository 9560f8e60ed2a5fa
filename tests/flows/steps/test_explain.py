"""What `retain explain` tells: code, rule, value, time and the files of the run, for whatever happened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from campaigns.eligibility import REASONS
from campaigns.errors import CampaignError
from flows.steps.approve_launch import answer
from flows.steps.deliver_messages import deliver_messages
from flows.steps.explain_customer import explain_customer
from flows.steps.load_facts import load_facts
from flows.steps.plan_campaign import plan_campaign
from flows.steps.run_campaign import run_campaign
from flows.steps.suppress_customer import suppress_customer
from flows.wiring import Workspace
from warehouse.ledger.launches import LaunchAnswer

Shop = Callable[..., Workspace]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KEYS = {"at", "what", "why", "code", "rule", "config"}


def told_of(story: dict[str, Any], code: str) -> dict[str, Any]:
    """The one event with a code."""
    return next(event for event in story["events"] if event["code"] == code)


def test_whoever_takes_part_is_told_every_line_with_its_rule_and_the_files_of_the_run(
    shop: Shop, monday: datetime, arms_of: Callable[..., dict[str, list[str]]]
) -> None:
    ws = shop(bought={n: [(monday + DAY, 20.0)] for n in range(60)})  # loaded already: everybody buys on Tuesday
    planned = plan_campaign(ws, "back", as_of=monday)
    config = planned.summary["hashes"]["config"]
    run_campaign(ws, "back", as_of=monday)
    arms = arms_of(ws)
    stopped, reminded, silent = arms["text"][0], arms["mail"][0], arms["control"][0]
    suppress_customer(ws, stopped, channel="sms", reason="stop", by="desk", at=monday + HOUR / 2)
    deliver_messages(ws, now=monday + HOUR, worker="test")
    deliver_messages(ws, now=monday + 3 * DAY + HOUR, worker="test")
    stories = {who: explain_customer(ws, "back", who, now=monday + 4 * DAY) for who in (stopped, reminded, silent)}
    for story in stories.values():
        assert story.keys() == {"campaign", "customer_id", "answer", "code", "rule", "config", "events"}
        assert story["config"] == config
        assert all(event.keys() == KEYS for event in story["events"])
        assert story["events"][0]["config"] == config
    skipped = next(e for e in stories[stopped]["events"] if e["code"] == "suppressed")
    assert skipped["rule"] == f"sms/all since {monday + HOUR / 2:%Y-%m-%d %H:%M} UTC: stop"
    assert skipped["config"] == config
    assert f"files {config[:12]}" in skipped["why"]
    assert told_of(stories[stopped], "stop")["rule"] == "the customer sent STOP, or the provider says so; told by desk"
    assert told_of(stories[reminded], "purchased")["rule"] == "condition of step 2"
    assert "bought since the assignment" in told_of(stories[reminded], "purchased")["why"]
    assert "is in arm control" in stories[silent]["answer"]


def test_whoever_has_no_arm_is_told_the_rule_and_the_value(shop: Shop, monday: datetime, rewrite: Any) -> None:
    ws = shop(customers=40)
    rewrite(ws, "  segment: recency", "  limit: 10\n  segment: recency")
    planned = plan_campaign(ws, "back", as_of=monday)
    assert planned.plan.skipped["over_limit"] == 30
    reasons = planned.plan.reasons
    out = str(reasons["customer_id"][reasons["reason"] == "over_limit"].iloc[0])
    story = explain_customer(ws, "back", out, now=monday)
    assert (story["code"], story["rule"]) == ("over_limit", "audience.limit 10")
    assert REASONS["over_limit"] in story["answer"]
    assert story["config"] == planned.summary["hashes"]["config"]
    run_campaign(ws, "back", as_of=monday)
    rewrite(ws, "recency_days >= 60", "recency_days >= 100")
    later = explain_customer(ws, "back", out, now=monday)
    assert later["code"] == "not_in_segment"
    assert later["rule"] == "audience.segment recency_days >= 100 and orders >= 2; orders 2, recency_days 70"


def test_whoever_has_no_permitted_moment_is_told_which_message_clocks_and_law_it_is(
    shop: Shop, monday: datetime, rewrite: Any
) -> None:
    ws = shop(customers=20)
    rewrite(ws, 'from: "09:00", to: "19:00"', 'from: "20:00", to: "21:00"')
    story = explain_customer(ws, "back", "C0003", now=monday)
    assert story["code"] == "no_send_time"
    assert story["rule"] == "arm mail, message 2 by sms; clocks of Europe/London; legal hours of uk"
    assert story["rule"] in story["answer"]


def test_whoever_would_take_part_by_what_is_known_now_is_told_so(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=40)
    run_campaign(ws, "back", as_of=monday)
    people = ws.root / "late.csv"
    header = "customer_id,created_at,email,phone,consent_email,consent_sms,time_zone"
    people.write_text(
        f"{header}\nLATE,2024-01-01,l@example.com,+442079469999,yes,yes,Europe/London\n", encoding="utf-8"
    )
    load_facts(ws, "customers", [people], renames={}, now=monday + HOUR)
    orders = ws.root / "late_orders.csv"
    days = [(monday - days * DAY).isoformat() for days in (200, 70)]
    lines = [f"L{at},LATE,{at},20" for at in days]
    orders.write_text("\n".join(["order_id,customer_id,ordered_at,amount", *lines]) + "\n", encoding="utf-8")
    load_facts(ws, "orders", [orders], renames={}, now=monday + HOUR)
    ws.facts.refresh()
    story = explain_customer(ws, "back", "LATE", now=monday + DAY)
    assert "nothing would keep the customer out" in story["answer"]
    assert "planned again with what is known now" in story["answer"]


def test_an_underpowered_campaign_that_may_not_run_is_explained_all_the_same(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=40, measurement={"underpowered": "refuse"})
    with pytest.raises(CampaignError, match="underpowered"):
        plan_campaign(ws, "back", as_of=monday)
    assert "it has not run yet" in explain_customer(ws, "back", "NOBODY", now=monday)["answer"]


def test_a_launch_that_waits_or_was_refused_is_told_with_its_limit(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=40, approval={"recipients": 5})
    assert run_campaign(ws, "back", as_of=monday, by="ann").launch.state == "awaiting_approval"
    planned = plan_campaign(ws, "back", as_of=monday).plan.assignments
    who = str(planned["customer_id"][planned["arm"] == "text"].iloc[0])
    waiting = explain_customer(ws, "back", who, now=monday + HOUR)
    assert waiting["code"] == "awaiting_approval"
    assert "approval.recipients (5)" in waiting["rule"]
    assert told_of(waiting, "awaiting_approval")["why"].endswith("(asked for by ann)")
    answer(ws, "back", monday, LaunchAnswer(False, "ben", monday + HOUR, "too many"))
    refused = explain_customer(ws, "back", who, now=monday + 2 * HOUR)
    assert refused["code"] == "refused"
    assert told_of(refused, "refused")["why"].endswith("(ben, too many)")
