"""Journeys from plan to explain on a virtual clock: conditions, reminders, messages that come again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from channels.receipts import sendgrid_receipt, twilio_inbound
from flows.steps.deliver_messages import Delivered, deliver_messages
from flows.steps.explain_customer import explain_customer
from flows.steps.load_facts import load_facts
from flows.steps.plan_campaign import plan_campaign
from flows.steps.receive_receipts import receive_inbound, receive_receipts
from flows.steps.run_campaign import run_campaign
from flows.steps.show_status import show_status
from flows.wiring import Workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.deliveries import sent_messages
from warehouse.ledger.history import customer_history
from warehouse.ledger.waves import waves

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

JOURNEY = """\
campaign: back
status: active
audience: {segment: recency_days >= 60 and orders >= 2, allow_open_complaint: true}
experiment: {control: 25%, horizon: 60 days, primary: repurchase, minimum_effect: 10pp}
arms:
  talk:
    weight: 75%
    offer: ten
    steps:
      - {channel: email, template: hello}
      - {channel: sms, template: hello, after: 1 day}
      - {channel: email, template: hello, after: 2 days, unless: UNLESS}
timing: {window: {from: "09:00", to: "19:00"}}
"""

CADENCE = """\
campaign: back
status: active
audience: {segment: open_complaint, allow_open_complaint: true}
experiment: {control: 25%, horizon: 60 days, primary: repurchase, minimum_effect: 10pp}
arms:
  inform:
    weight: 75%
    steps:
      - {channel: sms, template: hello, repeat: {every: 3 days, at_most: 6, until: not open_complaint}}
