"""The outbox's verbs: claim, intend, settle and what keeps messages from being lost or sent twice."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.acceptances import Overtaken, accept, part
from warehouse.ledger.address_suppressions import anybody_was_erased, stopped_keys
from warehouse.ledger.bills import Bill, Cost, keep_costs
from warehouse.ledger.changes import Changes, Settlement
from warehouse.ledger.claim_rules import CampaignRules, Cap
from warehouse.ledger.claims import ClaimedMessage, ClaimRequest, claim
from warehouse.ledger.counts import MessageCounts, counts
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.messages import MessageRow, due_lanes, lock_messages
from warehouse.ledger.suppressions import is_suppressed
from warehouse.ledger.switches import not_stopped, paused

__all__ = [
    "Bill",
    "CampaignRules",
    "Cap",
    "ClaimRequest",
    "ClaimedMessage",
    "Cost",
    "InDoubt",
    "LateMessage",
    "MessageCounts",
    "Settled",
    "Settlement",
    "Swept",
    "claim",
    "counts",
    "in_doubt",
    "intend",
    "late_messages",
    "move",
    "release",
    "settle",
    "skip",
    "sweep",
]

_O = schema.outbox
_CHUNK: Final = 5_000
_BILLED: Final = (_O.c.message_key, _O.c.experiment_id, _O.c.segments, _O.c.cost_micros)


@dataclass(frozen=True, slots=True)
class Settled:
    """How many settlements changed a state; the keys of those that did not (late, repeated, or of a lost lease)."""

    applied: int
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """Messages put right by a sweep."""

    released: int
    in_doubt: int
    expired: int


@dataclass(frozen=True, slots=True)
class LateMessage:
    """A pending message whose slot closed before it left: `move` it to a later slot, or `skip` it."""

    message_key: str
    experiment_id: str
    customer_id: str
    step: int
    arm: str
    channel: str
    zones: tuple[str, ...]
    place: str
    not_before: datetime
    closes_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A message of which nobody knows whether the provider took it."""

    message_key: str
    experiment_id: str
    customer_id: str
    channel: str
    provider: str | None
    attempts: int
    intent_at: datetime
    since: datetime
    reason: str
    fence: int


def intend(  # noqa: PLR0913 (the fence's three parts, and what a worker knows of messages it is about to send)
    ledger: Ledger,
    keys: Sequence[str],
    worker: str,
    fence: int,
    now: datetime,
    *,
    margin: timedelta = timedelta(0),
    addressed: Mapping[str, tuple[str, str, tuple[str, ...]]] | None = None,
    bill: Bill | None = None,
) -> list[str]:
    """Commit the intent to send; give those keys, in the given order, that this worker may send now. Send no other.

    The fence: a message is given only while it is claimed by this worker under this fence and its lease lasts longer
    than `margin` (take the provider's time-out). Its slot must still be open, its campaign not paused, the customer not
    suppressed, nor the address that `addressed` names (key -> channel, topic, the address's HMACs).
    What is not given stays claimed until its lease ends: `release` it, or leave it to the sweep.
    From here on a crash leaves the message in doubt, never sent again blindly. What the `bill` tells is kept with it,
    for whoever learns its fate: a receipt, a reconciliation or a person may be the first to.
    """
    with ledger.begin() as tx:
        dialect.enter_gate(tx)
        dialect.seek(tx)
        stopped = paused(tx)
        out = stopped_keys(tx, {key: addressed[key] for key in keys if key in addressed}) if addressed else set()
        asked = dialect.among(tx, _O.c.message_key, [key for key in keys if key not in out])
        change = sa.update(_O).where(asked, *_held(worker, fence, now + margin), *_may_leave(now, stopped))
        change = change.values(state="sending", attempts=_O.c.attempts + 1, intent_at=now, updated_at=now)
        if bill is not None:
            change = change.values(provider=bill.provider)
        taken = dialect.rows_of(tx.execute(change.returning(*_BILLED)))
        if bill is not None:
            keep_costs(tx, bill, taken)
    allowed = {row[0] for row in taken}
    return [key for key in keys if key in allowed]


