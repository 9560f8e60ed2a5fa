"""Receiving: receipts in any order and repetition, files of events, and messages settled by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.errors import ChannelError
from channels.message import CHANNELS, Address, Channel, Outgoing
from channels.provider import Capability, SendResult
from channels.receipts import Inbound, Receipt, sendgrid_receipts, twilio_receipt
from flows.steps.deliver_messages import deliver_messages
from flows.steps.load_facts import load_facts
from flows.steps.receive_receipts import Received, receive_early, receive_inbound, receive_receipts
from flows.steps.replay_events import replay_events
from flows.steps.resolve_message import resolve_message
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from warehouse.facts.errors import FactsError
from warehouse.ledger.audit import audit_log
from warehouse.ledger.early_receipts import early_receipts
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.history import customer_history, message_history
from warehouse.ledger.outbox import Settled, Settlement, settle

from .conftest import CAMPAIGN

HOUR = timedelta(hours=1)
Shop = Callable[..., Workspace]


def keys_of(ws: Workspace, monday: datetime, *, send: bool = True) -> list[str]:
    """Messages of the campaign, sent or still pending, in their order."""
    run_campaign(ws, "back", as_of=monday)
    if send:
        deliver_messages(ws, now=monday, worker="test")
    customers = [f"C{n:04d}" for n in range(60)]
    return [str(m["message_key"]) for c in customers for m in story(ws, c).messages if m["step"] == 1]


def story(ws: Workspace, customer: str) -> Any:
    with ws.ledger.read() as tx:
        return customer_history(tx, customer)


def receipts_about(key: str, name: str) -> list[Receipt]:
    """Everything providers could say about a message, contradictions included."""
    statuses = ("queued", "sent", "delivered", "undelivered")
    fields = [{"MessageSid": f"SM{name}", "MessageStatus": s, "ErrorCode": "30006"} for s in statuses]
    told = [twilio_receipt(f, message_key=key) for f in fields]
    kinds = ("processed", "deferred", "delivered", "open", "click", "bounce", "spamreport", "group_unsubscribe")
    events = [
        {"event": k, "sg_event_id": f"E{name}{k}", "sg_message_id": f"SM{name}", "message_key": key} for k in kinds
    ]
    return [receipt for receipt in told if receipt is not None] + sendgrid_receipts(events)[0]


def ending(ws: Workspace, key: str) -> Any:
    """State, provider's id and active suppressions of a message and its customer."""
    told = story(ws, key.split("/")[1])
    message = next(m for m in told.messages if m["message_key"] == key)
    wishes = {(s["channel"], s["reason"]) for s in told.suppressions if s["released_at"] is None}
    return message["state"], message["provider_id"], wishes


