"""The outbox's verbs: what is claimed, intended, settled, swept, moved and given back, and what is refused."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
import sqlalchemy as sa

from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.history import message_history
from warehouse.ledger.messages import due_lanes
from warehouse.ledger.outbox import (
    Settlement,
    counts,
    in_doubt,
    intend,
    late_messages,
    move,
    release,
    settle,
    skip,
    sweep,
)
from warehouse.ledger.suppressions import suppress
from warehouse.ledger.switches import EVERYTHING, pause

from .story import DAY, HOUR, MINUTE, T0, keys_of, record, send, start, states, take

NOW = T0 + HOUR


@pytest.fixture
def experiment_id(ledger: Ledger) -> str:
    """A running experiment with 9 messages: 6 SMS due at NOW, 3 e-mails four days after T0."""
    name = start(ledger)
    record(ledger, name)
    return name


def test_a_message_goes_from_pending_over_claimed_and_sending_to_sent(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger)
    assert len(claimed) == 6
    assert states(ledger) == {"pending": 3, "claimed": 6}
    assert take(ledger, worker="w2") == []
    keys = keys_of(claimed)
    assert intend(ledger, keys, "w1", claimed[0].fence, NOW) == keys
    assert states(ledger) == {"pending": 3, "sending": 6}
    done = settle(ledger, [Settlement(message_key=key, state="sent", provider="local") for key in keys], NOW)
    assert (done.applied, done.ignored) == (6, ())
    with ledger.read() as tx:
        total = counts(tx, experiment_id).total
    assert total == {"planned": 9, "sent": 6, "failed": 0, "skipped": 0, "in_doubt": 0, "pending": 3}


def test_a_claim_carries_what_dispatch_needs(ledger: Ledger, experiment_id: str) -> None:
    (first, *_) = take(ledger, limit=1)
    assert (first.message_key, first.experiment_id, first.campaign) == (
        f"{experiment_id}/c000000/1",
        "winback:1",
        "winback",
    )
    assert (first.customer_id, first.step, first.arm, first.channel) == ("c000000", 1, "offer", "sms")
    assert (first.template, first.offer, first.code, first.locale, first.unless) == ("offer_1", None, None, None, None)
    assert first.zones == ("Europe/London",)
    assert (first.not_before, first.closes_at, first.expires_at) == (NOW, NOW + 8 * HOUR, NOW + 10 * DAY)
    assert (first.attempts, first.cost_micros, first.assigned_at) == (0, 50_000, T0)
    assert (first.fence, first.lease_until) == (1, NOW + 10 * MINUTE)


def test_only_who_holds_the_lease_and_the_fence_may_send(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger)
    keys = keys_of(claimed)
    fence = claimed[0].fence
    assert intend(ledger, keys, "w2", fence, NOW) == []
    assert intend(ledger, keys, "w1", fence + 1, NOW) == []
    assert intend(ledger, keys, "w1", fence, NOW + 10 * MINUTE) == []
    assert intend(ledger, keys, "w1", fence, NOW + 9 * MINUTE, margin=2 * MINUTE) == []
    assert intend(ledger, keys[:2], "w1", fence, NOW) == keys[:2]
    assert intend(ledger, keys, "w1", fence, NOW) == keys[2:]
    assert intend(ledger, [], "w1", fence, NOW) == []


def test_a_worker_that_wakes_after_its_lease_sends_nothing(ledger: Ledger, experiment_id: str) -> None:
    stale = take(ledger, worker="frozen")
    later = NOW + HOUR
    assert sweep(ledger, later).released == 6
    fresh = take(ledger, now=later, worker="w2")
    assert keys_of(fresh) == keys_of(stale)
    assert fresh[0].fence > stale[0].fence
    assert intend(ledger, keys_of(stale), "frozen", stale[0].fence, later) == []
    # even under the same worker name
    assert intend(ledger, keys_of(stale), "w2", stale[0].fence, later) == []
    assert skip(ledger, dict.fromkeys(keys_of(stale), "x"), later, worker="frozen", fence=stale[0].fence) == 0
    assert release(ledger, keys_of(stale), "frozen", stale[0].fence, later) == 0
    assert intend(ledger, keys_of(fresh), "w2", fresh[0].fence, later) == keys_of(fresh)


@pytest.mark.parametrize("what", ["suppressed", "suppressed everywhere", "paused", "all paused", "closed", "expired"])
def test_an_intent_is_refused_once_the_message_may_not_leave_any_more(
    ledger: Ledger, experiment_id: str, what: str
) -> None:
    claimed = take(ledger, lease=30 * DAY)
    now, refused = NOW, set(keys_of(claimed))
    match what:
        case "suppressed":
            suppress(ledger, claimed[0].customer_id, "sms", "stop", "test", NOW)
            refused = {claimed[0].message_key}
        case "suppressed everywhere":
            suppress(ledger, claimed[0].customer_id, "all", "manual", "test", NOW)
            refused = {claimed[0].message_key}
        case "paused":
            pause(ledger, "winback", by="me", reason="test", at=NOW)
        case "all paused":
            pause(ledger, EVERYTHING, by="me", reason="test", at=NOW)
        case "closed":
            now = NOW + 8 * HOUR
        case "expired":
            now = NOW + 10 * DAY
    assert set(intend(ledger, keys_of(claimed), "w1", claimed[0].fence, now)) == set(keys_of(claimed)) - refused


def test_another_campaigns_pause_does_not_stop_an_intent(ledger: Ledger, experiment_id: str) -> None:
    pause(ledger, "other", by="me", reason="test", at=NOW)
    claimed = take(ledger)
    assert intend(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW) == keys_of(claimed)


def test_a_sweep_gives_claims_back_doubts_intents_and_skips_what_expired(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger)
    intend(ledger, [claimed[0].message_key], "w1", claimed[0].fence, NOW)
    assert (nothing := sweep(ledger, NOW + MINUTE)).released + nothing.in_doubt + nothing.expired == 0
    swept = sweep(ledger, NOW + HOUR)
    assert (swept.released, swept.in_doubt, swept.expired) == (5, 1, 0)
    assert sweep(ledger, T0 + 20 * DAY).expired == 8
    with ledger.read() as tx:
        total = counts(tx, experiment_id)
        (doubtful,) = in_doubt(tx)
        assert in_doubt(tx, channel="email") == []
    assert total.skipped == {"expired": 8}
    assert (doubtful.message_key, doubtful.attempts, doubtful.reason) == (claimed[0].message_key, 1, "lease_ended")
    assert (doubtful.intent_at, doubtful.since) == (NOW, NOW + HOUR)


def test_a_message_in_doubt_is_never_claimed_again_until_somebody_knows(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger)
    intend(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW)
    later = NOW + HOUR
    sweep(ledger, later)
    assert take(ledger, now=later) == []
    told = [
        Settlement(message_key=keys_of(claimed)[0], state="sent", reason="listed by the provider"),
        Settlement(message_key=keys_of(claimed)[1], state="pending", reason="not listed", not_before=later + HOUR),
        Settlement(message_key=keys_of(claimed)[2], state="failed", reason="given up"),
    ]
    assert settle(ledger, told, later).applied == 3
    assert states(ledger) == {"pending": 4, "in_doubt": 3, "sent": 1, "failed": 1}
    assert take(ledger, now=later) == []
    assert keys_of(take(ledger, now=later + HOUR)) == [keys_of(claimed)[1]]


def test_a_transient_refusal_waits_and_counts_the_attempt(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger, limit=1)
    (key,) = intend(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW)
    retry = Settlement(message_key=key, state="pending", reason="429", not_before=NOW + 5 * MINUTE, fence=1)
    assert settle(ledger, [retry], NOW).applied == 1
    assert key not in keys_of(take(ledger, now=NOW + 4 * MINUTE))
    (again,) = take(ledger, now=NOW + 5 * MINUTE)
    assert (again.message_key, again.attempts, again.fence) == (key, 1, 2)


def test_news_of_a_lost_lease_is_believed_only_if_the_provider_took_the_message(
    ledger: Ledger, experiment_id: str
) -> None:
    stale = take(ledger, worker="frozen", limit=2)
    one, two = intend(ledger, keys_of(stale), "frozen", stale[0].fence, NOW)
    later = NOW + HOUR
    sweep(ledger, later)
    settle(ledger, [Settlement(message_key=key, state="pending", reason="same key") for key in (one, two)], later)
    fresh = {message.message_key: message for message in take(ledger, now=later, worker="w2")}
    intend(ledger, [one, two], "w2", fresh[one].fence, later)
    refusals = [
        Settlement(message_key=one, state="pending", fence=stale[0].fence),
        Settlement(message_key=two, state="failed", reason="400", fence=stale[0].fence),
        Settlement(message_key=two, state="in_doubt", reason="timeout", fence=stale[0].fence),
    ]
    assert settle(ledger, refusals, later).ignored == (one, two, two)
    accepted = Settlement(message_key=one, state="sent", provider="local", fence=stale[0].fence)
    assert settle(ledger, [accepted], later).applied == 1
    assert states(ledger)["sent"] == 1
    assert states(ledger)["sending"] == 1


def test_receipts_in_any_order_end_in_the_same_state(ledger: Ledger) -> None:
    news = {
        "sent": {
            "provider": "local",
            "provider_id": "SM1",
            "provider_code": "202",
            "cost_micros": 70_000,
            "segments": 2,
        },
        "delivered": {"provider": "local", "provider_id": "SM1", "provider_code": "delivered", "event_key": "d"},
        "failed": {
            "provider": "local",
            "provider_id": "SM1",
            "provider_code": "30003",
            "reason": "gone",
            "event_key": "f",
        },
    }
    subsets = [c for n in (1, 2, 3) for c in itertools.combinations(news, n)]
    orders = [(subset, order) for subset in subsets for order in itertools.permutations(subset)]
    experiment_id = start(ledger)
    record(ledger, experiment_id, len(orders), arms=("offer",), rows=50)
    claimed = take(ledger)
    intend(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW)
    ends: dict[tuple[str, ...], set[tuple[object, ...]]] = {}
    for (subset, order), key in zip(orders, keys_of(claimed), strict=True):
        for state in order:
            given = {**news[state]}
            if "event_key" in given:
                given["event_key"] = f"{given['event_key']}-{key}"
            for _ in range(2):
                settle(ledger, [Settlement(message_key=key, state=state, **given)], NOW)
        columns = "state, reason, provider, provider_id, provider_code, cost_micros, segments, lease_owner"
        with ledger.read() as tx:
            end = tx.execute(sa.text(f"SELECT {columns} FROM outbox WHERE message_key = :key"), {"key": key}).one()
        ends.setdefault(subset, set()).add(tuple(end))
    assert all(len(found) == 1 for found in ends.values())
    assert ends[("sent", "delivered", "failed")] == {
        ("failed", "gone", "local", "SM1", "30003", 70_000, 2, None),
    }


def test_an_event_told_many_times_counts_once(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger, limit=1)
    send(ledger, claimed)
    (key,) = keys_of(claimed)
    news = [Settlement(message_key=key, state="delivered", event_key="sg-1", at=NOW + MINUTE) for _ in range(46)]
    first = settle(ledger, news, NOW + HOUR)
    second = settle(ledger, news, NOW + HOUR)
    assert (first.applied, len(first.ignored)) == (1, 45)
    assert (second.applied, len(second.ignored)) == (0, 46)
    with ledger.read() as tx:
        history = message_history(tx, key)
    assert [(line["event"], line["applied"], line["at"]) for line in history] == [
        ("sent", True, NOW),
        ("delivered", True, NOW + MINUTE),
    ]


def test_a_history_tells_attempt_worker_and_codes(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger, limit=1)
    (key,) = intend(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW)
    news = Settlement(
        message_key=key, state="failed", reason="30006", provider="twilio", provider_id="SM1", provider_code="30006"
    )
    settle(ledger, [news], NOW + MINUTE)
    settle(ledger, [Settlement(message_key=key, state="sent")], NOW + HOUR)
    with ledger.read() as tx:
        first, second = message_history(tx, key)
    assert (first["event"], first["state"], first["applied"], first["reason"]) == ("failed", "failed", True, "30006")
    assert (first["began_at"], first["at"], first["attempt"], first["worker"]) == (NOW, NOW + MINUTE, 1, "w1")
    assert (first["provider"], first["provider_id"], first["provider_code"]) == ("twilio", "SM1", "30006")
    assert (second["event"], second["state"], second["applied"]) == ("sent", "failed", False)


def test_news_of_an_unknown_message_is_an_error_and_nothing_is_recorded(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger, limit=1)
    known = Settlement(message_key=keys_of(claimed)[0], state="sent")
    with pytest.raises(LedgerError, match="no message winback:1/nobody/1"):
        settle(ledger, [known, Settlement(message_key="winback:1/nobody/1", state="sent")], NOW)
    assert states(ledger) == {"pending": 8, "claimed": 1}


def test_skipping_gives_up_pending_and_claimed_messages_only(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger, limit=3)
    intend(ledger, keys_of(claimed)[:1], "w1", claimed[0].fence, NOW)
    pending = "winback:1/c000001/2"
    reasons = dict.fromkeys((*keys_of(claimed), pending), "purchased")
    assert skip(ledger, reasons, NOW) == 3
    assert skip(ledger, reasons, NOW) == 0
    assert states(ledger) == {"pending": 5, "skipped": 3, "sending": 1}
    with ledger.read() as tx:
        assert counts(tx, experiment_id).skipped == {"purchased": 3}


def test_released_messages_may_be_claimed_again_at_once(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger)
    assert release(ledger, keys_of(claimed), "w2", claimed[0].fence, NOW) == 0
    assert release(ledger, keys_of(claimed), "w1", claimed[0].fence, NOW, reason="breaker_open") == 6
    assert keys_of(take(ledger, worker="w2")) == keys_of(claimed)


def test_a_late_message_moves_to_its_next_slot_or_is_given_up(ledger: Ledger, experiment_id: str) -> None:
    later = NOW + 9 * HOUR
    assert take(ledger, now=later) == []
    with ledger.read() as tx:
        late = late_messages(tx, later)
        assert len(late_messages(tx, later, limit=4)) == 4
        assert late_messages(tx, later, experiments=["other:1"]) == []
        assert late_messages(tx, NOW) == []
    assert len(late) == 6
    assert (late[0].zones, late[0].closes_at) == (("Europe/London",), NOW + 8 * HOUR)
    slot = (T0 + DAY, T0 + DAY + 8 * HOUR)
    keys = [message.message_key for message in late]
    assert move(ledger, dict.fromkeys(keys[:4], slot), later) == 4
    assert skip(ledger, dict.fromkeys(keys[4:], "too_late"), later) == 2
    assert take(ledger, now=later) == []
    assert keys_of(take(ledger, now=T0 + DAY)) == keys[:4]


def test_a_claimed_message_may_be_moved_by_who_holds_it(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger)
    slot = (T0 + DAY, T0 + DAY + 8 * HOUR)
    wrong, right = dict.fromkeys(keys_of(claimed), slot), dict.fromkeys(keys_of(claimed)[:2], slot)
    assert move(ledger, wrong, NOW, fence=claimed[0].fence + 1) == 0
    assert move(ledger, right, NOW, fence=claimed[0].fence, reason="quiet_hours") == 2
    assert states(ledger) == {"pending": 5, "claimed": 4}
    with ledger.read() as tx:
        (line,) = message_history(tx, keys_of(claimed)[0])
    assert (line["event"], line["reason"]) == ("moved", "quiet_hours")


def test_counts_show_every_message_once_by_arm_channel_and_reason(ledger: Ledger, experiment_id: str) -> None:
    claimed = take(ledger)
    offers = [m for m in claimed if m.arm == "offer"]
    send(ledger, offers[:1])
    skip(ledger, {offers[1].message_key: "no_address"}, NOW)
    with ledger.read() as tx:
        found = counts(tx, experiment_id)
        assert counts(tx, "nothing:1").total["planned"] == 0
    assert found.cells == {
        ("offer", "sms", "claimed", ""): 1,
        ("offer", "sms", "sent", ""): 1,
        ("offer", "sms", "skipped", "no_address"): 1,
        ("points", "email", "pending", ""): 3,
        ("points", "sms", "claimed", ""): 3,
    }
    assert found.by_arm == {
        "offer": {"planned": 3, "sent": 1, "failed": 0, "skipped": 1, "in_doubt": 0, "pending": 1},
        "points": {"planned": 6, "sent": 0, "failed": 0, "skipped": 0, "in_doubt": 0, "pending": 6},
    }
    assert found.by_arm_and_channel[("points", "email")]["pending"] == 3
    assert found.skipped == {"no_address": 1}


def test_claims_and_sweeps_read_from_an_index_however_many_messages_there_are(sqlite_ledger: Ledger) -> None:
    record(sqlite_ledger, start(sqlite_ledger))
    seen: list[tuple[str, object]] = []
    sa.event.listen(
        sqlite_ledger.engine, "before_cursor_execute", lambda _c, _k, sql, values, *_: seen.append((sql, values))
    )
    sweep(sqlite_ledger, NOW)
    take(sqlite_ledger)
    reads = [(sql, values) for sql, values in seen if sql.startswith("SELECT") and "FROM outbox" in sql]
    with sqlite_ledger.read() as tx:
        due_lanes(tx, NOW)
        for sql, values in reads:
            plan = [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
            assert not [step for step in plan if step.startswith("SCAN outbox")], (sql, plan)
    assert len(reads) >= 3


def test_a_sweep_of_many_goes_in_bounded_transactions(sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse.ledger.outbox._CHUNK", 4)
    record(sqlite_ledger, start(sqlite_ledger), 30)
    take(sqlite_ledger)
    assert sweep(sqlite_ledger, NOW + HOUR).released == 20
    assert sweep(sqlite_ledger, NOW + timedelta(days=30)).expired == 30