def _held(worker: str, fence: int, until: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """The fence: a message is this worker's, by this very claim, for longer than `until`."""
    return (_O.c.state == "claimed", _O.c.lease_owner == worker, _O.c.fence == fence, _O.c.lease_until > until)


def _may_leave(now: datetime, stopped: Collection[str]) -> tuple[sa.ColumnElement[bool], ...]:
    """The last checks: the slot is open, nobody paused it (the scopes `stopped`), the customer may be written to."""
    wanted = ~is_suppressed(_O.c.customer_id, _O.c.channel, _O.c.experiment_id)
    return (_O.c.closes_at > now, _O.c.expires_at > now, wanted, not_stopped(stopped))


def settle(ledger: Ledger, results: Iterable[Settlement], now: datetime) -> Settled:
    """Record what became of messages, in one transaction; every one leaves a line in its message's history.

    States only move forward. News of acceptance (sent, delivered) is believed whoever brings it; news of non-acceptance
    only under the message's present fence, or without one (a receipt). Without one nothing that is being sent becomes
    pending: whoever asked about an attempt shows that attempt's fence. The order in which receipts arrive, and their
    repetition, make no difference: sent < delivered < failed.

    Raises LedgerError for a message that does not exist, unless somebody was erased: it may have been that one's.
    """
    news = list(results)
    durable = any(item.fence is None for item in news)  # a receipt does not come twice; a worker's news may be missing
    plain, others = part(news)
    try:
        with ledger.begin(durable=durable) as tx:
            dialect.seek(tx)
            accepted = accept(tx, plain, now)
            settled = _settle_each(tx, others, now)
            return Settled(accepted + settled.applied, settled.ignored)
    except Overtaken:
        with ledger.begin(durable=durable) as tx:
            return _settle_each(tx, news, now)


def _settle_each(tx: sa.Connection, news: Sequence[Settlement], now: datetime) -> Settled:
    """Read every message and decide what its news changes."""
    if not news:
        return Settled(0, ())
    rows = lock_messages(tx, sorted({item.message_key for item in news}))
    known = _known_events(tx, [item.event_key for item in news if item.event_key is not None])
    changes = Changes(rows, now)
    for item in news:
        if item.message_key not in rows:
            if anybody_was_erased(tx):
                changes.ignored.append(item.message_key)
                continue
            raise LedgerError(f"no message {item.message_key} in the outbox; expected EXPERIMENT/CUSTOMER/STEP")
        if item.event_key is not None and item.event_key in known:
            changes.ignored.append(item.message_key)
            continue
        if item.event_key is not None:
            known.add(item.event_key)
        changes.settle(item)
    changes.write(tx)
    return Settled(changes.applied, tuple(changes.ignored))


def skip(
    ledger: Ledger, reasons: Mapping[str, str], now: datetime, *, worker: str | None = None, fence: int | None = None
) -> int:
    """Give up pending or claimed messages, each with a reason code; give how many were.

    With `worker` and `fence` only messages claimed under them are touched. Messages beyond `claimed` are left alone.
    """
    with ledger.begin() as tx:
        rows = lock_messages(tx, sorted(reasons))
        changes = Changes(rows, now)
        for key, row in rows.items():
            if row.state in ("pending", "claimed") and _holds(row, worker, fence):
                changes.leave(key, "skipped", "skipped", reasons[key])
        changes.write(tx)
    return changes.applied


def release(
    ledger: Ledger, keys: Iterable[str], worker: str, fence: int, now: datetime, *, reason: str = "released"
) -> int:
    """Give claimed messages back unsent (shutting down, breaker open); give how many were."""
    with ledger.begin() as tx:
        rows = lock_messages(tx, sorted(keys))
        changes = Changes(rows, now)
        for key, row in rows.items():
            if row.state == "claimed" and _holds(row, worker, fence):
                changes.leave(key, "pending", "released", reason)
        changes.write(tx)
    return changes.applied


def move(
    ledger: Ledger,
    slots: Mapping[str, tuple[datetime, datetime]],
    now: datetime,
    *,
    reason: str = "next_window",
    fence: int | None = None,
) -> int:
    """Put pending or claimed messages into a later slot (not_before, closes_at); give how many were.

    With `fence` a claimed message is moved only when it was claimed under it.
    """
    with ledger.begin() as tx:
        rows = lock_messages(tx, sorted(slots))
        changes = Changes(rows, now)
        for key, row in rows.items():
            if row.state in ("pending", "claimed") and _holds(row, None, fence):
                changes.leave(key, "pending", "moved", reason, slot=slots[key])
        changes.write(tx)
    return changes.applied


def sweep(ledger: Ledger, now: datetime) -> Swept:
    """Put right what crashed workers and passing time left behind; safe at any moment, from any number of processes.

    A claim whose lease ended goes back to pending; an intent whose lease ended is in doubt (the provider may have taken
    it); a pending message past its expiry is skipped with reason expired.
    """
    released = doubtful = expired = 0
    while True:
        with ledger.begin() as tx:
            keys = _ended_leases(tx, now) or _expired(tx, now)
            changes = Changes(lock_messages(tx, sorted(keys)), now)
            for key, row in changes.rows.items():
                if row.state == "claimed":
                    released += changes.leave(key, "pending", "lease_ended", "lease_ended")
                elif row.state == "sending":
                    doubtful += changes.leave(key, "in_doubt", "lease_ended", "lease_ended")
                else:
                    expired += changes.leave(key, "skipped", "skipped", "expired")
            changes.write(tx)
        if not keys:
            return Swept(released, doubtful, expired)


def late_messages(
    tx: sa.Connection, now: datetime, *, limit: int = 5_000, experiments: Collection[str] | None = None
) -> list[LateMessage]:
    """List pending messages (of these experiments) whose slot closed before they left, earliest first in each lane."""
    found: list[LateMessage] = []
    for lane in due_lanes(tx, now):
        if experiments is not None and lane[0] not in experiments:
            continue
        query = (
            _lane(lane, now)
            .with_only_columns(*(_O.c[name] for name in LateMessage.__slots__))
            .where(_O.c.closes_at <= now, _O.c.expires_at > now)
            .order_by(_O.c.not_before, _O.c.closes_at)
            .limit(limit - len(found))
        )
        for row in tx.execute(query).mappings():
            found.append(LateMessage(**{**row, "zones": tuple(z for z in row["zones"].split(",") if z)}))
    return found


def in_doubt(tx: sa.Connection, *, channel: str | None = None, limit: int = 5_000) -> list[InDoubt]:
    """List messages in doubt, oldest first; `settle` them once the provider, or a person, has told."""
    columns = [_O.c[name] for name in InDoubt.__slots__ if name not in ("since",)]
    query = (
        sa.select(*columns, _O.c.settled_at.label("since"))
        .where(sa.text("outbox.state = 'in_doubt'"))
        .order_by(_O.c.settled_at, _O.c.message_key)
        .limit(limit)
    )
    if channel is not None:
        query = query.where(_O.c.channel == channel)
    return [InDoubt(**row) for row in tx.execute(query).mappings()]


def _holds(row: MessageRow, worker: str | None, fence: int | None) -> bool:
    return (worker is None or row.lease_owner == worker) and (fence is None or row.fence == fence)


def _known_events(tx: sa.Connection, keys: Sequence[str]) -> set[str]:
    if not keys:
        return set()
    column = schema.message_events.c.event_key
    return set(tx.execute(sa.select(column).where(dialect.among(tx, column, keys))).scalars())


def _ended_leases(tx: sa.Connection, now: datetime) -> list[str]:
    query = (
        sa.select(_O.c.message_key)
        .where(sa.text("(outbox.state = 'claimed') <> (outbox.state = 'sending')"), _O.c.lease_until <= now)
        .limit(_CHUNK)
        .with_for_update(skip_locked=True)
    )
    return list(tx.execute(query).scalars())


def _expired(tx: sa.Connection, now: datetime) -> list[str]:
    keys: list[str] = []
    for lane in due_lanes(tx, now):
        query = _lane(lane, now).where(_O.c.expires_at <= now).limit(_CHUNK - len(keys))
        keys += tx.execute(query.with_for_update(skip_locked=True)).scalars()
    return keys


def _lane(lane: tuple[str, str], now: datetime) -> sa.Select[Any]:
    return sa.select(_O.c.message_key).where(
        sa.text("outbox.state = 'pending'"),
        _O.c.experiment_id == lane[0],
        _O.c.channel == lane[1],
        _O.c.not_before <= now,
    )
