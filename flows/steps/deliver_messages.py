"""Sends what may leave now: claim, last checks, render, intent, send, settle."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from channels.departure import KEPT_BACK, leaving_while, running_clock
from channels.errors import ChannelError
from channels.message import Outgoing
from channels.provider import Provider, SendResult
from flows.steps.dispatch_pace import Pace, accounts_of
from flows.steps.fall_back import fall_back
from flows.steps.guard_reputation import pause_harmful
from flows.steps.keep_order import Order
from flows.steps.late_messages import put_off_late_messages
from flows.steps.leave_out import Leavers
from flows.steps.legal_hours import OUTSIDE_HOURS, Hours, InTime, look_at_clock
from flows.steps.message_content import ContentMaker, Unsendable
from flows.steps.planning_rules import holdout_rule
from flows.steps.receive_receipts import receive_early
from flows.steps.reconcile_doubts import reconcile_doubts
from flows.steps.sending_rules import Sending, read_sending
from flows.steps.settlements import Attempt, cost_of, is_bounce, settlement_of, suppressions_from
from flows.steps.usable_accounts import UsableAccounts
from warehouse.ledger.claim_rules import Holdout, campaign_of
from warehouse.ledger.outbox import (
    Bill,
    ClaimedMessage,
    ClaimRequest,
    Settlement,
    claim,
    intend,
    release,
    settle,
    skip,
    sweep,
)
from warehouse.ledger.prices import price
from warehouse.ledger.reputation import count_sent, count_troubles
from warehouse.ledger.suppressions import suppress_many
from warehouse.ledger.switches import switches

if TYPE_CHECKING:
    from flows.wiring import Workspace

BATCH: Final = 1_000  # as many as an e-mail request holds; of 500 the ledger's fixed costs are a fifth more a message
LEASE: Final = timedelta(minutes=10)
SEND_TIMEOUT: Final = timedelta(seconds=60)
"""A lease must last so much longer than now for a message to be sent under it."""

NEVER_CLAIMED: Final = datetime.min.replace(tzinfo=UTC)

_log = logging.getLogger(__name__)


@dataclass
class Delivered:
    """What one delivery run did: messages by fate, reasons of those skipped here, and those put off to a later slot."""

    sent: int = 0
    failed: int = 0
    in_doubt: int = 0
    retried: int = 0
    put_off: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    held: dict[str, str] = field(default_factory=dict)
    """Campaign -> why none of its messages may leave until somebody acts."""
    resting: dict[str, str] = field(default_factory=dict)
    """Channel -> why its account is left alone for now."""
    paused: dict[str, str] = field(default_factory=dict)
    """Scope (a campaign, a channel, "*") -> why it is paused."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Channel -> what is wrong with the settings of its account; its messages wait, those of other channels do not."""

    def counts(self) -> dict[str, int]:
        """The counts as plain numbers; `skipped` is the sum over its reasons."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "skipped": self.skipped.total(),
            "in_doubt": self.in_doubt,
            "retried": self.retried,
            "put_off": self.put_off,
        }

    def stopped(self) -> dict[str, dict[str, str]]:
        """What keeps messages back, and why: campaigns held, accounts resting or not usable, scopes paused."""
        return {"held": self.held, "resting": self.resting, "unusable": self.unusable, "paused": self.paused}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        skipped = dict(sorted((+self.skipped).items()))
        return {**self.counts(), "skipped_because": skipped, **self.stopped()}


def deliver_messages(
    ws: Workspace,
    *,
    now: datetime,
    worker: str,
    limit: int | None = None,
    clock: Callable[[], datetime] | None = None,
    pace: Pace | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Delivered:
    """Send every message whose slot is open at `now`, `limit` at most; may run in any number of processes at once.

    With a `clock` the run goes by it, else all of it happens at `now` and what it waits after. `pace` is made of the
    settings unless it is given; what all workers know of an account is kept in the ledger. Killed
    at any point it leaves messages that the next run takes up again, or that are in doubt and counted as such.
    A campaign whose file is not sound is held, a channel whose account is set up wrongly waits. Raises BookErrors where
    offers or segments are not sound: nothing leaves then.
    """
    delivered = Delivered()
    sending = read_sending(ws)
    delivered.held.update(sending.held)
    swept = sweep(ws.ledger, now)
    delivered.skipped["expired"] += swept.expired
    pace = pace or Pace(ws.ledger, worker, accounts_of(ws.settings), clock=clock or running_clock(now))
    accounts = UsableAccounts(ws)
    with asyncio.Runner() as runner:
        try:
            delivered.sent += reconcile_doubts(ws, sending, accounts, now=now, runner=runner).found
            receive_early(ws, now=now)  # before the fallbacks: what came early may tell that a message did not arrive
            fall_back(ws, sending, now=now)
            put_off_late_messages(ws, sending, now, delivered)
            rng = random.Random(f"{worker} {now.isoformat()}")  # noqa: S311 (spreads retries, guards nothing)
            pause_harmful(ws, now=now)
            leavers = Leavers(ws, sending, delivered)
            order = Order(ws, sending, delivered)
            maker = ContentMaker(ws, sending)
            run = _Run(maker, sending, delivered, leavers, order, worker, now, runner, accounts, pace, rng)
            run.clock = clock
            rule = holdout_rule(ws.settings, at=now)
            run.holdout = Holdout(rule.salt, rule.share)
            _send_all(ws, run, limit, progress)
            receive_early(ws, now=run.now)
            while limit is None and fall_back(ws, sending, now=run.now):
                run.leavers.forget()
                run.order.forget()
                _send_all(ws, run, limit, progress)
        finally:
            runner.run(accounts.close())
            delivered.unusable.update(accounts.unusable)
    delivered.resting.update(pace.resting())
    with ws.ledger.read() as tx:
        delivered.paused.update({switch.scope: switch.reason for switch in switches(tx) if switch.paused})
    return delivered


@dataclass(slots=True)
class _Run:
    """What every batch of one delivery run needs; `now` goes on by the clock, or by what the run waits."""

    maker: ContentMaker
    sending: Sending
    delivered: Delivered
    leavers: Leavers
    order: Order
    worker: str
    now: datetime
    runner: asyncio.Runner
    accounts: UsableAccounts
    pace: Pace
    rng: random.Random
    hours: Mapping[str, Hours] = field(default_factory=dict)
    """Of each message claimed last: when it may leave."""
    holdout: Holdout | None = None
    clock: Callable[[], datetime] | None = None
    lease_ends: datetime = NEVER_CLAIMED
    """Until when, by the pace's clock, what was claimed last is this worker's alone."""

    def go_on(self, waited_s: float = 0.0) -> None:
        """Let time pass."""
        if self.clock is not None:
            self.now = max(self.now, self.clock())
        else:
            self.now += timedelta(seconds=waited_s)

    def may_leave(self) -> bool:
        """Whether a request that leaves now is over before the lease is: asked before each one's first byte."""
        return self.pace.now() + SEND_TIMEOUT < self.lease_ends


