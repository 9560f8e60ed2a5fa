"""Claiming messages: the last checks (suppression, pause, window, caps, budget) in the claim's own transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.claim_rules import (
    CampaignRules,
    Candidate,
    Holdout,
    Known,
    Sent,
    Verdicts,
    campaign_of,
    is_held,
    judge,
    rules_of,
)
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.exits import names
from warehouse.ledger.messages import Event, adjust_budgets, append_events, due_lanes
from warehouse.ledger.programme_tables import withheld
from warehouse.ledger.suppressions import is_suppressed
from warehouse.ledger.switches import EVERYTHING, is_stopped, paused
from warehouse.ledger.types import instant_text, read_instant

_O = schema.outbox
_W = withheld
_MESSAGE: Final = tuple(_O.c[name] for name in Candidate._fields[:12])
_SLOT: Final = ("not_before", "closes_at", "expires_at")
_COUNTED: Final = sa.text(f"outbox.state IN ({', '.join(repr(state) for state in schema.COUNTED)})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """Who claims how many messages, at what instant, for how long; `rules` by campaign (none: no caps, no budget).

    `room`: how many of a channel's messages at most, where its account carries no more (None, or none named: `limit`).
    `skipped`, where it is given, counts the messages that claims skip, by reason.
    """

    worker: str
    channels: Sequence[str]
    limit: int
    now: datetime
    lease: timedelta
    rules: Mapping[str, CampaignRules] = field(default_factory=dict)
    experiments: frozenset[str] | None = None
    holdout: Holdout | None = None
    room: Mapping[str, int | None] = field(default_factory=dict)
    skipped: Counter[str] | None = None

    @property
    def cap_reach(self) -> timedelta | None:
        """How far back messages count for some cap; None without caps."""
        return max((cap.reach for rules in self.rules.values() for cap in rules.caps), default=None)

    def __post_init__(self) -> None:
        if self.limit < 1 or self.lease <= timedelta(0) or not self.worker:
            raise LedgerError(
                f"a claim needs a worker's name, a limit of at least 1 and a lease above 0, got {self.worker!r}, "
                f"{self.limit}, {self.lease}"
            )


class ClaimedMessage(NamedTuple):
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
        return campaign_of(self.experiment_id)


def claim(ledger: Ledger, request: ClaimRequest) -> list[ClaimedMessage]:
    """Claim up to `limit` messages that may leave now; an empty list means that nothing may.

    A message is claimed when it is pending, its slot is open (not_before <= now < closes_at, now < expires_at), its
    campaign is not paused, and the customer is not suppressed on the channel, has not left by the step's `unless`, is
    under every cap and the campaign under its budget. All of it is checked in the claiming transaction, so it holds
    under any number of claimers, and after the commit of a pause or a suppression nothing of it is claimed. Messages
    that may never leave are skipped with a reason, capped ones deferred; both leave a line in the history. Where a
    customer has less room than due messages, those of the campaign of higher rank go, whichever was due first.

    One claim at a time judges caps, from before it looks for messages until its commit, also for campaigns without caps
    (their messages count for the others): two claimers cannot both find the last free place, and no message of higher
    rank is out of sight. Claims of one campaign wait for each other anyway, for its budget; a lock for each customer
    cost a quarter of the claim.
    """
    while True:
        with ledger.begin(durable=False) as tx:
            dialect.enter_gate(tx)
            dialect.seek(tx)
            if request.cap_reach is not None:
                dialect.enter_caps(tx)
            lanes, used = _open_lanes(tx, request)
            found = _candidates(tx, request, lanes)
            found += _rivals(tx, found, request, lanes)
            topics = _topics(tx, request)
            recent = _recent(tx, found, request, topics)
            known = Known(rules=request.rules, recent=recent, used=used, topics=topics, holdout=request.holdout)
            verdicts = judge(found, request.now, known, limit=request.limit, carried=request.room)
            claimed = _write(tx, verdicts, request)
        if request.skipped is not None:
            request.skipped.update(reason for _, reason in verdicts.skipped)
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
        if not is_stopped(stopped, campaign_of(lane[0]), lane[1])
        and (request.experiments is None or lane[0] in request.experiments)
    ]
    b = schema.budgets
    names = sorted({campaign_of(experiment_id) for experiment_id, _ in lanes})
    query = sa.select(b).where(dialect.among(tx, b.c.campaign, names)).order_by(b.c.campaign).with_for_update()
    used = {row.campaign: (row.messages, row.cost_micros) for row in tx.execute(query)}
    rules = request.rules
    return [lane for lane in lanes if not is_held(rules.get(campaign_of(lane[0])), used[campaign_of(lane[0])])], used


def _candidates(tx: sa.Connection, request: ClaimRequest, lanes: Sequence[tuple[str, str]]) -> list[Candidate]:
    """Lock due messages: every lane gets an equal share of the limit, what is left goes to lanes with more.

    The lanes of one channel take no more together than there is room on it, of which each has an equal share too.
    """
    rows: list[Candidate] = []
    room = {channel: most for channel, most in request.room.items() if most is not None}

    def lock(lane: tuple[str, str], limit: int, skip: frozenset[str] = frozenset(), *, sharing: int = 1) -> None:
        most = -(-room[lane[1]] // sharing) if lane[1] in room else limit
        found = _lock_lane(tx, lane, request.now, min(limit, most), skip=skip)
        if lane[1] in room:
            room[lane[1]] -= len(found)
        rows.extend(found)

    for position, lane in enumerate(lanes):
        rest = lanes[position:]
        share = -(-(request.limit - len(rows)) // len(rest))
        lock(lane, share, sharing=sum(channel == lane[1] for _, channel in rest))
    if len(lanes) > 1 and len(rows) < request.limit:
        taken = frozenset(row.message_key for row in rows)
        for lane in lanes:
            lock(lane, request.limit - len(rows), skip=taken)
    return rows


def _lock_lane(
    tx: sa.Connection, lane: tuple[str, str], now: datetime, limit: int, *, skip: frozenset[str] = frozenset()
) -> list[Candidate]:
    """Read and lock up to `limit` due messages of one lane, earliest first, besides those in `skip`."""
    if limit < 1:
        return []
    values = {"experiment_id": lane[0], "channel": lane[1], "now": now, "most": limit + len(skip)}
    rows = list(map(Candidate._make, dialect.read(tx, _earliest, values)))
    return [row for row in rows if row.message_key not in skip][:limit] if skip else rows


def _rivals(
    tx: sa.Connection, rows: Sequence[Candidate], request: ClaimRequest, lanes: Sequence[tuple[str, str]]
) -> list[Candidate]:
    """Lock what campaigns of higher rank may send the candidates' customers now: that must be judged first."""
    if request.cap_reach is None or not rows:
        return []
    ranks = {lane: rules_of(request.rules, lane[0]).rank for lane in lanes}
    if len(set(ranks.values())) == 1:
        return []
    lowest = max(ranks[row.experiment_id, row.channel] for row in rows)
    keys = dialect.set_text(tx, sorted({row.customer_id for row in rows}))
    known = {row.message_key for row in rows}
    found: list[Candidate] = []
    for lane in (lane for lane in lanes if ranks[lane] < lowest):
        values = {"experiment_id": lane[0], "channel": lane[1], "now": request.now, "keys": keys}
        found += map(Candidate._make, dialect.read(tx, _of_customers, values))
    return [row for row in found if row.message_key not in known]


