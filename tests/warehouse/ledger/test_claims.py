"""Claiming: who may be written to now, under caps and budgets, lane by lane."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.exits import record_exits
from warehouse.ledger.history import customer_history, message_history
from warehouse.ledger.outbox import CampaignRules, Cap, Settlement, counts, intend, release, settle, skip, sweep
from warehouse.ledger.schema import COUNTED, budgets, outbox
from warehouse.ledger.suppressions import release_suppression, suppress
from warehouse.ledger.switches import EVERYTHING, pause, resume

from .story import DAY, HOUR, MINUTE, T0, keys_of, record, send, start, states, take

NOW = T0 + HOUR


def used(ledger: Ledger, campaign: str = "winback") -> tuple[int, int]:
    """What the campaign's books say it has used up; equal to what its messages add up to."""
    with ledger.read() as tx:
        row = tx.execute(sa.select(budgets).where(budgets.c.campaign == campaign)).one()
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(outbox.c.cost_micros), 0)).where(
            outbox.c.experiment_id.like(f"{campaign}:%"), outbox.c.state.in_(COUNTED)
        )
        assert (row.messages, row.cost_micros) == tuple(map(int, tx.execute(query).one()))
        return row.messages, row.cost_micros


@pytest.mark.parametrize(
    ("now", "n"),
    [
        (T0, 0),
        (NOW - timedelta(microseconds=1), 0),
        (NOW, 6),
        (NOW + 8 * HOUR - timedelta(microseconds=1), 6),
        (NOW + 8 * HOUR, 0),
    ],
)
def test_a_slot_is_open_from_its_first_instant_up_to_its_end(ledger: Ledger, now: object, n: int) -> None:
    record(ledger, start(ledger))
    assert len(take(ledger, now=now)) == n


def test_a_suppressed_customer_is_skipped_with_a_reason(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id)
    suppress(ledger, "c000000", "sms", "stop", "inbound", T0)
    suppress(ledger, "c000001", "all", "manual", "desk", T0)
    suppress(ledger, "c000003", "email", "unsubscribe", "page", T0)
    suppress(ledger, "c000004", "sms", "bounce", "receipt", T0)
    release_suppression(ledger, "c000004", "sms", source="inbound", at=T0)
    assert {message.customer_id for message in take(ledger)} == {"c000003", "c000004", "c000006", "c000007"}
    with ledger.read() as tx:
        assert counts(tx, experiment_id).skipped == {"suppressed": 2}
        (line,) = message_history(tx, "winback:1/c000000/1")
    assert (line["event"], line["reason"], line["worker"], line["at"]) == ("skipped", "suppressed", "w1", NOW)


def test_a_customer_who_left_gets_no_step_meant_for_those_who_did_not(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 6, unless="purchased")
    record(ledger, experiment_id, 3, first=6, at=T0 + MINUTE)
    waiting = ["c000000", "c000001", "c000006"]
    assert record_exits(ledger, experiment_id, waiting, reason="purchased", at=NOW) == 3
    assert record_exits(ledger, experiment_id, waiting, reason="purchased", at=NOW) == 0
    assert {message.customer_id for message in take(ledger, now=NOW + MINUTE)} == {
        "c000003",
        "c000004",
        "c000006",
        "c000007",
    }
    with ledger.read() as tx:
        found = customer_history(tx, "c000000")
    assert [(row["reason"], row["at"]) for row in found.exits] == [("purchased", NOW)]
    # a message that a worker held while the exit was recorded is caught when it comes back
    release(ledger, ["winback:1/c000003/1"], "w1", 1, NOW)
    claimed = take(ledger, now=NOW + MINUTE, worker="w2")
    record_exits(ledger, experiment_id, ["c000003"], reason="purchased", at=NOW)
    release(ledger, keys_of(claimed), "w2", claimed[0].fence, NOW)
    assert take(ledger, now=NOW + MINUTE) == []
    with ledger.read() as tx:
        assert counts(tx, experiment_id).skipped == {"purchased": 4}


