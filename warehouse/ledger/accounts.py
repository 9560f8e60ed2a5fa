"""The pace of a provider account, kept by all dispatchers together: tokens, pauses and one probe at a time.

One row an account. A worker takes the tokens of a short interval at once, in one update of that row, so that the pace
costs a transaction for each piece of work and not for each message. Workers' clocks should agree to within a second or
so; a row that was written more than a minute ahead of the asking clock is taken for one that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from channels.pacing import Breaker, TokenBucket
from channels.provider import Outcome
from warehouse.ledger import account_tables, dialect
from warehouse.ledger.engine import Ledger

_T = account_tables.provider_accounts

SKEW: Final = timedelta(seconds=60)
"""How far ahead of the asking clock a row may have been written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to use which account at what instant: `weight` tokens, or `probe_weight` where it may only try.

    `rate_per_s` None: nothing limits the account but its own word. `patience_s`: how long the worker would wait.
    """

    account: str
    worker: str
    now: datetime
    weight: float
    probe_weight: float = 1.0
    rate_per_s: float | None = None
    patience_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Use the tokens after `wait_s` seconds; `is_probe`: for one message only, and `learn` what became of it."""

    wait_s: float
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class Resting:
    """The account is left alone: why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a provider said: the fates of attempts in their order, how long it asks to wait, why it refuses us all."""

    worker: str
    outcomes: Sequence[Outcome]
    retry_after_s: float | None = None
    halt: str | None = None


def take(ledger: Ledger, request: Request) -> Permit | Resting:
    """Take tokens of an account for the whole fleet, or say why it rests; while it is open one worker may try it.

    What is not used is lost. Nothing is taken where the wait would be longer than the worker's patience.
    """
    if request.rate_per_s is None:
        with ledger.read() as tx:
            found = _read(tx, request.account, request.now)
        if found.breaker.state == "closed" and not _is_paused(found, request.now):
            return Permit(0.0)
    with ledger.begin(durable=False) as tx:
        account = _lock(tx, request.account, request.now)
        answer = _decide(account, request)
        if isinstance(answer, Permit):
            _write(tx, request.account, account, request.now)
    return answer


def may_go_on(ledger: Ledger, account: str, *, worker: str, now: datetime) -> bool:
    """Whether tokens taken earlier may still be used: the account has neither been paused nor opened since."""
    with ledger.read() as tx:
        found = _read(tx, account, now)
    return not _is_paused(found, now) and found.breaker.state != "open" and found.breaker.probe in (None, worker)


def learn(ledger: Ledger, account: str, news: News, *, now: datetime) -> None:
    """Take in what the provider said. Success of an account that works costs a look, and no write."""
    if news.retry_after_s is None and news.halt is None and not _failed(news.outcomes):
        with ledger.read() as tx:
            if _read(tx, account, now).breaker.is_settled:
                return
    now_s = now.timestamp()
    with ledger.begin(durable=False) as tx:
        known = _lock(tx, account, now)
        breaker = known.breaker
        if news.halt is not None:  # first: it says better why than the share of failures does
            breaker.trip(news.halt, now_s=now_s, who=news.worker)
        for outcome in news.outcomes if _failed(news.outcomes) else news.outcomes[: breaker.window]:
            breaker.record(outcome, now_s=now_s, who=news.worker)
        if news.retry_after_s is not None:
            until = now + timedelta(seconds=news.retry_after_s)
            known.paused_until = max(until, known.paused_until or until)
        _write(tx, account, known, now)


def resting_accounts(tx: sa.Connection, accounts: Iterable[str], *, now: datetime) -> dict[str, str]:
    """Those of the accounts that do not work, or that asked to be left alone: account -> why.

    One whose rest is over is none of them: its next message tries it.
    """
    told = {}
    for name in accounts:
        found = _read(tx, name, now)
        if not found.breaker.may_ask(now_s=now.timestamp()):
            told[name] = found.breaker.reason or "resting"
        elif _is_paused(found, now):
            told[name] = _pause_told(found)
    return told


def usable_accounts(tx: sa.Connection, accounts: Iterable[str], *, now: datetime, patience_s: float = 10.0) -> set[str]:
    """Those of the accounts that may be used within a worker's patience, or tried because their rest is over."""
    soon = now + timedelta(seconds=patience_s)
    found = {name: _read(tx, name, now) for name in accounts}
    return {
        name
        for name, account in found.items()
        if account.breaker.may_ask(now_s=now.timestamp())
        and not _is_paused(account, soon)
        and (account.free_at is None or account.free_at <= soon)
    }