def _send_all(ws: Workspace, run: _Run, limit: int | None, progress: Callable[[int, int], None] | None) -> None:
    claimed_so_far = 0
    while run.sending.experiments and (limit is None or claimed_so_far < limit):
        run.go_on()
        most = BATCH if limit is None else min(BATCH, limit - claimed_so_far)
        room = run.pace.room()
        channels = run.accounts.usable(room, now=run.now)
        run.leavers.leave_out(run.now)
        run.order.keep(run.now)
        run.lease_ends = run.pace.now() + LEASE  # before the claim: if anything, the lease lasts longer
        claimed = claim(ws.ledger, _request(run, channels, most, room)) if channels else []
        if not claimed:
            return
        claimed_so_far += len(claimed)
        _dispatch(ws, claimed, run)
        if progress is not None:
            progress(claimed_so_far, max(claimed_so_far, limit or 0))


def _request(run: _Run, channels: Sequence[str], limit: int, room: Mapping[str, int | None]) -> ClaimRequest:
    return ClaimRequest(
        worker=run.worker,
        channels=channels,
        limit=limit,
        room={channel: room[channel] for channel in channels},
        now=run.now,
        lease=LEASE,
        rules=run.sending.rules,
        experiments=frozenset(run.sending.experiments),
        holdout=run.holdout,
        skipped=run.delivered.skipped,
    )