def _earliest(postgres: bool) -> sa.Select[Any]:
    """Lock the messages of a lane that may leave now, earliest first, as many as :most, besides those others lock."""
    query = _due(postgres).order_by(_O.c.not_before, _O.c.closes_at).limit(sa.bindparam("most", type_=sa.Integer))
    return query.with_for_update(of=_O, skip_locked=True)


def _of_customers(postgres: bool) -> sa.Select[Any]:
    """Lock the messages of a lane that may leave now and go to some of the customers :keys."""
    query = _due(postgres).where(dialect.in_set(postgres, _O.c.customer_id))
    return query.with_for_update(of=_O, skip_locked=True)


def _due(postgres: bool) -> sa.Select[Any]:
    """Select the messages of a lane that may leave now, as candidates; instants as text, as they repeat themselves."""
    x, a = schema.exits, schema.assignments
    channel, experiment_id = sa.bindparam("channel", type_=sa.Text), sa.bindparam("experiment_id", type_=sa.Text)
    now = sa.bindparam("now", type_=_O.c.not_before.type)
    of_customer = (a.c.experiment_id == _O.c.experiment_id) & (a.c.customer_id == _O.c.customer_id)
    left_by = sa.select(sa.func.min(x.c.reason)).where(
        x.c.experiment_id == _O.c.experiment_id, x.c.customer_id == _O.c.customer_id, names(_O.c.unless, x.c.reason)
    )
    return sa.select(
        *_MESSAGE,
        *(sa.cast(_O.c[name], sa.Text).label(name) for name in _SLOT),
        *(_O.c[name] for name in ("attempts", "cost_micros", "fence")),
        sa.select(sa.cast(a.c.assigned_at, sa.Text)).where(of_customer).scalar_subquery().label("assigned_at"),
        is_suppressed(_O.c.customer_id, channel, experiment_id).label("suppressed"),
        left_by.scalar_subquery().label("left_by"),
        dialect.place(postgres, _O).label("place"),
    ).where(
        sa.text("outbox.state = 'pending'"),
        _O.c.experiment_id == experiment_id,
        _O.c.channel == channel,
        _O.c.not_before <= now,
        _O.c.closes_at > now,
        _O.c.expires_at > now,
    )


