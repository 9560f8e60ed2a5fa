"""How fast a delivery run uses each channel's account, and when it leaves one alone, together with all workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from channels.message import CHANNELS, Outgoing, Sms
from channels.provider import SendResult
from channels.sms_length import measure_sms
from warehouse.ledger.accounts import (
    News,
    Request,
    Resting,
    learn,
    may_go_on,
    resting_accounts,
    take,
    unproven_accounts,
    usable_accounts,
)

if TYPE_CHECKING:
    from flows.settings import Settings
    from warehouse.ledger.engine import Ledger

LEASE_S: Final = 0.25
"""A worker takes so many seconds' worth of an account's tokens at a time: a burst is never larger than this."""
ROUND_S: Final = 60.0
"""A worker claims no more at a time than its account carries in so many seconds, were it the only one: well within the
lease, also where a few workers share the account or messages weigh several segments."""
PATIENCE_S: Final = 10.0
"""A worker waits no longer for its turn; its messages go back, and the next delivery run takes them up again."""


@dataclass(frozen=True, slots=True)
class Account:
    """A provider account as the fleet knows it, and its rate: messages a second (SMS: segments), None for no limit."""

    name: str
    rate_per_s: float | None = None


def accounts_of(settings: Settings) -> dict[str, Account]:
    """Channel -> the account that its messages leave by."""
    providers = settings.providers
    return {
        channel: Account(f"{channel}:{getattr(providers, channel)}", providers.rate_per_s(channel))
        for channel in CHANNELS
    }


def resting_channels(ledger: Ledger, accounts: Mapping[str, Account], *, now: datetime) -> dict[str, str]:
    """Channel -> why its account is left alone; channels whose accounts may be used, or tried, are left out."""
    with ledger.read() as tx:
        told = resting_accounts(tx, [account.name for account in accounts.values()], now=now)
    return {channel: told[account.name] for channel, account in accounts.items() if account.name in told}


class Pace:
    """What one worker may send through each channel's account. Tokens, pauses and probes are the whole fleet's."""

    def __init__(
        self,
        ledger: Ledger,
        worker: str,
        accounts: Mapping[str, Account],
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`worker`: a name no other worker has; `clock` should agree with the other workers' to within a second."""
        self._ledger, self._worker = ledger, worker
        self._accounts = dict(accounts)
        self._clock, self._sleep = clock, sleep
        self._probing: set[str] = set()

    def now(self) -> datetime:
        """The instant by the worker's clock."""
        return self._clock()

    def room(self) -> dict[str, int | None]:
        """The channels whose accounts may be used now, or tried because their rest is over: how much to claim of each.

        No more than the account carries in a round of `ROUND_S`, one message where it is only tried, None: no limit.
        What is claimed above that would be given back, with a line in the history of every message.
        """
        with self._ledger.read() as tx:
            names = [account.name for account in self._accounts.values()]
            usable = usable_accounts(tx, names, now=self._clock(), patience_s=PATIENCE_S)
            tried = unproven_accounts(tx, names, now=self._clock())
        return {
            channel: 1 if account.name in tried else _carried(account)
            for channel, account in self._accounts.items()
            if account.name in usable or channel in self._probing
        }

    def resting(self) -> dict[str, str]:
        """Channel -> why its account is left alone."""
        return resting_channels(self._ledger, self._accounts, now=self._clock())

    def slices(self, channel: str, messages: Sequence[Outgoing]) -> Iterator[tuple[list[Outgoing], float]]:
        """Messages in pieces that may be sent, each with the seconds waited for it; stops where the account must rest.

        While an account is on probation the first piece is one message. Call `learn` after each piece.
        """
        rest = list(messages)
        while rest:
            piece, waited_s = self._next_piece(channel, rest)
            if not piece:
                return
            rest = rest[len(piece) :]
            yield piece, waited_s

    def learn(self, channel: str, results: Sequence[SendResult]) -> None:
        """Take in what the provider said: when to come back, and whether the account works."""
        waits = [result.retry_after_s for result in results if result.retry_after_s is not None]
        halted = next((result for result in results if result.action == "halt"), None)
        news = News(
            worker=self._worker,
            outcomes=[result.outcome for result in results],
            retry_after_s=max(waits, default=None),
            halt=None if halted is None else f"{halted.code}: {halted.reason}",
        )
        learn(self._ledger, self._accounts[channel].name, news, now=self._clock())
        self._probing.discard(channel)

    def _next_piece(self, channel: str, messages: Sequence[Outgoing]) -> tuple[list[Outgoing], float]:
        """The next messages that may be sent, none where the account rests, and the seconds waited."""
        account, waited_s = self._accounts[channel], 0.0
        if channel in self._probing:  # the message that was to try the account did not leave: another one does
            return [messages[0]], 0.0
        piece = self._piece(account, messages)
        while True:
            request = Request(
                account=account.name,
                worker=self._worker,
                now=self._clock(),
                weight=float(sum(map(weight_of, piece))),
                probe_weight=float(weight_of(messages[0])),
                rate_per_s=account.rate_per_s,
                patience_s=PATIENCE_S,
            )
            answer = take(self._ledger, request)
            if isinstance(answer, Resting):
                return [], waited_s
            if answer.wait_s > 0:
                self._sleep(answer.wait_s)
                waited_s += answer.wait_s
                if not may_go_on(self._ledger, account.name, worker=self._worker, now=self._clock()):
                    continue  # another worker was told to leave the account alone while this one waited
            if answer.is_probe:
                self._probing.add(channel)
                return [messages[0]], waited_s
            return piece, waited_s

    def _piece(self, account: Account, messages: Sequence[Outgoing]) -> list[Outgoing]:
        if account.rate_per_s is None:
            return list(messages)
        piece: list[Outgoing] = []
        left = account.rate_per_s * LEASE_S
        for message in messages:
            left -= weight_of(message)
            if piece and left < 0:
                break
            piece.append(message)
        return piece


def _carried(account: Account) -> int | None:
    return None if account.rate_per_s is None else max(1, round(account.rate_per_s * ROUND_S))


def weight_of(message: Outgoing) -> int:
    """What a message takes of its account's rate: the segments of an SMS, 1 for anything else."""
    return measure_sms(message.content.body).segments if isinstance(message.content, Sms) else 1