def _dispatch(ws: Workspace, claimed: Sequence[ClaimedMessage], run: _Run) -> None:
    fence = claimed[0].fence
    claimed = _look_at_clock(ws, claimed, run)
    ready, unsendable = run.maker.make(claimed)
    held = {message.message_key for message, why in unsendable if why.hold}
    for message, why in unsendable:
        if why.hold:
            _hold(run, message, why.reason)
    release(ws.ledger, held, run.worker, fence, run.now, reason="held")
    failed = [(m, why) for m, why in unsendable if why.failed]
    _settle(ws, run, [_failure(m, why, fence) for m, why in failed])
    skipped = {m.message_key: why.reason for m, why in unsendable if not why.hold and not why.failed}
    run.delivered.skipped.update(skipped.values())
    skip(ws.ledger, skipped, run.now, worker=run.worker, fence=fence)
    tries = {message.message_key: message.attempts + 1 for message in claimed}
    ready = _within_budget(ws, run, ready, claimed)
    for channel in sorted({message.channel for message in ready}):
        _send_paced(ws, [message for message in ready if message.channel == channel], run, fence, tries)


def _within_budget(
    ws: Workspace, run: _Run, ready: Sequence[Outgoing], claimed: Sequence[ClaimedMessage]
) -> list[Outgoing]:
    """Write what costs more than planned, such as an SMS of three segments; give back what no budget carries then.

    The next claim judges it at its price.
    """
    of = {message.message_key: message for message in claimed}
    limits = {name: rules.max_cost_micros for name, rules in run.sending.rules.items()}
    limited = [message for message in ready if limits.get(of[message.key].campaign) is not None]
    costs = {m.key: cost for m in limited if (cost := cost_of(ws, m)).micros != of[m.key].cost_micros}
    if not costs:
        return list(ready)
    fence = claimed[0].fence
    used = price(ws.ledger, costs, run.worker, fence)
    overdrawn = {name for name, spent in used.items() if spent > (limits[name] or 0)}
    back = {message.key for message in limited if of[message.key].campaign in overdrawn}
    release(ws.ledger, back, run.worker, fence, run.now, reason="costs_more")
    return [message for message in ready if message.key not in back]


def _look_at_clock(ws: Workspace, claimed: Sequence[ClaimedMessage], run: _Run) -> list[ClaimedMessage]:
    """Keep back what law, quiet hours or a holiday forbid at this very minute where the customer lives."""
    looked = look_at_clock(ws, run.sending, claimed, run.now)
    run.hours = looked.hours
    run.delivered.put_off += looked.put_off
    run.delivered.skipped[OUTSIDE_HOURS] += looked.skipped
    return looked.messages


def _send_paced(ws: Workspace, messages: Sequence[Outgoing], run: _Run, fence: int, tries: Mapping[str, int]) -> None:
    """Send a channel's messages as fast as its account may be used; what must wait for it goes back."""
    channel = messages[0].channel
    waiting = [message.key for message in messages]
    for piece, waited_s in run.pace.slices(channel, messages):
        run.go_on(waited_s)
        waiting = waiting[len(piece) :]
        _send(ws, piece, run, fence, tries)
    if waiting:
        release(ws.ledger, waiting, run.worker, fence, run.now, reason="account_resting")


