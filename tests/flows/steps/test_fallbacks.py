"""The next channel of a message that did not arrive: when, to whom, and never both without need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from channels.message import Outgoing
from channels.provider import Capability, Outcome, SendResult
from channels.receipts import sendgrid_receipt, twilio_receipt
from flows.steps.deliver_messages import Delivered, deliver_messages
from flows.steps.explain_customer import explain_customer
from flows.steps.import_codes import import_code_file
from flows.steps.load_facts import load_facts
from flows.steps.receive_receipts import receive_receipts
from flows.steps.run_campaign import run_campaign
from flows.steps.show_status import show_status
from flows.steps.suppress_customer import suppress_customer
from flows.wiring import Workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.history import customer_history
from warehouse.ledger.waves import waves

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

FALLBACK = """\
campaign: back
status: active
audience: {segment: recency_days >= 60 and orders >= 2}
experiment: {control: 25%, horizon: 30 days, primary: repurchase, minimum_effect: 10pp}
arms:
  talk:
    weight: 75%
    offer: ten
    steps:
      - {channel: CHANNEL, template: hello, fallback: [FALLBACK]}
timing: {window: {from: "09:00", to: "19:00"}, max_lateness: 2 days}
"""


class Refusing:
    """A provider that refuses what a function names, with a code, and accepts the rest."""

    def __init__(self, channel: Any, refused: Callable[[Outgoing], bool], outcome: Outcome = "permanent") -> None:
        self.name, self.channel = "scripted", channel
        self.capability: Capability = "N"
        self._refused, self._outcome = refused, outcome
        self.seen: list[str] = []

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        self.seen += [message.key for message in batch]
        return [
            SendResult(m.key, self._outcome, code="UNREGISTERED")
            if self._refused(m)
            else SendResult(m.key, "accepted", provider_id=f"P{m.key}")
            for m in batch
        ]

    async def close(self) -> None:
        """Nothing is held open."""


def book(channel: str, fallback: str, **more: str) -> str:
    text = FALLBACK.replace("CHANNEL", channel).replace("FALLBACK", fallback)
    for old, new in more.items():
        text = text.replace({"step": "template: hello,", "caps": "timing:"}[old], new)
    return text


def with_providers(ws: Workspace, *providers: Any) -> Workspace:
    return replace(ws, providers=MappingProxyType({**ws.providers, **{p.channel: p for p in providers}}))


def deliver(ws: Workspace, now: datetime) -> Delivered:
    ws.__dict__.pop("usable_book", None)
    ws.facts.refresh()
    return deliver_messages(ws, now=now, worker="test")


def talk(ws: Workspace) -> list[str]:
    with ws.ledger.read() as tx:
        frame = assignments_frame(tx, waves(tx, "back:1")[0].wave_id)
    return sorted(frame[frame["arm"] == "talk"]["customer_id"])


def messages(ws: Workspace, customer: str) -> list[tuple[str, str, str]]:
    """Key (without the experiment), state and reason of each message of a customer, in order of time."""
    with ws.ledger.read() as tx:
        rows = customer_history(tx, customer).messages
    return [(row["message_key"].removeprefix("back:1/"), row["state"], row["reason"] or "") for row in rows]


def states(ws: Workspace) -> Counter[tuple[str, str]]:
    entry = show_status(ws, "back")[0]
    total = entry["total"]
    assert total["planned"] == sum(n for fate, n in total.items() if fate != "planned")
    fates = [fate for fate in total if fate != "planned"]
    return Counter({(row["channel"], fate): row[fate] for row in entry["messages"] for fate in fates if row[fate]})


def bounce(ws: Workspace, customers: Iterable[str], at: datetime) -> None:
    told = [
        sendgrid_receipt(
            {
                "event": "bounce",
                "type": "bounce",
                "status": "5.1.1",
                "sg_event_id": f"b-{c}",
                "message_key": f"back:1/{c}/1",
                "timestamp": int(at.timestamp()),
            }
        )
        for c in customers
    ]
    receive_receipts(ws, [receipt for receipt in told if receipt is not None], now=at)


def sms_status(ws: Workspace, status: str, customers: Iterable[str], at: datetime) -> None:
    told = [
        twilio_receipt({"MessageSid": f"SM{c}", "MessageStatus": status}, message_key=f"back:1/{c}/1")
        for c in customers
    ]
    receive_receipts(ws, [receipt for receipt in told if receipt is not None], now=at)


def test_a_bounced_mail_is_followed_by_an_sms_with_the_same_code_and_a_key_of_its_own(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=book("email", "sms"))
    run_campaign(ws, "back", as_of=monday)
    assert deliver(ws, monday).sent == len(talk(ws))
    bounced = talk(ws)[:6]
    bounce(ws, bounced, monday + HOUR)
    assert deliver(ws, monday + 2 * HOUR).sent == 6
    assert messages(ws, bounced[0]) == [
        (f"{bounced[0]}/1", "failed", "bounce"),
        (f"{bounced[0]}/1/sms", "sent", ""),
    ]
    assert messages(ws, talk(ws)[6]) == [(f"{talk(ws)[6]}/1", "sent", "")]
    assert states(ws) == {("email", "sent"): len(talk(ws)) - 6, ("email", "failed"): 6, ("sms", "sent"): 6}
    assert show_status(ws, "back")[0]["fallbacks"] == 6
    with ws.ledger.read() as tx:
        codes = {row["code"] for row in customer_history(tx, bounced[0]).messages}
    assert len(codes) == 1
    assert None not in codes
    told = explain_customer(ws, "back", bounced[0], now=monday + DAY)
    assert "step 1 by email: failed (bounce), step 1 by sms instead: sent" in told["answer"]
    assert any(e["what"].endswith("/1: fallback") and e["why"].startswith("sms") for e in told["events"])


@pytest.mark.parametrize("status", ["undelivered", "failed"])
def test_an_sms_that_could_not_be_delivered_is_followed_by_a_mail(
    shop: Callable[..., Workspace], monday: datetime, status: str
) -> None:
    ws = shop(campaign=book("sms", "email"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    sms_status(ws, status, talk(ws)[:5], monday + HOUR)
    sms_status(ws, "delivered", talk(ws)[5:], monday + HOUR)
    assert deliver(ws, monday + 2 * HOUR).sent == 5
    assert states(ws) == {("sms", "sent"): len(talk(ws)) - 5, ("sms", "failed"): 5, ("email", "sent"): 5}


def test_what_the_provider_refuses_goes_to_the_next_channel_in_the_same_run(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    gone = {f"C{n:04d}" for n in range(0, 60, 4)}
    sms = Refusing("sms", lambda m: m.customer_id in gone)
    ws = with_providers(shop(campaign=book("sms", "email")), sms)
    run_campaign(ws, "back", as_of=monday)
    n = len(gone & set(talk(ws)))
    delivered = deliver(ws, monday)
    assert (delivered.failed, delivered.sent) == (n, len(talk(ws)))
    assert states(ws) == {("sms", "failed"): n, ("sms", "sent"): len(talk(ws)) - n, ("email", "sent"): n}


def test_in_doubt_is_no_proof_so_nothing_follows(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = with_providers(shop(campaign=book("sms", "email")), Refusing("sms", lambda _: True, "unknown"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    assert deliver(ws, monday + 5 * HOUR).sent == 0
    assert states(ws) == {("sms", "in_doubt"): len(talk(ws))}


def test_every_channel_of_the_list_is_tried_in_order_and_one_without_an_address_is_passed_over(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=book("email", "push, sms"))
    (ws.root / "templates/push/hello.json.j2").write_text('{"title": "Hello", "body": "Hello"}', encoding="utf-8")
    ws = with_providers(
        ws,
        Refusing("email", lambda m: m.customer_id >= "C0010"),
        Refusing("push", lambda _: True),
        Refusing("sms", lambda m: m.customer_id >= "C0050"),
    )
    people = [
        "customer_id,created_at,email,phone,push_token,consent_email,consent_sms,consent_push,time_zone,first_name"
    ]
    for n in range(60):
        token = f"T{n}" if n % 2 else ""
        people.append(
            f"C{n:04d},2024-01-01,c{n}@example.com,+4420794600{n:02d},{token},yes,yes,yes,Europe/London,Ann{n}"
        )
    path = ws.root / "again.csv"
    path.write_text("\n".join(people) + "\n", encoding="utf-8")
    load_facts(ws, "customers", [path], renames={}, now=monday)
    ws.facts.refresh()
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    for customer in talk(ws):
        tried = [key.removeprefix(f"{customer}/1") for key, _, _ in messages(ws, customer)]
        fates = [state for _, state, _ in messages(ws, customer)]
        expected = [""]
        if customer >= "C0010":
            expected += ["/push", "/sms"] if int(customer[1:]) % 2 else ["/sms"]
        assert sorted(tried) == sorted(expected)
        assert fates.count("sent") == (0 if customer >= "C0050" else 1)
    states(ws)


def test_who_opted_out_on_the_channel_since_the_plan_gets_the_next_one_and_who_did_on_all_gets_none(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=book("sms", "email"))
    run_campaign(ws, "back", as_of=monday)
    first, second, *rest = talk(ws)
    suppress_customer(ws, first, channel="sms", reason="stop", by="test", at=monday)
    suppress_customer(ws, second, channel="all", reason="stop", by="test", at=monday)
    assert deliver(ws, monday).sent == len(rest) + 1
    assert messages(ws, first) == [(f"{first}/1", "skipped", "suppressed"), (f"{first}/1/email", "sent", "")]
    assert [state for _, state, _ in messages(ws, second)] == ["skipped", "skipped"]


def test_without_a_report_of_delivery_the_next_channel_waits_as_long_as_the_step_says(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=book("sms", "email", step="template: hello, fallback_after: 4 hours,"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    silent = talk(ws)[:7]
    sms_status(ws, "delivered", talk(ws)[7:], monday + HOUR)
    assert deliver(ws, monday + 3 * HOUR).sent == 0
    assert deliver(ws, monday + 4 * HOUR).sent == 7
    assert {len(messages(ws, customer)) for customer in silent} == {2}
    assert deliver(ws, monday + 6 * HOUR).sent == 0
    states(ws)


def test_a_report_that_comes_while_the_next_channel_waits_for_its_window_calls_it_off(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=book("sms", "email", step="template: hello, fallback_after: 11 hours,"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    deliver(ws, monday + 11 * HOUR)  # 20:00: the window is closed until tomorrow
    assert states(ws)["email", "pending"] == len(talk(ws))
    sms_status(ws, "delivered", talk(ws)[:9], monday + 12 * HOUR)
    assert deliver(ws, monday + DAY).sent == len(talk(ws)) - 9
    assert show_status(ws, "back")[0]["skipped"] == {"arrived": 9}


def test_nothing_follows_when_the_message_would_have_been_given_up_by_then(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=book("email", "sms"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    bounce(ws, talk(ws)[:3], monday + 5 * DAY)
    assert deliver(ws, monday + 5 * DAY + HOUR).sent == 0
    assert len(messages(ws, talk(ws)[0])) == 1
    told = explain_customer(ws, "back", talk(ws)[0], now=monday + 6 * DAY)
    assert any(e["what"].endswith("/1: fallback") and e["why"].startswith("too_late") for e in told["events"])


def test_window_budget_and_caps_hold_for_what_follows(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Callable[..., None]
) -> None:
    ws = shop(
        campaign=book(
            "email", "sms", caps="caps: {per_customer: {sms: 1 per 30 days}}\nbudget: {messages: 48}\ntiming:"
        )
    )
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    n, lost = len(talk(ws)), talk(ws)[:10]
    bounce(ws, lost, monday + 10 * HOUR)
    deliver(ws, monday + 10 * HOUR + timedelta(minutes=30))  # 19:30
    assert states(ws)["sms", "pending"] == 10
    rewrite(ws, "{messages: 48}", f"{{messages: {n - 4}}}")
    morning = deliver(ws, monday + DAY)
    # a bounced mail is not counted: of the new budget, four below the customers, six are left for the ten
    assert morning.sent == 6
    assert states(ws)["sms", "skipped"] == 4


def test_control_never_gets_what_follows_either(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = with_providers(shop(campaign=book("email", "sms")), Refusing("email", lambda _: True))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    with ws.ledger.read() as tx:
        frame = assignments_frame(tx, waves(tx, "back:1")[0].wave_id)
        control = frame[frame["arm"] == "control"]["customer_id"].tolist()
        assert control
        assert not any(customer_history(tx, customer).messages for customer in control)


def test_a_condition_holds_for_what_follows_too(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(campaign=book("email", "sms", step="template: hello, unless: purchased,"))
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    bounce(ws, talk(ws)[:6], monday + HOUR)
    lines = ["order_id,customer_id,ordered_at,amount"]
    lines += [f"X{c},{c},{(monday + HOUR).isoformat()},10" for c in talk(ws)[:2]]
    path = ws.root / "bought.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    load_facts(ws, "orders", [path], renames={}, now=monday + HOUR)
    later = deliver(ws, monday + 2 * HOUR)
    assert (later.sent, later.skipped["purchased"]) == (4, 2)


def test_what_follows_leaves_no_later_than_the_code_that_it_shows_holds(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(campaign=book("email", "sms"))
    offers = ws.root / "campaigns/book/offers.yaml"
    text = offers.read_text(encoding="utf-8").replace("kind: generated, prefix: T", "kind: pool, pool: spring")
    offers.write_text(text, encoding="utf-8")
    codes = ws.root / "codes.csv"
    codes.write_text("".join(f"SPRING-{n:03d}\n" for n in range(60)), encoding="utf-8")
    import_code_file(ws, "spring", codes, expires_on=(monday + DAY).date(), now=monday - DAY, actor="test")
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    bounce(ws, talk(ws)[:4], monday + HOUR)
    deliver(ws, monday + 11 * HOUR)  # 20:00: the window is closed until tomorrow, the last day of the codes
    assert states(ws)["sms", "pending"] == 4
    assert deliver(ws, monday + 2 * DAY).sent == 0
    assert show_status(ws, "back")[0]["skipped"] == {"expired": 4}