def test_a_callback_without_our_key_finds_its_message_by_the_providers_id(shop: Shop, monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    texts = [
        m for n in range(60) for m in story(ws, f"C{n:04d}").messages if (m["channel"], m["state"]) == ("sms", "sent")
    ]
    chosen = str(texts[3]["message_key"])
    settle(
        ws.ledger,
        [Settlement(message_key=chosen, state="delivered", provider="twilio", provider_id="SM77")],
        monday,
    )
    fields = {"MessageSid": "SM77", "MessageStatus": "failed", "ErrorCode": "30006"}
    receipt = twilio_receipt(fields, message_key=None)
    stranger = twilio_receipt({**fields, "MessageSid": "SM78"}, message_key=None)
    assert receipt is not None
    assert stranger is not None
    told = receive_receipts(ws, [receipt, stranger], now=monday + HOUR)
    assert (told.applied, told.unknown, told.suppressed) == (1, 1, 1)
    assert ending(ws, chosen) == ("failed", "SM77", {("sms", "bounce")})


class Hasty:
    """A provider whose callbacks, which name a message by its own id alone, come before its answers."""

    name, channel = "twilio", "sms"
    capability: Capability = "N"

    def __init__(self, ws: Workspace, statuses: Sequence[str], *, answers: bool = True) -> None:
        self.ws, self.statuses, self.answers = ws, statuses, answers

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        for message in batch:
            fields = [{"MessageSid": self.id_of(message), "MessageStatus": s} for s in self.statuses]
            told = [twilio_receipt({**each, "ErrorCode": "30006"}, message_key=None) for each in fields]
            found = [receipt for receipt in told if receipt is not None]
            assert receive_receipts(self.ws, [*found, *found], now=now) == Received(unknown=2 * len(found))
        if not self.answers:
            return [SendResult(m.key, "unknown", code="timeout") for m in batch]
        return [SendResult(m.key, "accepted", self.id_of(m)) for m in batch]

    def id_of(self, message: Outgoing) -> str:
        return f"SM{message.customer_id}"

    async def close(self) -> None:
        """Nothing is held open."""


def send_hastily(ws: Workspace, monday: datetime, *statuses: str, answers: bool = True) -> str:
    """Send the campaign's first SMS by such a provider; give its key."""
    sms: Any = Hasty(ws, statuses, answers=answers)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(replace(ws, providers={**ws.providers, "sms": sms}), now=monday, worker="test", limit=20)
    texts = [m for n in range(60) for m in story(ws, f"C{n:04d}").messages if m["channel"] == "sms" and m["attempts"]]
    return str(texts[0]["message_key"])


def kept(ws: Workspace) -> int:
    with ws.ledger.read() as tx:
        return len(early_receipts(tx))


@pytest.mark.parametrize("last", ["delivered", "undelivered"])
def test_a_callback_without_our_key_that_comes_before_the_answer_is_not_lost(
    shop: Shop, monday: datetime, last: str
) -> None:
    ws = shop(campaign=CAMPAIGN.replace("channel: email", "channel: sms"))
    key = send_hastily(ws, monday, "queued", "sent", last)
    state, provider_id, wishes = ending(ws, key)
    assert (state, provider_id) == ("delivered" if last == "delivered" else "failed", f"SM{key.split('/')[1]}")
    assert wishes == (set() if last == "delivered" else {("sms", "bounce")})
    assert kept(ws) == 0


def test_what_came_early_is_kept_while_its_message_is_in_doubt_and_no_longer_than_two_hours(
    shop: Shop, monday: datetime
) -> None:
    ws = shop(campaign=CAMPAIGN.replace("channel: email", "channel: sms"))
    key = send_hastily(ws, monday, "delivered", answers=False)
    assert ending(ws, key)[0] == "in_doubt"
    n = kept(ws)
    assert n > 1
    found = Settlement(message_key=key, state="sent", provider="twilio", provider_id=f"SM{key.split('/')[1]}")
    settle(ws.ledger, [found], monday + HOUR)
    assert receive_early(ws, now=monday + HOUR) == Received(applied=1)
    assert ending(ws, key)[0] == "delivered"
    assert kept(ws) == n - 1
    receive_early(ws, now=monday + 3 * HOUR)
    assert kept(ws) == 0


def test_callbacks_about_messages_that_others_sent_by_the_account_are_not_kept(shop: Shop, monday: datetime) -> None:
    ws = shop()
    keys_of(ws, monday)
    stranger = twilio_receipt({"MessageSid": "SM78", "MessageStatus": "delivered"}, message_key=None)
    assert stranger is not None
    assert receive_receipts(ws, [stranger], now=monday) == Received(unknown=1)
    assert kept(ws) == 0


@pytest.mark.parametrize("sent", [True, False])
def test_any_order_and_repetition_of_receipts_ends_the_same(shop: Shop, monday: datetime, sent: bool) -> None:
    """Each example takes a message of its own, and another one that hears the same in its natural order."""
    ws = shop(customers=240)
    run_campaign(ws, "back", as_of=monday)
    if sent:
        deliver_messages(ws, now=monday, worker="test")
    fresh = iter([str(m["message_key"]) for n in range(240) for m in story(ws, f"C{n:04d}").messages if m["step"] == 1])

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        first, second = next(fresh, None), next(fresh, None)
        if first is None or second is None:
            return
        numbers = range(len(receipts_about(first, "x")))
        chosen = data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=12))
        cuts = data.draw(st.lists(st.integers(0, len(chosen)), max_size=3).map(sorted))
        jumbled = [receipts_about(first, f"a{first[-7:-2]}")[number] for number in chosen]
        for start, end in zip([0, *cuts], [*cuts, len(chosen)], strict=True):
            receive_receipts(ws, jumbled[start:end], now=monday + HOUR)
        straight = [receipts_about(second, f"b{second[-7:-2]}")[number] for number in sorted(set(chosen))]
        receive_receipts(ws, straight, now=monday + HOUR)
        (state, _, wishes), (other_state, _, other_wishes) = ending(ws, first), ending(ws, second)
        assert (state, wishes) == (other_state, other_wishes)
        before = ending(ws, first)
        again = receive_receipts(ws, jumbled, now=monday + 2 * HOUR)
        assert (again.applied, again.suppressed, ending(ws, first)) == (0, 0, before)

    check()