def _topics(tx: sa.Connection, request: ClaimRequest) -> dict[str, str]:
    """Give the topic of every experiment, where some cap is of one topic."""
    if not any(cap.topic is not None for rules in request.rules.values() for cap in rules.caps):
        return {}
    e = schema.experiments
    return {row[0]: row[1] for row in tx.execute(sa.select(e.c.experiment_id, e.c.topic)).all()}


def _recent(
    tx: sa.Connection, rows: Sequence[Candidate], request: ClaimRequest, topics: Mapping[str, str]
) -> dict[str, list[Sent]]:
    """Give the candidates' customers' messages as far back as a cap reaches, over all campaigns.

    What a campaign would have sent them, were they not its control, is among them.
    """
    reach = request.cap_reach
    if reach is None or not rows:
        return {}
    customers = dialect.set_text(tx, {row.customer_id for row in rows})
    values = {"keys": customers, "since": request.now - reach}
    found: dict[str, list[Sent]] = {}
    for query, more in ((_sent_since, {}), (_withheld_since, {"now": request.now})):
        for at, customer, experiment_id, channel in dialect.read(tx, query, values | more):
            found.setdefault(customer, []).append(Sent(read_instant(at), channel, topics.get(experiment_id)))
    return found


def _sent_since(postgres: bool) -> sa.Select[Any]:
    """What the customers :keys got, or may have got, after :since."""
    since = sa.bindparam("since", type_=_O.c.claimed_at.type)
    return sa.select(sa.cast(_O.c.claimed_at, sa.Text), _O.c.customer_id, _O.c.experiment_id, _O.c.channel).where(
        dialect.in_set(postgres, _O.c.customer_id), _COUNTED, _O.c.claimed_at > since
    )


def _withheld_since(postgres: bool) -> sa.Select[Any]:
    """What the customers :keys would have got after :since and until :now, were they not control."""
    since, now = (sa.bindparam(name, type_=_W.c.at.type) for name in ("since", "now"))
    return sa.select(sa.cast(_W.c.at, sa.Text), _W.c.customer_id, _W.c.experiment_id, _W.c.channel).where(
        dialect.in_set(postgres, _W.c.customer_id), _W.c.at > since, _W.c.at <= now
    )


def _write(tx: sa.Connection, verdicts: Verdicts, request: ClaimRequest) -> list[ClaimedMessage]:
    now = instant_text(request.now)
    skipped, deferred, claimed = verdicts.skipped, verdicts.deferred, verdicts.claimed
    given_up = {
        "message_key": [row.message_key for row, _ in skipped],
        "state": ["skipped"] * len(skipped),
        "reason": [reason for _, reason in skipped],
        "settled_at": [now] * len(skipped),
        "updated_at": [now] * len(skipped),
    }
    put_off = {
        "message_key": [row.message_key for row, _, _ in deferred],
        "reason": [reason for _, _, reason in deferred],
        "not_before": [instant_text(until) for _, until, _ in deferred],
        "updated_at": [now] * len(deferred),
    }
    for columns in (given_up, put_off):
        dialect.update_rows(tx, _O, "message_key", columns)
    told = [("skipped", "skipped", row, reason) for row, reason in skipped]
    told += [("deferred", "pending", row, reason) for row, _, reason in deferred]
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


def _take(tx: sa.Connection, rows: Sequence[Candidate], request: ClaimRequest) -> list[ClaimedMessage]:
    if not rows:
        return []
    fence = max(row.fence for row in rows) + 1  # larger than any of the rows had: an older claim cannot pass for it
    until = request.now + request.lease
    tx.execute(
        sa.update(_O)
        .where(dialect.placed(tx, _O, [row.place for row in rows]))
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
    return [_claimed(row, fence, until) for row in rows]


def _claimed(row: Candidate, fence: int, until: datetime) -> ClaimedMessage:
    read = read_instant
    slot = (read(row.not_before), read(row.closes_at), read(row.expires_at))
    costs = (row.attempts, row.cost_micros, read(row.assigned_at))
    return ClaimedMessage._make((*row[:11], _zones(row.zones), *slot, *costs, fence, until))


@lru_cache(maxsize=1024)
def _zones(named: str) -> tuple[str, ...]:
    return tuple(named.split(",")) if named else ()