def test_a_pause_holds_one_campaign_or_all_until_resumed(ledger: Ledger) -> None:
    for campaign in ("winback", "welcome"):
        record(ledger, start(ledger, campaign), 3)
    assert pause(ledger, "winback", by="me", reason="complaints", at=NOW)
    assert not pause(ledger, "winback", by="me", reason="complaints", at=NOW)
    assert {message.campaign for message in take(ledger)} == {"welcome"}
    assert pause(ledger, EVERYTHING, by="me", reason="incident", at=NOW)
    assert not resume(ledger, "never-paused", by="me", reason="?", at=NOW)
    assert resume(ledger, "winback", by="me", reason="fixed", at=NOW)
    assert take(ledger) == []
    assert resume(ledger, EVERYTHING, by="me", reason="fixed", at=NOW)
    assert {message.campaign for message in take(ledger)} == {"winback"}


def test_every_lane_gets_its_share_of_a_small_claim(ledger: Ledger) -> None:
    for campaign, n in (("a", 30), ("b", 3), ("c", 30)):
        record(ledger, start(ledger, campaign), n, rows=50)
    first = take(ledger, limit=12)
    by_campaign = [sum(message.campaign == name for message in first) for name in "abc"]
    assert by_campaign == [4, 2, 6]
    assert len({message.message_key for message in first}) == 12
    assert len(take(ledger, limit=1)) == 1
    assert len(take(ledger, limit=100)) == 20 + 2 + 20 - 13


def test_a_claim_takes_the_earliest_slot_that_closes_first(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 3, arms=("offer",), closes_at=NOW + 6 * HOUR)
    record(ledger, experiment_id, 3, arms=("offer",), first=3, at=T0 - HOUR)
    record(ledger, experiment_id, 3, arms=("offer",), first=6, at=T0 + MINUTE, not_before=NOW, closes_at=NOW + 2 * HOUR)
    order = [message.customer_id for message in take(ledger, now=NOW + MINUTE)]
    assert order == ["c000003", "c000004", "c000005", "c000006", "c000007", "c000008", "c000000", "c000001", "c000002"]


def test_a_claim_may_be_for_some_channels_or_experiments_only(ledger: Ledger) -> None:
    record(ledger, start(ledger))
    record(ledger, start(ledger, "other"))
    assert take(ledger, channels=("email",)) == []
    assert {m.experiment_id for m in take(ledger, experiments=frozenset({"other:1"}))} == {"other:1"}
    assert take(ledger, experiments=frozenset()) == []
    email = take(ledger, now=T0 + 4 * DAY, channels=("email", "push"))
    assert {m.channel for m in email} == {"email"}


def capped(*caps: Cap, **more: object) -> dict[str, CampaignRules]:
    return {name: CampaignRules(caps=caps, **more) for name in ("winback", "other")}


def test_a_cap_counts_the_messages_of_all_campaigns_and_defers_what_is_too_many(ledger: Ledger) -> None:
    record(ledger, start(ledger), 3, arms=("offer",))
    record(ledger, start(ledger, "other"), 3, arms=("offer",), first=1)
    rules = capped(Cap(1, 2 * DAY))
    first = take(ledger, rules=rules)
    assert len(first) == 4
    assert len({message.customer_id for message in first}) == 4
    send(ledger, first)
    assert take(ledger, rules=rules) == []
    with ledger.read() as tx:
        query = sa.select(outbox.c.message_key, outbox.c.not_before, outbox.c.reason).where(outbox.c.state == "pending")
        waiting = tx.execute(query).all()
        assert {(row.not_before, row.reason) for row in waiting} == {(NOW + 2 * DAY, "capped")}
        (line,) = message_history(tx, waiting[0].message_key)
    assert (line["event"], line["state"], line["reason"]) == ("deferred", "pending", "capped")


