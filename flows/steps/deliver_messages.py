"""Sends what may leave now: claim, last checks, render, intent, send, settle."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from channels.errors import ChannelError
from channels.message import Outgoing, Sms
from channels.provider import Provider, SendResult
from channels.sms_length import measure_sms
from flows.steps.late_messages import put_off_late_messages
from flows.steps.message_content import ContentMaker, Unsendable
from flows.steps.sending_rules import Sending, read_sending
from warehouse.facts.outcomes import purchased_since
from warehouse.ledger.outbox import (
    ClaimedMessage,
    ClaimRequest,
    Settlement,
    claim,
    in_doubt,
    intend,
    release,
    settle,
    skip,
    sweep,
)

if TYPE_CHECKING:
    from flows.wiring import Workspace

BATCH: Final = 500
LEASE: Final = timedelta(minutes=10)
SEND_TIMEOUT: Final = timedelta(seconds=60)
"""A lease must last so much longer than now for a message to be sent under it."""
BACKOFF: Final = timedelta(minutes=1)
"""Wait after a refusal that asks to try later."""

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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**self.counts(), "skipped_because": dict(sorted((+self.skipped).items())), "held": self.held}


def deliver_messages(
    ws: Workspace,
    *,
    now: datetime,
    worker: str,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Delivered:
    """Send every message whose slot is open at `now`, `limit` at most; may run in any number of processes at once.

    Killed at any point it leaves messages that the next run takes up again, or that are in doubt and counted as such.
    Raises BookErrors where the campaign files cannot be read: nothing leaves then.
    """
    delivered = Delivered()
    sending = read_sending(ws)
    delivered.held.update(sending.held)
    swept = sweep(ws.ledger, now)
    delivered.skipped["expired"] += swept.expired
    _retry_idempotent(ws, now)
    put_off_late_messages(ws, sending, now, delivered)
    maker = ContentMaker(ws, sending)
    claimed_so_far = 0
    while sending.experiments and (limit is None or claimed_so_far < limit):
        room = BATCH if limit is None else min(BATCH, limit - claimed_so_far)
        claimed = claim(ws.ledger, _request(sending, worker, room, now))
        if not claimed:
            break
        claimed_so_far += len(claimed)
        _dispatch(ws, claimed, _Run(maker, sending, delivered, worker, now))
        if progress is not None:
            progress(claimed_so_far, max(claimed_so_far, limit or 0))
    return delivered


@dataclass(frozen=True, slots=True)
class _Run:
    """What every batch of one delivery run needs."""

    maker: ContentMaker
    sending: Sending
    delivered: Delivered
    worker: str
    now: datetime


def _request(sending: Sending, worker: str, limit: int, now: datetime) -> ClaimRequest:
    return ClaimRequest(
        worker=worker,
        channels=("sms", "email", "push"),
        limit=limit,
        now=now,
        lease=LEASE,
        rules=sending.rules,
        experiments=frozenset(sending.experiments),
    )


def _dispatch(ws: Workspace, claimed: Sequence[ClaimedMessage], run: _Run) -> None:
    fence = claimed[0].fence
    claimed = _leave_out_buyers(ws, claimed, run)
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
    for channel in sorted({message.channel for message in ready}):
        _send(ws, [message for message in ready if message.channel == channel], run, fence)


def _leave_out_buyers(ws: Workspace, claimed: Sequence[ClaimedMessage], run: _Run) -> list[ClaimedMessage]:
    """Skip the messages whose step is not for customers who have bought since they were assigned."""
    since = {m.customer_id: m.assigned_at for m in claimed if m.unless == "purchased"}
    if not since:
        return list(claimed)
    bought = purchased_since(ws.facts, since, until=run.now)
    leaving = {m.message_key: "purchased" for m in claimed if m.unless == "purchased" and m.customer_id in bought}
    skip(ws.ledger, leaving, run.now, worker=run.worker, fence=claimed[0].fence)
    run.delivered.skipped.update(leaving.values())
    return [m for m in claimed if m.message_key not in leaving]


def _send(ws: Workspace, messages: Sequence[Outgoing], run: _Run, fence: int) -> None:
    """Commit the intent, send what it allows, record what became of it."""
    provider = ws.providers[messages[0].channel]
    keys = [message.key for message in messages]
    allowed = set(intend(ws.ledger, keys, run.worker, fence, run.now, margin=SEND_TIMEOUT))
    batch = [message for message in messages if message.key in allowed]
    release(ws.ledger, [key for key in keys if key not in allowed], run.worker, fence, run.now)
    if not batch:
        return
    try:
        results = asyncio.run(_send_batch(provider, batch, run.now))
    except ChannelError as error:
        _settle(ws, run, [_unknown(message, provider, str(error), fence) for message in batch])
        raise
    contents = {message.key: message for message in batch}
    _settle(ws, run, [_settlement(ws, provider, contents[r.key], r, run.now, fence) for r in results])


async def _send_batch(provider: Provider, batch: Sequence[Outgoing], now: datetime) -> list[SendResult]:
    try:
        return await provider.send(batch, now=now)
    finally:
        await provider.close()


def _settlement(
    ws: Workspace, provider: Provider, message: Outgoing, result: SendResult, now: datetime, fence: int
) -> Settlement:
    segments = measure_sms(message.content.body).segments if isinstance(message.content, Sms) else None
    price = getattr(ws.settings.prices, message.channel).amount
    told = Settlement(
        message_key=result.key,
        state="sent",
        provider=provider.name,
        provider_id=result.provider_id,
        provider_code=result.code,
        fence=fence,
    )
    match result.outcome:
        case "accepted":
            return replace(told, segments=segments, cost_micros=round(price * (segments or 1) * 1_000_000))
        case "permanent":
            return replace(told, state="failed", reason=result.code or "refused")
        case "transient":
            return replace(told, state="pending", reason=result.code or "try_later", not_before=now + BACKOFF)
        case "unknown":
            return replace(told, state="in_doubt", reason=result.code or "unknown")


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


def _retry_idempotent(ws: Workspace, now: datetime) -> None:
    """Messages in doubt at a provider that honours our key are sent again under the same key: it takes them once."""
    for channel, provider in ws.providers.items():
        if provider.capability != "K":
            continue
        with ws.ledger.read() as tx:
            doubtful = in_doubt(tx, channel=channel)
        news = [Settlement(message_key=row.message_key, state="pending", reason="same_key") for row in doubtful]
        if news:
            settle(ws.ledger, news, now)