def test_one_event_leaves_one_line_however_often_it_comes(shop: Shop, monday: datetime) -> None:
    ws = shop()
    key = keys_of(ws, monday)[0]
    receipts = receipts_about(key, "x")[:3]
    assert receive_receipts(ws, receipts * 5, now=monday).applied == 1
    with ws.ledger.read() as tx:
        lines = [line["event_key"] for line in message_history(tx, key) if line["event_key"]]
    assert sorted(lines) == sorted({receipt.event_key for receipt in receipts})


def test_receipts_of_no_message_are_counted(shop: Shop, monday: datetime) -> None:
    ws = shop()
    receipts = receipts_about("gone:1/C0001/1", "x")[:2]
    assert receive_receipts(ws, receipts, now=monday) == Received(unknown=2)
    assert receive_receipts(ws, [], now=monday) == Received()


def test_a_receipt_that_comes_before_the_answer_counts(shop: Shop, monday: datetime) -> None:
    ws = shop()
    key = keys_of(ws, monday, send=False)[0]
    receipt = twilio_receipt({"MessageSid": "SM1", "MessageStatus": "delivered"}, message_key=key)
    assert receipt is not None
    assert receive_receipts(ws, [receipt], now=monday).applied == 1
    deliver_messages(ws, now=monday, worker="test")
    assert ending(ws, key)[0] == "delivered"


def test_a_number_that_two_customers_share_stops_both(shop: Shop, monday: datetime) -> None:
    ws = shop()
    moved = ws.root / "moved.csv"
    moved.write_text("customer_id,phone\nC0009,+442079460007\n", encoding="utf-8")
    load_facts(ws, "customers", [moved], renames={}, now=monday)
    stop = Inbound(Address("sms", "+442079460007"), "stop", "twilio:SM1:inbound")
    assert receive_inbound(ws, stop, now=monday).customers == 2
    assert receive_inbound(ws, stop, now=monday).changed == 0
    assert [s["reason"] for c in ("C0007", "C0009") for s in story(ws, c).suppressions] == ["stop", "stop"]