def test_a_cap_may_skip_instead_and_does_when_the_message_would_expire_first(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 2, arms=("points",), not_before=T0, closes_at=T0 + 9 * DAY)
    send(ledger, take(ledger, channels=("sms",)))
    assert take(ledger, rules=capped(Cap(1, DAY), when_capped="skip")) == []
    with ledger.read() as tx:
        assert counts(tx, experiment_id).skipped == {"capped": 2}
    other = start(ledger, "other")
    record(ledger, other, 2, arms=("points",))
    assert take(ledger, rules=capped(Cap(1, 60 * DAY))) == []
    with ledger.read() as tx:
        assert counts(tx, other).skipped == {"capped": 2}


def test_a_deferred_message_goes_once_the_cap_has_room(ledger: Ledger) -> None:
    record(ledger, start(ledger), 1, arms=("points",), not_before=T0, closes_at=T0 + 9 * DAY)
    rules = capped(Cap(1, DAY))
    send(ledger, take(ledger, rules=rules, now=T0), now=T0)
    assert take(ledger, rules=rules, now=T0 + DAY - MINUTE) == []
    assert len(take(ledger, rules=rules, now=T0 + DAY)) == 1


def test_a_gap_is_a_cap_of_one_and_a_channels_cap_leaves_other_channels_alone(ledger: Ledger) -> None:
    record(ledger, start(ledger), 1, arms=("points",), not_before=T0, closes_at=T0 + 9 * DAY)
    record(ledger, start(ledger, "other"), 1, arms=("points",), not_before=T0, closes_at=T0 + 9 * DAY)
    rules = capped(Cap(1, 7 * DAY, "sms"), Cap(2, 7 * DAY, "email"), Cap(3, DAY))
    claimed = take(ledger, rules=rules, now=T0)
    assert sorted(message.channel for message in claimed) == ["email", "email", "sms"]


@pytest.mark.parametrize("end", ["failed", "skipped", "released", "transient"])
def test_what_did_not_leave_frees_its_place_under_cap_and_budget(ledger: Ledger, end: str) -> None:
    record(ledger, start(ledger), 1, arms=("points",), not_before=T0, closes_at=T0 + 9 * DAY)
    rules = capped(Cap(1, 30 * DAY, None), max_messages=1)
    (first,) = take(ledger, rules=rules, channels=("sms",))
    assert used(ledger) == (1, first.cost_micros)
    match end:
        case "skipped":
            skip(ledger, {first.message_key: "no_address"}, NOW)
        case "released":
            release(ledger, [first.message_key], "w1", first.fence, NOW)
        case "failed" | "transient":
            intend(ledger, [first.message_key], "w1", first.fence, NOW)
            state = "failed" if end == "failed" else "pending"
            news = Settlement(message_key=first.message_key, state=state, reason="x", fence=first.fence)
            settle(ledger, [news], NOW)
    assert used(ledger) == (0, 0)
    assert len(take(ledger, rules=rules)) == 1


def test_doubt_keeps_its_place_under_cap_and_budget(ledger: Ledger) -> None:
    record(ledger, start(ledger), 1, arms=("points",), not_before=T0, closes_at=T0 + 9 * DAY)
    (first,) = take(ledger, channels=("sms",))
    intend(ledger, [first.message_key], "w1", first.fence, NOW)
    sweep(ledger, NOW + HOUR)
    assert used(ledger) == (1, first.cost_micros)
    assert take(ledger, now=NOW + HOUR, rules=capped(Cap(1, 2 * DAY))) == []


def test_a_budget_of_messages_is_hard_over_all_epochs(ledger: Ledger) -> None:
    experiment_id = start(ledger)
    record(ledger, experiment_id, 9, arms=("offer",))
    rules = {"winback": CampaignRules(max_messages=4)}
    assert len(take(ledger, limit=3, rules=rules)) == 3
    assert len(take(ledger, rules=rules)) == 1
    assert take(ledger, rules=rules) == []
    assert states(ledger) == {"claimed": 4, "skipped": 5}
    with ledger.read() as tx:
        assert counts(tx, experiment_id).skipped == {"over_budget": 5}