timing: {window: {from: "09:00", to: "19:00"}}
"""


def deliver(ws: Workspace, now: datetime) -> Delivered:
    ws.__dict__.pop("usable_book", None)
    ws.facts.refresh()
    return deliver_messages(ws, now=now, worker="test")


def members(ws: Workspace, arm: str) -> list[str]:
    with ws.ledger.read() as tx:
        frame = assignments_frame(tx, waves(tx, "back:1")[0].wave_id)
    return sorted(frame[frame["arm"] == arm]["customer_id"])


def sent(ws: Workspace) -> list[tuple[str, int]]:
    with ws.ledger.read() as tx:
        frame = sent_messages(tx, "back:1")
    return list(zip(frame["customer_id"], frame["step"], strict=True))


def load(ws: Workspace, table: str, header: str, lines: Iterable[str], now: datetime) -> None:
    path = ws.root / f"{table}-{now:%m%d%H%M}.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    load_facts(ws, table, [path], renames={}, now=now)


def load_events(ws: Workspace, event: str, customers: Iterable[str], at: datetime, now: datetime | None = None) -> None:
    lines = [f"{event}-{c}-{at:%m%d%H%M},{c},{at.isoformat()},{event}" for c in customers]
    load(ws, "events", "event_id,customer_id,occurred_at,event", lines, now or at)


def buy(ws: Workspace, customers: Iterable[str], at: datetime, amount: int = 10, code: str = "") -> None:
    header = "order_id,customer_id,ordered_at,amount,discount_code"
    load(ws, "orders", header, [f"X{c}{at:%m%d%H},{c},{at.isoformat()},{amount},{code}" for c in customers], at)


def mail_event(ws: Workspace, kind: str, customers: Iterable[str], at: datetime, **more: Any) -> None:
    receipts = [
        sendgrid_receipt(
            {
                "event": kind,
                "sg_event_id": f"{kind}-{c}",
                "message_key": f"back:1/{c}/1",
                "timestamp": int(at.timestamp()),
                **more,
            }
        )
        for c in customers
    ]
    receive_receipts(ws, [receipt for receipt in receipts if receipt is not None], now=at)


def reply(ws: Workspace, customers: Iterable[str], at: datetime) -> None:
    for c in customers:
        number = f"+4420794600{int(c[1:]) % 100:02d}"
        receive_inbound(ws, twilio_inbound({"MessageSid": f"SM{c}", "From": number, "Body": "who is this?"}), now=at)


def redeem(ws: Workspace, customers: Iterable[str], at: datetime) -> None:
    with ws.ledger.read() as tx:
        frame = sent_messages(tx, "back:1")
    codes = dict(zip(frame["customer_id"], frame["code"], strict=True))
    header = "order_id,customer_id,ordered_at,amount,discount_code"
    lines = [f"R{c},{c},{at.isoformat()},10, {codes[c].lower()} " for c in customers]
    load(ws, "orders", header, lines, at)


Act = Callable[[Workspace, list[str], datetime], None]
ACTS: Mapping[str, tuple[str, Act]] = {
    "purchased": ("purchased", lambda ws, who, at: buy(ws, who, at)),
    "redeemed": ("redeemed", redeem),
    "visited": ("visited", lambda ws, who, at: load_events(ws, "visit", who, at)),
    "opened": ("opened", lambda ws, who, at: mail_event(ws, "open", who, at)),
    "clicked": ("clicked", lambda ws, who, at: mail_event(ws, "click", who, at, url="https://northwind.example/")),
    "replied": ("replied", reply),
    "expression": ("spend > 1000", lambda ws, who, at: buy(ws, who, at, amount=2000)),
    "a named segment": ("big_spenders", lambda ws, who, at: buy(ws, who, at, amount=2000)),
}


@pytest.mark.parametrize("kind", ACTS)
def test_a_message_is_left_out_for_those_of_whom_its_condition_is_true_by_then(
    shop: Callable[..., Workspace], monday: datetime, kind: str
) -> None:
    condition, act = ACTS[kind]
    ws = shop(campaign=JOURNEY.replace("UNLESS", condition))
    (ws.root / "campaigns/book/segments.yaml").write_text("big_spenders: {where: spend > 1000}\n", encoding="utf-8")
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    deliver(ws, monday + DAY)
    talk, control = members(ws, "talk"), members(ws, "control")
    act(ws, talk[:5], monday + DAY + HOUR)
    last = deliver(ws, monday + 3 * DAY)
    assert last.sent == len(talk) - 5
    assert show_status(ws, "back")[0]["skipped"] == {condition: 5}
    assert {customer for customer, step in sent(ws) if step == 3} == set(talk[5:])
    assert not {customer for customer, _ in sent(ws)} & set(control)
    total = show_status(ws, "back")[0]["total"]
    assert total["planned"] == 3 * len(talk) == total["sent"] + total["skipped"]
    told = explain_customer(ws, "back", talk[0], now=monday + 4 * DAY)
    assert f"step 3 by email: skipped ({condition})" in told["answer"]


def test_any_condition_of_a_list_is_enough_and_the_reason_says_which(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=JOURNEY.replace("UNLESS", "[purchased, clicked, spend > 1000]"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    deliver(ws, monday + DAY)
    talk = members(ws, "talk")
    mail_event(ws, "click", talk[:4], monday + DAY)
    buy(ws, talk[3:7], monday + DAY + HOUR, amount=2000)
    last = deliver(ws, monday + 3 * DAY)
    assert {reason: n for reason, n in last.skipped.items() if n} == {"purchased": 4, "clicked": 3}
    assert last.sent == len(talk) - 7
    left = [e for e in explain_customer(ws, "back", talk[0], now=monday + 3 * DAY)["events"] if "left" in e["what"]]
    assert [event["what"] for event in left] == ["left back:1: clicked"]


def test_a_mail_program_that_fetches_pictures_has_opened_nothing(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=JOURNEY.replace("UNLESS", "opened"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    deliver(ws, monday + DAY)
    mail_event(ws, "open", members(ws, "talk"), monday + HOUR, sg_machine_open=True)
    assert deliver(ws, monday + 3 * DAY).skipped["opened"] == 0


def test_what_happened_before_the_assignment_does_not_count(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(campaign=JOURNEY.replace("UNLESS", "[purchased, visited]"))
    load_events(ws, "visit", [f"C{n:04d}" for n in range(60)], monday - HOUR)
    run_campaign(ws, "back", as_of=monday)
    for days in (0, 1):
        deliver(ws, monday + days * DAY)
    assert deliver(ws, monday + 3 * DAY).sent == len(members(ws, "talk"))


def test_a_condition_on_the_facts_is_asked_anew_for_every_message(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    again = "UNLESS}\n      - {channel: sms, template: hello, after: 3 days, unless: open_complaint"
    ws = shop(campaign=JOURNEY.replace("UNLESS", again).replace("UNLESS", "open_complaint"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    deliver(ws, monday + DAY)
    talk = members(ws, "talk")
    load_events(ws, "complaint_opened", talk[:6], monday + DAY)
    assert deliver(ws, monday + 3 * DAY).skipped["open_complaint"] == 6
    load_events(ws, "complaint_resolved", talk[:4], monday + 4 * DAY)
    last = deliver(ws, monday + 6 * DAY)
    assert (last.skipped["open_complaint"], last.sent) == (2, len(talk) - 2)


def test_what_a_customer_did_is_recorded_and_ends_the_later_messages_at_once(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    again = "UNLESS}\n      - {channel: sms, template: hello, after: 20 days, unless: purchased"
    ws = shop(campaign=JOURNEY.replace("UNLESS", again).replace("UNLESS", "purchased").replace("14 days", "60 days"))
    offers = ws.root / "campaigns/book/offers.yaml"
    offers.write_text(offers.read_text(encoding="utf-8").replace("14 days", "60 days"), encoding="utf-8")
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    deliver(ws, monday + DAY)
    talk = members(ws, "talk")
    buy(ws, talk[:3], monday + DAY + HOUR)
    assert deliver(ws, monday + 3 * DAY).skipped["purchased"] == 6
    assert show_status(ws, "back")[0]["total"]["pending"] == len(talk) - 3


def test_a_campaign_waits_when_its_condition_means_nothing_any_more(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=JOURNEY.replace("UNLESS", "big_spenders"))
    segments = ws.root / "campaigns/book/segments.yaml"
    segments.write_text("big_spenders: {where: spend > 1000}\n", encoding="utf-8")
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    deliver(ws, monday + DAY)
    segments.unlink()
    (ws.root / "campaigns/book/back.yaml").write_text(JOURNEY.replace("UNLESS", "purchased"), encoding="utf-8")
    last = deliver(ws, monday + 3 * DAY)
    assert last.sent == 0
    assert "big_spenders" in last.held["back"]
    segments.write_text("big_spenders: {where: spend > 1000}\n", encoding="utf-8")
    assert deliver(ws, monday + 3 * DAY + HOUR).sent == len(members(ws, "talk"))


def test_a_reminder_shows_the_same_code_in_the_words_of_the_same_template(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=JOURNEY.replace("UNLESS", "purchased"))
    run_campaign(ws, "back", as_of=monday)
    for days in (0, 1, 3):
        deliver(ws, monday + days * DAY)
    with ws.ledger.read() as tx:
        frame = sent_messages(tx, "back:1")
    codes = frame.groupby("customer_id")["code"].agg(["nunique", "size"])
    assert set(codes["nunique"]) == {1}
    assert set(codes["size"]) == {3}
    assert frame["code"].nunique() == len(codes)


def left_at(ws: Workspace, customer: str) -> dict[int, datetime]:
    with ws.ledger.read() as tx:
        history = customer_history(tx, customer, campaign="back")
    return {row["step"]: row["claimed_at"] for row in history.messages if row["state"] == "sent"}


def test_after_a_standstill_reminders_keep_their_distance_from_the_first_message(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=JOURNEY.replace("UNLESS", "purchased"))
    run_campaign(ws, "back", as_of=monday)
    talk = members(ws, "talk")
    assert deliver(ws, monday + 2 * DAY).sent == len(talk)  # the second message is due as well
    assert show_status(ws, "back")[0]["total"]["skipped"] == 0
    for hours in range(3 * 24, 6 * 24):
        deliver(ws, monday + hours * HOUR)
    assert left_at(ws, talk[0]) == {1: monday + 2 * DAY, 2: monday + 3 * DAY, 3: monday + 5 * DAY}
    told = explain_customer(ws, "back", talk[0], now=monday + 6 * DAY)
    assert [e["what"] for e in told["events"] if e["code"] == "step_before"] == [
        f"back:1/{talk[0]}/2: moved",
        f"back:1/{talk[0]}/3: moved",
    ]


def test_a_reminder_does_not_overtake_a_message_that_the_caps_put_off(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    first = "channel: email, template: hello}"
    text = JOURNEY.replace("UNLESS", "purchased").replace(first, first.replace("email", "sms"), 1)
    ws = shop(campaign=f"{text}caps: {{min_gap: {{sms: 80 hours}}}}\n")
    run_campaign(ws, "back", as_of=monday)
    talk = members(ws, "talk")
    for hours in range(0, 6 * 24, 8):
        deliver(ws, monday + hours * HOUR)
    # the second waits for the caps until Thursday afternoon, when the third would have left since the morning
    assert left_at(ws, talk[0]) == {1: monday, 2: monday + 80 * HOUR, 3: monday + 128 * HOUR}


@pytest.fixture
def complaints(shop: Callable[..., Workspace], monday: datetime) -> Workspace:
    """A shop of 60 customers, all with an open complaint."""
    ws = shop(campaign=CADENCE)
    load_events(ws, "complaint_opened", [f"C{n:04d}" for n in range(60)], monday - DAY)
    return ws


def test_messages_come_again_until_the_complaint_is_resolved_and_six_times_at_most(
    complaints: Workspace, monday: datetime
) -> None:
    ws = complaints
    planned = plan_campaign(ws, "back", as_of=monday).summary
    inform = planned["arms"]["inform"]
    assert inform["messages"] == 6 * inform["planned"]
    assert planned["journey"]["arms"]["inform"] == [
        "1: sms hello, every 3 days until not open_complaint, at most 6 times"
    ]
    run_campaign(ws, "back", as_of=monday)
    arm, resolved = members(ws, "inform"), members(ws, "inform")[:10]
    for day in range(30):
        if day == 7:
            load_events(ws, "complaint_resolved", resolved, monday + 7 * DAY - HOUR)
        deliver(ws, monday + day * DAY)
    counts = {customer: [c for c, _ in sent(ws)].count(customer) for customer in arm}
    assert {counts[customer] for customer in resolved} == {3}
    assert {counts[customer] for customer in arm[10:]} == {6}
    status = show_status(ws, "back")[0]
    assert status["skipped"] == {"until not open_complaint": 30}
    assert status["total"]["planned"] == 6 * len(arm) == status["total"]["sent"] + 30
    told = explain_customer(ws, "back", resolved[0], now=monday + 30 * DAY)
    assert "step 1, turn 3 by sms: sent" in told["answer"]
    assert "step 1, turn 4 by sms: skipped (until not open_complaint)" in told["answer"]
    assert any(event["what"] == "left back:1: until not open_complaint" for event in told["events"])


def test_once_it_has_ended_a_new_complaint_does_not_begin_it_again(complaints: Workspace, monday: datetime) -> None:
    ws = complaints
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    arm = members(ws, "inform")
    load_events(ws, "complaint_resolved", arm, monday + DAY)
    assert deliver(ws, monday + 3 * DAY).sent == 0
    load_events(ws, "complaint_opened", arm, monday + 4 * DAY)
    assert deliver(ws, monday + 6 * DAY).sent == 0
    assert len(sent(ws)) == len(arm)


def test_turns_count_against_the_budget_and_are_kept_apart_by_caps(
    complaints: Workspace, monday: datetime, rewrite: Callable[[Workspace, str, str], Path]
) -> None:
    ws = complaints
    rewrite(ws, "timing:", "budget: {messages: 60}\ncaps: {per_customer: 1 per 5 days}\ntiming:")
    planned = plan_campaign(ws, "back", as_of=monday).summary
    assert planned["arms"]["inform"]["planned"] == 10
    assert planned["skipped"]["over_budget"] > 0
    run_campaign(ws, "back", as_of=monday)
    for day in range(12):
        deliver(ws, monday + day * DAY)
    with ws.ledger.read() as tx:
        frame = sent_messages(tx, "back:1").sort_values(["customer_id", "sent_at"])
    gaps = frame.groupby("customer_id")["sent_at"].diff().dropna()
    assert len(gaps)
    assert (gaps >= 5 * DAY).all()