def unproven_accounts(tx: sa.Connection, accounts: Iterable[str], *, now: datetime) -> set[str]:
    """Those of the accounts that rest, or are only tried: nobody knows yet whether they work again."""
    return {name for name in accounts if _read(tx, name, now).breaker.state != "closed"}


@dataclass(slots=True)
class _Account:
    """One row as the rules of channels/pacing.py see it."""

    breaker: Breaker = field(default_factory=Breaker)
    free_at: datetime | None = None
    paused_until: datetime | None = None


def _decide(account: _Account, request: Request) -> Permit | Resting:
    now_s, breaker = request.now.timestamp(), account.breaker
    paused_s = 0.0
    if account.paused_until is not None:
        paused_s = max(0.0, (account.paused_until - request.now).total_seconds())
    if paused_s > request.patience_s:
        return Resting(_pause_told(account))
    if not breaker.admits(now_s=now_s + paused_s, who=request.worker):
        return Resting(breaker.reason or "resting")
    is_probe = breaker.state == "probing"
    if request.rate_per_s is None:
        return Permit(paused_s, is_probe)
    bucket = TokenBucket(request.rate_per_s)
    if account.free_at is not None:
        bucket.free_at_s = account.free_at.timestamp()
    bucket.pause(paused_s, now_s=now_s - _no_pause(paused_s))
    wait_s = bucket.reserve(request.probe_weight if is_probe else request.weight, now_s=now_s)
    if wait_s > request.patience_s and not is_probe:
        return Resting(f"its tokens are promised to other workers for {wait_s:.0f} seconds")
    account.free_at = _instant(bucket.free_at_s)
    return Permit(wait_s, is_probe)


def _no_pause(paused_s: float) -> float:
    """Without a pause an idle account keeps what it has saved up."""
    return 0.0 if paused_s else float("inf")


def _failed(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome in ("transient", "unknown") for outcome in outcomes)


def _is_paused(account: _Account, now: datetime) -> bool:
    return account.paused_until is not None and account.paused_until > now


def _pause_told(account: _Account) -> str:
    assert account.paused_until is not None  # asked only of accounts that are paused
    return f"the provider asked to be left alone until {account.paused_until:%Y-%m-%d %H:%M:%S} UTC"


def _read(tx: sa.Connection, name: str, now: datetime) -> _Account:
    row = tx.execute(sa.select(_T).where(_T.c.account == name)).mappings().first()
    return _account(row, now)


def _lock(tx: sa.Connection, name: str, now: datetime) -> _Account:
    """The account's row, held until the commit (SQLite has one writer anyway); made where there is none."""
    if dialect.is_postgres(tx):
        insert = sa.text(
            "INSERT INTO provider_accounts (account, rests, recent, updated_at) VALUES (:account, 0, '', :at) "
            "ON CONFLICT DO NOTHING"
        )
        tx.execute(insert, {"account": name, "at": now})
    row = tx.execute(sa.select(_T).where(_T.c.account == name).with_for_update()).mappings().first()
    if row is None:
        tx.execute(sa.insert(_T).values(account=name, updated_at=now))
    return _account(row, now)


def _account(row: sa.RowMapping | None, now: datetime) -> _Account:
    if row is None or row["updated_at"] > now + SKEW:
        return _Account()
    breaker = Breaker(
        reason=row["reason"],
        recent=[letter == "1" for letter in row["recent"]],
        opened_at_s=None if row["opened_at"] is None else row["opened_at"].timestamp(),
        rests=row["rests"],
        probe=row["probe"],
    )
    return _Account(breaker, row["free_at"], row["paused_until"])


def _write(tx: sa.Connection, name: str, account: _Account, now: datetime) -> None:
    breaker = account.breaker
    values = {
        "free_at": account.free_at,
        "paused_until": account.paused_until,
        "opened_at": None if breaker.opened_at_s is None else _instant(breaker.opened_at_s),
        "rests": breaker.rests,
        "probe": breaker.probe,
        "recent": "".join("1" if failed else "0" for failed in breaker.recent),
        "reason": breaker.reason,
        "updated_at": now,
    }
    tx.execute(sa.update(_T).where(_T.c.account == name).values(**values))


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
