"""Settles messages in doubt as far as their provider allows: K by its key, Q by asking, N not at all."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol, cast, runtime_checkable

from channels.errors import ChannelError
from channels.message import CHANNELS, Outgoing
from channels.provider import Provider, SendResult
from channels.wire import each
from flows.steps.message_content import ContentMaker
from flows.steps.settlements import Attempt, settlement_of
from flows.steps.usable_accounts import UsableAccounts
from warehouse.ledger.doubts import Doubt, doubts, provider_ids
from warehouse.ledger.outbox import Settlement, in_doubt, settle

if TYPE_CHECKING:
    from flows.steps.sending_rules import Sending
    from flows.wiring import Workspace

AT_ONCE: Final = 500
LOOKED_AT: Final = 10_000
CONNECTIONS: Final = 16
_log = logging.getLogger(__name__)


@runtime_checkable
class Queryable(Provider, Protocol):
    """A provider of capability Q."""

    async def find(self, message: Outgoing, *, since: datetime, others: Collection[str] = ()) -> SendResult | None:
        """accepted: it took this very message; any other result: it cannot tell; None: it has taken nothing like it.

        `others` are the provider's ids of other messages to the same customer.

        Raises ChannelError where it cannot be asked now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of messages in doubt: found at the provider, or to be sent again because surely not taken."""

    found: int = 0
    resent: int = 0


def reconcile_doubts(
    ws: Workspace, sending: Sending, accounts: UsableAccounts, *, now: datetime, runner: asyncio.Runner
) -> Reconciled:
    """Settle what can be settled; call it after the sweep. What stays in doubt is counted and waits for a person.

    A provider is asked only about what has been in doubt for its reconcile_after: an acceptance may show late.
    """
    found = resent = 0
    with ws.ledger.read() as tx:
        doubtful = [channel for channel in CHANNELS if in_doubt(tx, channel=channel, limit=1)]
    for channel in doubtful:
        provider = accounts.open(channel)
        if provider is None:
            continue
        if provider.capability == "K":
            resent += _by_key(ws, provider, now)
        elif provider.capability == "Q" and isinstance(provider, Queryable):
            news = _by_query(ws, sending, provider, now, runner)
            settle(ws.ledger, news, now)
            found += sum(item.state == "sent" for item in news)
            resent += sum(item.state == "pending" for item in news)
    return Reconciled(found, resent)


def _by_key(ws: Workspace, provider: Provider, now: datetime) -> int:
    """A provider that honours our key takes a message once, however often it is sent under it; by itself, that is.

    What another one may have taken, before the settings named this one, is none of its doubts.
    """
    with ws.ledger.read() as tx:
        doubtful = in_doubt(tx, channel=provider.channel)
    news = [
        Settlement(message_key=row.message_key, state="pending", reason="same_key", fence=row.fence)
        for row in doubtful
        if row.provider == provider.name
    ]
    return settle(ws.ledger, news, now).applied if news else 0


def _by_query(
    ws: Workspace, sending: Sending, provider: Queryable, now: datetime, runner: asyncio.Runner
) -> list[Settlement]:
    grace = ws.settings.providers.reconcile_after(provider.channel)
    with ws.ledger.read() as tx:
        listed = doubts(tx, channel=provider.channel, since_before=now - grace, limit=LOOKED_AT)
    mine = [
        doubt
        for doubt in listed
        if doubt.provider in (None, provider.name) and doubt.message.experiment_id in sending.experiments
    ]
    if not mine:
        return []
    if len(mine) > AT_ONCE:  # not the oldest each time: about some of them the provider can never tell
        mine = random.Random(now.isoformat()).sample(mine, AT_ONCE)  # noqa: S311 (guards nothing)
    ready, _ = ContentMaker(ws, sending).make([doubt.message for doubt in mine])
    asked = {message.key: message for message in ready}
    since = {doubt.message.message_key: doubt for doubt in mine}
    with ws.ledger.read() as tx:
        taken = provider_ids(tx, {message.customer_id for message in ready}, channel=provider.channel)
    questions = [_Question(m, since[m.key], frozenset(taken.get(m.customer_id, ()))) for m in ready]
    answers = runner.run(_ask(provider, questions))
    attempt = Attempt(cast(Provider, provider), now, fence=None)
    rng = random.Random(0)  # noqa: S311 (nothing here waits: no result is transient)
    news, unsure = [], Counter[str]()
    for key, answer in answers:
        if answer is None:
            # of this attempt: another worker may have got the same answer earlier, and sent the message since
            fence = since[key].message.fence
            news.append(Settlement(message_key=key, state="pending", reason="not_at_provider", fence=fence))
        elif answer.outcome == "accepted":
            news.append(settlement_of(ws, asked[key], answer, attempt, rng=rng))
        else:
            unsure[answer.code or "unknown"] += 1
    for code, n in sorted(unsure.items()):
        _log.warning("%s cannot tell about %d messages in doubt (%s); they stay so", provider.name, n, code)
    return news


@dataclass(frozen=True, slots=True)
class _Question:
    """A message in doubt, and the provider's ids that are known to be others'."""

    message: Outgoing
    doubt: Doubt
    others: frozenset[str]


async def _ask(provider: Queryable, questions: Sequence[_Question]) -> list[tuple[str, SendResult | None]]:
    """The provider's answers by message key; those it could not give are left out."""

    async def ask(asked: _Question) -> SendResult | ChannelError | None:
        try:
            return await provider.find(asked.message, since=asked.doubt.intent_at, others=asked.others)
        except ChannelError as error:
            return error

    answers: list[tuple[str, SendResult | None]] = []
    failures = 0
    # few at once: the time that a question waits for a connection counts as its own
    results = await each(questions, ask, at_once=CONNECTIONS)
    for asked, result in zip(questions, results, strict=True):
        if isinstance(result, ChannelError):
            failures += 1
        else:
            answers.append((asked.message.key, result))
    if failures:
        _log.warning("%s could not be asked about %d messages in doubt; they stay so", provider.name, failures)
    return answers