def _send(ws: Workspace, messages: Sequence[Outgoing], run: _Run, fence: int, tries: Mapping[str, int]) -> None:
    """Commit the intent, send what it allows, record what became of it."""
    provider = run.accounts.open(messages[0].channel)
    assert provider is not None  # nothing is claimed before its account was opened
    keys = [message.key for message in messages]
    # the clock has gone on while the account was waited for
    still_allowed = [message for message in messages if run.hours[message.key].allow(run.now) and run.may_leave()]
    bill = Bill(provider.name, {message.key: cost_of(ws, message) for message in still_allowed})
    where = run.maker.addressed
    asked = [message.key for message in still_allowed]
    allowed = set(intend(ws.ledger, asked, run.worker, fence, run.now, margin=SEND_TIMEOUT, addressed=where, bill=bill))
    batch = {message.key: message for message in messages if message.key in allowed}
    release(ws.ledger, [key for key in keys if key not in allowed], run.worker, fence, run.now)
    if not batch:
        return
    try:
        results = run.runner.run(_send_batch(provider, list(batch.values()), run))
    except ChannelError as error:
        _settle(ws, run, [_unknown(message, provider, str(error), fence) for message in batch.values()])
        raise
    if wishes := suppressions_from(results, batch, provider, run.now):
        suppress_many(ws.ledger, wishes)
    _settle(
        ws,
        run,
        [
            settlement_of(ws, batch[r.key], r, Attempt(provider, run.now, fence, tries[r.key]), rng=run.rng)
            for r in results
        ],
    )
    run.pace.learn(provider.channel, [result for result in results if result.code not in KEPT_BACK])
    _count_harm(ws, run, results, batch)


def _count_harm(ws: Workspace, run: _Run, results: Sequence[SendResult], batch: Mapping[str, Outgoing]) -> None:
    """Count what was taken, or refused for its address; a refusal may be the one that is too many."""
    refused = [result.key for result in results if is_bounce(result)]
    taken = [result.key for result in results if result.outcome == "accepted"]
    counted = [(campaign_of(key.partition("/")[0]), batch[key].channel) for key in (*taken, *refused)]
    count_sent(ws.ledger, counted, at=run.now)
    if refused:
        count_troubles(ws.ledger, [(key, "bounce") for key in refused], at=run.now)
        pause_harmful(ws, now=run.now)


async def _send_batch(provider: Provider, batch: Sequence[Outgoing], run: _Run) -> list[SendResult]:
    began, clock = run.pace.now(), run.pace.now
    closing = {message.key: message.expires_at for message in batch}
    in_time = InTime(closing, run.hours, lambda: run.now + (clock() - began))
    with leaving_while(run.may_leave, in_time):
        return await provider.send(batch, now=run.now)


def _failure(message: ClaimedMessage, why: Unsendable, fence: int) -> Settlement:
    return Settlement(message_key=message.message_key, state="failed", reason=why.reason, fence=fence)


def _unknown(message: Outgoing, provider: Provider, reason: str, fence: int) -> Settlement:
    """After a provider broke down in the middle: it may have taken the message."""
    return Settlement(message_key=message.key, state="in_doubt", provider=provider.name, reason=reason, fence=fence)


def _settle(ws: Workspace, run: _Run, settlements: Iterable[Settlement]) -> None:
    news = list(settlements)
    if not news:
        return
    ignored = set(settle(ws.ledger, news, run.now).ignored)
    fates = Counter(item.state for item in news if item.message_key not in ignored)
    run.delivered.sent += fates["sent"]
    run.delivered.failed += fates["failed"]
    run.delivered.in_doubt += fates["in_doubt"]
    run.delivered.retried += fates["pending"]


def _hold(run: _Run, message: ClaimedMessage, reason: str) -> None:
    """Take no more messages of this experiment in this run: they stay pending until somebody mends the cause."""
    if message.experiment_id in run.sending.experiments:
        run.sending.experiments.discard(message.experiment_id)
        run.delivered.held[message.campaign] = reason
        _log.error("campaign %s is held: %s", message.campaign, reason)