def test_facts_that_cannot_be_asked_are_named_without_the_number(
    shop: Shop, monday: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = shop()

    def fail(*_: object) -> None:
        raise FactsError("no such number +442079460007")

    monkeypatch.setattr(type(ws.facts), "frame", fail)
    with pytest.raises(FactsError) as caught:
        receive_inbound(ws, Inbound(Address("sms", "+442079460007"), "stop", "e"), now=monday)
    assert "7946" not in str(caught.value)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_of_events_is_recorded_line_by_line_or_as_a_list(shop: Shop, monday: datetime, tmp_path: Path) -> None:
    ws = shop()
    key = keys_of(ws, monday)[0]
    events: list[dict[str, Any]] = [
        {"MessageSid": "SM1", "MessageStatus": "delivered", "m": key},
        {"MessageSid": "SM1", "MessageStatus": "receiving", "m": key},
        {"MessageSid": "SM2", "From": "+442079460007", "Body": "STOP"},
        {"event": "spamreport", "sg_event_id": "E1", "message_key": key},
        {"event": "open", "sg_event_id": "E2"},
    ]
    lines, whole = tmp_path / "events.jsonl", tmp_path / "events.json"
    lines.write_text("\n".join(map(json.dumps, events)) + "\n\n", encoding="utf-8")
    whole.write_text(json.dumps(events), encoding="utf-8")
    assert replay_events(ws, lines, now=monday).to_json() == {
        "events": 5, "applied": 1, "known": 1, "unknown": 1, "suppressed": 2, "silent": 1, "inbound": 1,
    }  # fmt: skip
    again = replay_events(ws, whole, now=monday)
    assert (again.applied, again.known, again.suppressed) == (0, 2, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [('{"a": 1}\n{\n', "jsonl:2: not JSON"), ("[1]", "event 1: expected"), ("[", "not JSON"),
     ('{"a": 1}\n{"MessageSid": "+1"}\n', "event 2: an inbound SMS")],
)  # fmt: skip
def test_a_broken_file_is_named_with_its_place_and_nothing_is_recorded(
    shop: Shop, monday: datetime, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ChannelError, match=says):
        replay_events(shop(), file, now=monday)


class SilentProvider:
    """Takes messages and never says what it did with them."""

    name = "silent"
    channel: Channel = "sms"
    capability: Capability = "N"

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        self.seen += [message.key for message in batch]
        return [SendResult(message.key, "unknown", code="timeout") for message in batch]

    async def close(self) -> None:
        """Nothing is held open."""


# --- by hand --------------------------------------------------------------------------------------------------------


def test_a_person_settles_what_is_in_doubt_on_the_record(shop: Shop, monday: datetime) -> None:
    ws = shop()
    keys = keys_of(ws, monday, send=False)
    silent = SilentProvider()
    deliver_messages(replace(ws, providers=dict.fromkeys(CHANNELS, silent)), now=monday, worker="test", limit=2)
    first, second = silent.seen
    third = next(key for key in keys if key not in silent.seen)
    resolve_message(ws, first, "sent", by="ann", at=monday)
    resolve_message(ws, second, "failed", by="ann", at=monday)
    assert [ending(ws, key)[0] for key in (first, second)] == ["sent", "failed"]
    with ws.ledger.read() as tx:
        (line,) = audit_log(tx, subject=first)
    assert (line.actor, line.action, line.detail) == ("ann", "resolve", {"outcome": "sent"})
    for key, outcome, says in (
        (first, "sent", "is sent; only messages in doubt"),
        (third, "failed", "is pending"),
        ("x", "sent", "no message x"),
        (third, "lost", "expected one of sent, failed"),
    ):
        with pytest.raises(LedgerError, match=says):
            resolve_message(ws, key, outcome, by="ann", at=monday)


@pytest.mark.parametrize("outcome", ["failed", "sent"])
def test_what_a_person_says_of_an_attempt_does_not_hold_for_the_next_one(
    shop: Shop, monday: datetime, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """Between the look and the word a worker asked the provider in vain, and is sending the message once more."""
    ws = shop()
    keys_of(ws, monday, send=False)
    silent = SilentProvider()
    deliver_messages(replace(ws, providers=dict.fromkeys(CHANNELS, silent)), now=monday, worker="test", limit=1)
    (key,) = silent.seen

    def settle_too_late(ledger: Ledger, news: Iterable[Settlement], at: datetime) -> Settled:
        settle(ledger, [Settlement(message_key=key, state="pending", reason="not_at_provider")], at)
        deliver_messages(ws, now=monday, worker="another")
        return settle(ledger, news, at)

    monkeypatch.setattr("flows.steps.resolve_message.settle", settle_too_late)
    with pytest.raises(LedgerError, match="has become sent meanwhile; nothing was changed"):
        resolve_message(ws, key, outcome, by="ann", at=monday)
    assert ending(ws, key)[0] == "sent"
    with ws.ledger.read() as tx:
        assert audit_log(tx, subject=key) == []
