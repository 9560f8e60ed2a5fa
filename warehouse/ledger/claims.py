"""Claiming messages: the last checks (suppression, pause, window, caps, budget) in the claim's own transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.claim_rules import CampaignRules, Candidate, Sent, Verdicts, campaign_of, is_held, judge
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.messages import Event, adjust_budgets, append_events, due_lanes
from warehouse.ledger.switches import EVERYTHING, paused
from warehouse.ledger.types import instant_text

_O = schema.outbox
_MESSAGE: Final = tuple(_O.c[name] for name in Candidate._fields[:18])
_COUNTED: Final = sa.text(f"outbox.state IN ({', '.join(repr(state) for state in schema.COUNTED)})")


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
    that may never leave are skipped with a reason, capped ones deferred; both leave a line in the history.
    """
    while True:
        with ledger.begin(durable=False) as tx:
            dialect.enter_gate(tx)
            dialect.seek(tx)
            lanes, used = _open_lanes(tx, request)
            found = _candidates(tx, request, lanes)
            verdicts = judge(found, request.now, rules=request.rules, recent=_recent(tx, found, request), used=used)
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
        if campaign_of(lane[0]) not in stopped and (request.experiments is None or lane[0] in request.experiments)
    ]
    b = schema.budgets
    names = sorted({campaign_of(experiment_id) for experiment_id, _ in lanes})
    query = sa.select(b).where(dialect.among(tx, b.c.campaign, names)).order_by(b.c.campaign).with_for_update()
    used = {row.campaign: (row.messages, row.cost_micros) for row in tx.execute(query)}
    rules = request.rules
    return [lane for lane in lanes if not is_held(rules.get(campaign_of(lane[0])), used[campaign_of(lane[0])])], used


def _candidates(tx: sa.Connection, request: ClaimRequest, lanes: Sequence[tuple[str, str]]) -> list[Candidate]:
    """Lock due messages: every lane gets an equal share of the limit, what is left goes to lanes with more."""
    rows: list[Candidate] = []
    for position, lane in enumerate(lanes):
        share = -(-(request.limit - len(rows)) // (len(lanes) - position))
        rows += _lock_lane(tx, lane, request.now, share)
    if len(lanes) > 1 and len(rows) < request.limit:
        taken = frozenset(row.message_key for row in rows)
        for lane in lanes:
            rows += _lock_lane(tx, lane, request.now, request.limit - len(rows), skip=taken)
    return rows


def _lock_lane(
    tx: sa.Connection, lane: tuple[str, str], now: datetime, limit: int, *, skip: frozenset[str] = frozenset()
) -> list[Candidate]:
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
            *_MESSAGE,
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
    rows = map(Candidate._make, tx.execute(query).all())
    return [row for row in rows if row.message_key not in skip][:limit]


def _recent(tx: sa.Connection, rows: Sequence[Candidate], request: ClaimRequest) -> dict[str, list[Sent]]:
    """Give the candidates' customers' messages within the longest cap window, over all campaigns.

    One claim at a time gets here until its commit, also for campaigns without caps (their messages count for the
    others): two claimers cannot both find the last free place. Claims of one campaign wait for each other anyway, for
    its budget; a lock for each customer cost a quarter of the claim.
    """
    windows = [cap.window for rules in request.rules.values() for cap in rules.caps]
    if not windows or not rows:
        return {}
    customers = sorted({row.customer_id for row in rows})
    dialect.enter_caps(tx)
    query = sa.select(_O.c.customer_id, _O.c.claimed_at, _O.c.channel).where(
        dialect.among(tx, _O.c.customer_id, customers), _COUNTED, _O.c.claimed_at > request.now - max(windows)
    )
    found: dict[str, list[Sent]] = {}
    for customer, at, channel in tx.execute(query).all():
        found.setdefault(customer, []).append((at, channel))
    return found


def _write(tx: sa.Connection, verdicts: Verdicts, request: ClaimRequest) -> list[ClaimedMessage]:
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


def _take(tx: sa.Connection, rows: Sequence[Candidate], request: ClaimRequest) -> list[ClaimedMessage]:
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
    return [_claimed(row, fence, until) for row in rows]


def _claimed(row: Candidate, fence: int, until: datetime) -> ClaimedMessage:
    zones = tuple(row.zones.split(",")) if row.zones else ()
    return ClaimedMessage._make((*row[:11], zones, *row[12:17], row.assigned_at, fence, until))
