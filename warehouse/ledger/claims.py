"""Claiming messages: the last checks (suppression, pause, window, caps, budget) in the claim's own transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.messages import Event, adjust_budgets, append_events, due_lanes
from warehouse.ledger.switches import EVERYTHING, paused
from warehouse.ledger.types import instant_text

_O = schema.outbox
_COUNTED: Final = sa.text(f"outbox.state IN ({', '.join(repr(state) for state in schema.COUNTED)})")


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `messages` to a customer within any `window`, over all campaigns; of one channel, or of all (None).

    A smallest gap between messages is a cap of one message within the gap.
    """

    messages: int
    window: timedelta
    channel: str | None = None

    def __post_init__(self) -> None:
        if self.messages < 1 or self.window <= timedelta(0):
            raise LedgerError(f"a cap allows at least one message within a positive window, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRules:
    """What limits a campaign's messages at the moment they leave.

    `when_capped`: "defer" to the first instant the caps allow (skipped once the message would expire first), or "skip".
    `over_budget`: "skip" the message with reason over_budget, or "hold" it pending until there is budget or it expires.
    `max_messages` and `max_cost_micros` count all epochs of the campaign.
    """

    caps: tuple[Cap, ...] = ()
    when_capped: Literal["defer", "skip"] = "defer"
    max_messages: int | None = None
    max_cost_micros: int | None = None
    over_budget: Literal["skip", "hold"] = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """Who claims how many messages, at what instant, for how long; `rules` by campaign (none: no caps, no budget)."""

    worker: str
    channels: Sequence[str]
    limit: int
    now: datetime
    lease: timedelta
    rules: Mapping[str, CampaignRules] = field(default_factory=dict)
    experiments: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedMessage:
    """A message this worker alone may send, until `lease_until`; show `fence` with every later verb."""

    message_key: str
    experiment_id: str
    customer_id: str
    step: int
    arm: str
    channel: str
    template: str
    offer: str | None
    code: str | None
    locale: str | None
    unless: str | None
    zones: tuple[str, ...]
    not_before: datetime
    closes_at: datetime
    expires_at: datetime
    attempts: int
    cost_micros: int
    assigned_at: datetime
    fence: int
    lease_until: datetime

    @property
    def campaign(self) -> str:
        """The campaign's name."""
        return _campaign(self.experiment_id)


_READ: Final = (
    "message_key", "experiment_id", "customer_id", "step", "arm", "channel", "template", "offer", "code", "locale",
    "unless", "zones", "not_before", "closes_at", "expires_at", "attempts", "cost_micros",
)  # fmt: skip


@dataclass(slots=True)
class _Verdicts:
    """What becomes of the candidates of one round."""

    claimed: list[Any] = field(default_factory=list)
    skipped: list[tuple[Any, str]] = field(default_factory=list)
    deferred: list[tuple[Any, datetime]] = field(default_factory=list)


def claim(ledger: Ledger, request: ClaimRequest) -> list[ClaimedMessage]:
    """Claim up to `limit` messages that may leave now; an empty list means that nothing may.

    A message is claimed when it is pending, its slot is open (not_before <= now < closes_at, now < expires_at), its
    campaign is not paused, and the customer is not suppressed on the channel, has not left by the step's `unless`, is
    under every cap and the campaign under its budget. All of it is checked in the claiming transaction, so it holds
    under any number of claimers, and after the commit of a pause or a suppression nothing of it is claimed. Messages
    that may never leave are skipped with a reason, capped ones deferred; both leave a line in the history.
    """
    while True:
        with ledger.begin() as tx:
            dialect.enter_gate(tx)
            lanes, used = _open_lanes(tx, request)
            verdicts = _judge(tx, _candidates(tx, request, lanes), request, used)
            claimed = _write(tx, verdicts, request)
        if claimed or not (verdicts.skipped or verdicts.deferred):
            return claimed


def _open_lanes(tx: sa.Connection, request: ClaimRequest) -> tuple[list[tuple[str, str]], dict[str, tuple[int, int]]]:
    """Find the (experiment, channel) lanes with due messages that may leave.

    Also locks, in campaign order, and gives what their campaigns have used up: campaign -> (messages, cost_micros).
    """
    stopped = paused(tx)
    if EVERYTHING in stopped:
        return [], {}
    lanes = [
        lane
        for lane in due_lanes(tx, request.now, request.channels)
        if _campaign(lane[0]) not in stopped and (request.experiments is None or lane[0] in request.experiments)
    ]
    b = schema.budgets
    names = sorted({_campaign(experiment_id) for experiment_id, _ in lanes})
    query = sa.select(b).where(dialect.among(tx, b.c.campaign, names)).order_by(b.c.campaign).with_for_update()
    used = {row.campaign: (row.messages, row.cost_micros) for row in tx.execute(query)}
    rules = request.rules
    return [lane for lane in lanes if not _held(rules.get(_campaign(lane[0])), used[_campaign(lane[0])])], used


def _candidates(tx: sa.Connection, request: ClaimRequest, lanes: Sequence[tuple[str, str]]) -> list[Any]:
    """Lock due messages: every lane gets an equal share of the limit, what is left goes to lanes with more."""
    rows: list[Any] = []
    for position, lane in enumerate(lanes):
        share = -(-(request.limit - len(rows)) // (len(lanes) - position))
        rows += _lock_lane(tx, lane, request.now, share)
    if len(lanes) > 1 and len(rows) < request.limit:
        taken = frozenset(row.message_key for row in rows)
        for lane in lanes:
            rows += _lock_lane(tx, lane, request.now, request.limit - len(rows), skip=taken)
    return rows


def _campaign(experiment_id: str) -> str:
    return experiment_id.rpartition(":")[0]


def _held(rules: CampaignRules | None, used: tuple[int, int]) -> bool:
    if rules is None or rules.over_budget != "hold":
        return False
    messages_left, cost_left = _left(rules, used)
    return messages_left <= 0 or cost_left <= 0


def _left(rules: CampaignRules, used: tuple[int, int]) -> tuple[float, float]:
    messages = float("inf") if rules.max_messages is None else rules.max_messages - used[0]
    cost = float("inf") if rules.max_cost_micros is None else rules.max_cost_micros - used[1]
    return messages, cost


def _lock_lane(
    tx: sa.Connection, lane: tuple[str, str], now: datetime, limit: int, *, skip: frozenset[str] = frozenset()
) -> list[Any]:
    """Read and lock up to `limit` due messages of one lane, earliest first, besides those in `skip`."""
    if limit < 1:
        return []
    s, x, a = schema.suppressions, schema.exits, schema.assignments
    of_customer = (a.c.experiment_id == _O.c.experiment_id) & (a.c.customer_id == _O.c.customer_id)
    suppressed = sa.exists().where(
        s.c.customer_id == _O.c.customer_id, s.c.channel.in_([lane[1], "all"]), s.c.released_at.is_(None)
    )
    left = sa.exists().where(
        x.c.experiment_id == _O.c.experiment_id, x.c.customer_id == _O.c.customer_id, x.c.reason == _O.c.unless
    )
    query = (
        sa.select(
            *(_O.c[name] for name in _READ),
            _O.c.fence,
            sa.select(a.c.assigned_at).where(of_customer).scalar_subquery().label("assigned_at"),
            suppressed.label("suppressed"),
            left.label("has_left"),
        )
        .where(
            sa.text("outbox.state = 'pending'"),
            _O.c.experiment_id == lane[0],
            _O.c.channel == lane[1],
            _O.c.not_before <= now,
            _O.c.closes_at > now,
            _O.c.expires_at > now,
        )
        .order_by(_O.c.not_before, _O.c.closes_at)
        .limit(limit + len(skip))
        .with_for_update(of=_O, skip_locked=True)
    )
    return [row for row in tx.execute(query) if row.message_key not in skip][:limit]


def _judge(
    tx: sa.Connection, rows: Sequence[Any], request: ClaimRequest, used: Mapping[str, tuple[int, int]]
) -> _Verdicts:
    """Decide on each candidate in turn; what an earlier one of the round used up counts for the later ones."""
    verdicts = _Verdicts()
    recent = _recent(tx, rows, request)
    spent = dict(used)
    for row in rows:
        campaign = _campaign(row.experiment_id)
        rules = request.rules.get(campaign, CampaignRules())
        times = recent.setdefault(row.customer_id, [])
        free_at = _free_at(rules.caps, times, row.channel, request.now)
        messages_left, cost_left = _left(rules, spent[campaign])
        if row.suppressed:
            verdicts.skipped.append((row, "suppressed"))
        elif row.has_left:
            verdicts.skipped.append((row, row.unless))
        elif free_at is not None and (rules.when_capped == "skip" or free_at >= row.expires_at):
            verdicts.skipped.append((row, "capped"))
        elif free_at is not None:
            verdicts.deferred.append((row, free_at))
        elif messages_left < 1 or cost_left < row.cost_micros:
            if rules.over_budget == "skip":
                verdicts.skipped.append((row, "over_budget"))
        else:
            verdicts.claimed.append(row)
            times.append((request.now, row.channel))
            spent[campaign] = (spent[campaign][0] + 1, spent[campaign][1] + row.cost_micros)
    return verdicts


def _recent(tx: sa.Connection, rows: Sequence[Any], request: ClaimRequest) -> dict[str, list[tuple[datetime, str]]]:
    """Give each capped candidate's messages (when, channel) within the longest window, over all campaigns.

    On PostgreSQL the customers' slot rows are locked first: two claimers cannot both find the last free place. Check
    then insert without them broke the cap for 198 of 200 customers.
    """
    capped = {campaign: rules.caps for campaign, rules in request.rules.items() if rules.caps}
    customers = sorted({row.customer_id for row in rows if _campaign(row.experiment_id) in capped})
    if not customers:
        return {}
    if dialect.is_postgres(tx):
        _lock_slots(tx, customers)
    longest = max(cap.window for caps in capped.values() for cap in caps)
    query = sa.select(_O.c.customer_id, _O.c.claimed_at, _O.c.channel).where(
        dialect.among(tx, _O.c.customer_id, customers), _COUNTED, _O.c.claimed_at > request.now - longest
    )
    found: dict[str, list[tuple[datetime, str]]] = {}
    for customer, at, channel in tx.execute(query):
        found.setdefault(customer, []).append((at, channel))
    return found


def _lock_slots(tx: sa.Connection, customers: list[str]) -> None:
    insert = "INSERT INTO cap_slots (customer_id) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING"
    tx.exec_driver_sql(insert, (customers,))
    slots = schema.cap_slots.c.customer_id
    query = sa.select(slots).where(dialect.among(tx, slots, customers)).order_by(slots)
    tx.execute(query.with_for_update())


def _free_at(
    caps: Sequence[Cap], times: Sequence[tuple[datetime, str]], channel: str, now: datetime
) -> datetime | None:
    """Give the first instant at which every cap has room, None when that is now."""
    free_at = now
    for cap in caps:
        if cap.channel not in (None, channel):
            continue
        within = sorted((at for at, of in times if cap.channel in (None, of) and at > now - cap.window), reverse=True)
        if len(within) >= cap.messages:
            free_at = max(free_at, within[cap.messages - 1] + cap.window)
    return free_at if free_at > now else None


def _write(tx: sa.Connection, verdicts: _Verdicts, request: ClaimRequest) -> list[ClaimedMessage]:
    now = instant_text(request.now)
    skipped, deferred, claimed = verdicts.skipped, verdicts.deferred, verdicts.claimed
    dialect.update_rows(
        tx,
        _O,
        "message_key",
        {
            "message_key": [row.message_key for row, _ in skipped],
            "state": ["skipped"] * len(skipped),
            "reason": [reason for _, reason in skipped],
            "settled_at": [now] * len(skipped),
            "updated_at": [now] * len(skipped),
        },
    )
    dialect.update_rows(
        tx,
        _O,
        "message_key",
        {
            "message_key": [row.message_key for row, _ in deferred],
            "reason": ["capped"] * len(deferred),
            "not_before": [instant_text(until) for _, until in deferred],
            "updated_at": [now] * len(deferred),
        },
    )
    told = [("skipped", "skipped", row, reason) for row, reason in skipped]
    told += [("deferred", "pending", row, "capped") for row, _ in deferred]
    append_events(
        tx,
        [
            Event(
                message_key=row.message_key,
                at=request.now,
                event=event,
                state=state,
                attempt=row.attempts,
                worker=request.worker,
                reason=reason,
            )
            for event, state, row, reason in told
        ],
    )
    return _take(tx, claimed, request)


def _take(tx: sa.Connection, rows: Sequence[Any], request: ClaimRequest) -> list[ClaimedMessage]:
    if not rows:
        return []
    fence = max(row.fence for row in rows) + 1  # larger than any of the rows had: an older claim cannot pass for it
    until = request.now + request.lease
    keys = [row.message_key for row in rows]
    tx.execute(
        sa.update(_O)
        .where(dialect.among(tx, _O.c.message_key, keys))
        .values(
            state="claimed",
            reason=None,
            lease_owner=request.worker,
            lease_until=until,
            claimed_at=request.now,
            fence=fence,
            updated_at=request.now,
        )
    )
    adjust_budgets(tx, ((row.experiment_id, 1, row.cost_micros) for row in rows))
    return [
        ClaimedMessage(
            **{name: getattr(row, name) for name in _READ if name != "zones"},
            zones=tuple(zone for zone in row.zones.split(",") if zone),
            assigned_at=row.assigned_at,
            fence=fence,
            lease_until=until,
        )
        for row in rows
    ]