def test_a_budget_of_cost_is_hard_and_follows_what_messages_really_cost(ledger: Ledger) -> None:
    record(ledger, start(ledger), 4, arms=("offer",))
    rules = {"winback": CampaignRules(max_cost_micros=210_000, over_budget="hold")}
    first = take(ledger, limit=2, rules=rules)
    intend(ledger, keys_of(first), "w1", first[0].fence, NOW)
    settle(ledger, [Settlement(message_key=k, state="sent", cost_micros=70_000) for k in keys_of(first)], NOW)
    assert used(ledger) == (2, 140_000)
    assert len(take(ledger, rules=rules)) == 1
    assert take(ledger, rules=rules) == []
    assert states(ledger) == {"sent": 2, "claimed": 1, "pending": 1}
    larger = {"winback": CampaignRules(max_cost_micros=240_000, over_budget="hold")}
    assert len(take(ledger, rules=larger)) == 1


def test_a_held_campaign_waits_while_others_go_on(ledger: Ledger) -> None:
    record(ledger, start(ledger), 3, arms=("offer",))
    record(ledger, start(ledger, "other"), 3, arms=("offer",))
    rules = {"winback": CampaignRules(max_messages=0, over_budget="hold")}
    assert {message.campaign for message in take(ledger, rules=rules)} == {"other"}
    assert states(ledger) == {"pending": 3}


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(LedgerError, match="at least one message"):
        Cap(0, DAY)
    with pytest.raises(LedgerError, match="positive window"):
        Cap(1, timedelta(0))


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"lease": timedelta(0)}, {"worker": ""}])
def test_a_claim_that_makes_no_sense_is_refused(sqlite_ledger: Ledger, wrong: dict[str, object]) -> None:
    with pytest.raises(LedgerError, match="a claim needs"):
        take(sqlite_ledger, **wrong)


def test_a_channel_gives_no_more_than_its_account_carries_and_the_others_fill_the_claim(ledger: Ledger) -> None:
    record(ledger, start(ledger), 90, rows=50, not_before=T0)
    record(ledger, start(ledger, "digest"), 90, rows=50, not_before=T0)
    claimed = take(ledger, limit=100, room={"sms": 7, "email": None})
    assert Counter(message.channel for message in claimed) == {"sms": 7, "email": 60}
    assert {message.campaign for message in claimed if message.channel == "sms"} == {"winback", "digest"}
    assert len(take(ledger, limit=5, room={"sms": 7})) == 5


def test_messages_of_higher_rank_pass_no_channels_room_and_keep_their_place_until_they_may_go(ledger: Ledger) -> None:
    """The digest is read whole; what winback has for its customers comes along, more than the account carries."""
    record(ledger, start(ledger), 60, arms=("offer",), rows=60, channel="sms")
    record(ledger, start(ledger, "digest"), 60, arms=("offer",), rows=60, channel="email", not_before=NOW - MINUTE)
    cap = (Cap(1, DAY),)
    rules = {"winback": CampaignRules(caps=cap, priority=1), "digest": CampaignRules(caps=cap)}
    for claims in range(1, 4):
        claimed = take(ledger, limit=120, room={"sms": 7}, rules=rules)
        assert Counter(message.channel for message in claimed) == {"sms": 7}
        assert used(ledger)[0] == 7 * claims
        assert used(ledger, "digest") == (0, 0)
    assert Counter(message.channel for message in take(ledger, limit=120, rules=rules)) == {"sms": 39}
    assert take(ledger, limit=120, rules=rules) == []
    with ledger.read() as tx:
        waiting = sa.select(outbox.c.reason).where(outbox.c.state == "pending", outbox.c.channel == "email")
        assert Counter(tx.execute(waiting).scalars()) == {"outranked": 60}
