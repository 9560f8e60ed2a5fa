"""Switches: pausing a campaign, a channel of one or of all, or everything; then nothing of it is claimed any more.

A scope is a campaign's name, "*" for all, or either with a channel behind a slash: "winback-90d/email", "*/sms".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.engine import Ledger

EVERYTHING: Final = "*"
"""The scope that holds for every campaign."""

_T = schema.switches


@dataclass(frozen=True, slots=True)
class Switch:
    """Whether a scope is paused, since when, by whom and why."""

    scope: str
    paused: bool
    changed_at: datetime
    changed_by: str
    reason: str


def pause(ledger: Ledger, scope: str, *, by: str, reason: str, at: datetime) -> bool:
    """Pause a campaign, or EVERYTHING; False when it was paused already. Waits for claims under way to commit."""
    return _set(ledger, scope, True, {"changed_by": by, "reason": reason, "changed_at": at})


def resume(ledger: Ledger, scope: str, *, by: str, reason: str, at: datetime) -> bool:
    """Let a paused campaign, or EVERYTHING, go on; False when it was not paused."""
    return _set(ledger, scope, False, {"changed_by": by, "reason": reason, "changed_at": at})


def paused(tx: sa.Connection) -> set[str]:
    """Give the scopes that are paused."""
    return set(tx.execute(sa.select(_T.c.scope).where(_T.c.paused)).scalars())


def switches(tx: sa.Connection) -> list[Switch]:
    """List every scope that was ever paused, sorted."""
    return [Switch(**row) for row in tx.execute(sa.select(_T).order_by(_T.c.scope)).mappings()]


def channel_scope(campaign: str, channel: str) -> str:
    """The scope of one channel of a campaign, or of EVERYTHING."""
    return f"{campaign}/{channel}"


def is_stopped(stopped: Collection[str], campaign: str, channel: str) -> bool:
    """Whether one of the paused scopes holds a campaign's messages on a channel."""
    scopes = (EVERYTHING, campaign, channel_scope(EVERYTHING, channel), channel_scope(campaign, channel))
    return any(scope in stopped for scope in scopes)


def not_stopped(stopped: Collection[str]) -> sa.ColumnElement[bool]:
    """The condition that none of the paused scopes holds a message of the outbox."""
    o, e = schema.outbox.c, schema.experiments.c
    conditions = []
    for scope in sorted(stopped):
        campaign, _, channel = scope.partition("/")
        held: list[sa.ColumnElement[bool]] = (
            []
            if campaign == EVERYTHING
            else [o.experiment_id.in_(sa.select(e.experiment_id).where(e.campaign == campaign))]
        )
        held += [o.channel == channel] if channel else []
        conditions.append(sa.not_(sa.and_(sa.true(), *held)))
    return sa.and_(sa.true(), *conditions)


def _set(ledger: Ledger, scope: str, value: bool, note: dict[str, object]) -> bool:
    with ledger.begin() as tx:
        dialect.close_gate(tx)
        before = tx.execute(sa.select(_T.c.paused).where(_T.c.scope == scope)).scalar()
        if bool(before) == value:
            return False
        if before is None:
            tx.execute(sa.insert(_T).values(scope=scope, paused=value, **note))
        else:
            tx.execute(sa.update(_T).where(_T.c.scope == scope).values(paused=value, **note))
        return True
