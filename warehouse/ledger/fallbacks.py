"""Fallbacks: the next channel of a message that did not arrive, never more than one message of a step at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.changes import Changes
from warehouse.ledger.engine import Ledger
from warehouse.ledger.messages import Event, append_events, lock_messages, message_key
from warehouse.ledger.types import instant_text

_O = schema.outbox
_A = schema.assignments

UNREACHABLE: Final = ("no_address", "no_consent", "suppressed", "suppressed_address")
"""Why a message was skipped that its customer may get on another channel."""
_OUR_FAULT: Final = "render_failed"
"""Not the channel's: words that do not fit the customer are for a person to mend."""
_ALIKE: Final = (
    "experiment_id", "customer_id", "step", "turn", "arm", "template", "offer", "code", "locale", "unless", "zones",
    "place",
)  # fmt: skip
"""What a fallback takes over from the message it follows."""


class Undelivered(NamedTuple):
    """A message that did not arrive, and the channels left to try for it, the next one first."""

    message_key: str
    experiment_id: str
    customer_id: str
    step: int
    turn: int
    arm: str
    channel: str
    offer: str | None
    expires_at: datetime
    zones: tuple[str, ...]
    place: str
    left: tuple[str, ...]
    assigned_at: datetime


@dataclass(frozen=True, slots=True)
class Unreported:
    """Messages of one step that nobody has reported delivered, though their intent lies at or before `sent_by`."""

    experiment_id: str
    arm: str
    step: int
    sent_by: datetime


@dataclass(frozen=True, slots=True)
class Successor:
    """What follows a message that did not arrive: on which channel, when it may leave, at what expected cost."""

    channel: str
    not_before: datetime
    closes_at: datetime
    expires_at: datetime
    cost_micros: int


def undelivered(
    tx: sa.Connection, experiments: Iterable[str], unreported: Sequence[Unreported], *, limit: int = 1_000
) -> list[Undelivered]:
    """List messages of these experiments that did not arrive and have channels left, `limit` at most.

    Those did not arrive that failed, that could not be sent because the customer cannot be reached on their channel,
    and those of which `unreported` has waited long enough for news.
    """
    gone = sa.and_(
        sa.text("fallback <> '' AND (state = 'failed' OR state = 'skipped')"),
        _O.c.experiment_id.in_(sorted(experiments)),
        sa.or_(
            sa.and_(_O.c.state == "failed", _O.c.reason != _OUR_FAULT),
            sa.and_(_O.c.state == "skipped", _O.c.reason.in_(UNREACHABLE)),
        ),
    )
    found = _read(tx, gone, limit)
    for step in unreported:
        silent = sa.and_(
            sa.text("fallback <> '' AND state = 'sent'"),
            _O.c.experiment_id == step.experiment_id,
            _O.c.intent_at <= step.sent_by,
            _O.c.arm == step.arm,
            _O.c.step == step.step,
        )
        found += _read(tx, silent, limit - len(found)) if len(found) < limit else []
    return found


def add_fallbacks(ledger: Ledger, successors: Mapping[str, Successor | None], now: datetime) -> int:
    """Queue what follows each message (by key) on its next channel; give how many were queued.

    A message is followed once: the channels it had left go to its successor. None means that there is no moment left.
    Whatever has moved on in the meantime (delivered, or followed by another worker's hand) is left alone.
    """
    with ledger.begin() as tx:
        lock_messages(tx, sorted(successors))
        rows = tx.execute(
            sa.select(_O).where(dialect.among(tx, _O.c.message_key, sorted(successors)), _O.c.fallback != "")
        )
        followed = [dict(row) for row in rows.mappings() if row["state"] in ("failed", "skipped", "sent")]
        new = [_successor(row, found, now) for row in followed if (found := successors[row["message_key"]]) is not None]
        if new:
            tx.execute(sa.insert(_O), new)
        keys = [row["message_key"] for row in followed]
        instant = instant_text(now)
        used_up = {"message_key": keys, "fallback": [""] * len(keys), "updated_at": [instant] * len(keys)}
        dialect.update_rows(tx, _O, "message_key", used_up)
        append_events(tx, [_event(row, successors[row["message_key"]], now) for row in followed])
    return len(new)


def skip_arrived(ledger: Ledger, experiments: Iterable[str], now: datetime) -> int:
    """Skip the waiting fallbacks of messages that were reported delivered after all; give how many."""
    first = _O.alias("first")
    query = (
        sa.select(_O.c.message_key)
        .join(
            first,
            (first.c.customer_id == _O.c.customer_id)
            & (first.c.experiment_id == _O.c.experiment_id)
            & (first.c.step == _O.c.step)
            & (first.c.turn == _O.c.turn)
            & (first.c.hop < _O.c.hop),
        )
        .where(
            sa.text("outbox.state = 'pending'"),
            _O.c.experiment_id.in_(sorted(experiments)),
            _O.c.hop > 0,
            first.c.state == "delivered",
        )
    )
    with ledger.begin() as tx:
        changes = Changes(lock_messages(tx, sorted(set(tx.execute(query).scalars()))), now)
        for key, row in changes.rows.items():
            if row.state == "pending":
                changes.leave(key, "skipped", "skipped", "arrived")
        changes.write(tx)
    return changes.applied


def count_fallbacks(tx: sa.Connection, experiment_id: str) -> int:
    """Count the messages of an experiment that follow others on another channel; they are among the planned ones."""
    query = sa.select(sa.func.count()).where(_O.c.experiment_id == experiment_id, _O.c.hop > 0)
    return int(tx.execute(query).scalar_one())


def _read(tx: sa.Connection, condition: sa.ColumnElement[bool], limit: int) -> list[Undelivered]:
    columns = [_O.c[name] for name in Undelivered._fields if name not in ("left", "assigned_at")]
    of_customer = (_A.c.experiment_id == _O.c.experiment_id) & (_A.c.customer_id == _O.c.customer_id)
    query = (
        sa.select(*columns, _O.c.fallback, _A.c.assigned_at)
        .select_from(_O.join(_A, of_customer))
        .where(condition)
        .order_by(_O.c.message_key)
        .limit(limit)
    )
    found = []
    for *first, zones, place, left, assigned_at in tx.execute(query).all():
        parts = tuple(zone for zone in zones.split(",") if zone)
        found.append(Undelivered._make((*first, parts, place, tuple(left.split(",")), assigned_at)))
    return found


def _successor(row: Mapping[str, Any], found: Successor, now: datetime) -> dict[str, Any]:
    channels = row["fallback"].split(",")
    alike = {name: row[name] for name in _ALIKE}
    return alike | {
        "message_key": message_key(row["experiment_id"], row["customer_id"], row["step"], row["turn"], found.channel),
        "hop": row["hop"] + 1,
        "channel": found.channel,
        "fallback": ",".join(channels[channels.index(found.channel) + 1 :]),
        "not_before": found.not_before,
        "closes_at": found.closes_at,
        "expires_at": found.expires_at,
        "cost_micros": found.cost_micros,
        "updated_at": now,
    }


def _event(row: Mapping[str, Any], found: Successor | None, now: datetime) -> Event:
    """The line in the history of the message that is followed."""
    return Event(
        message_key=row["message_key"],
        at=now,
        event="fallback",
        state=row["state"],
        applied=False,
        attempt=row["attempts"],
        reason="too_late" if found is None else found.channel,
    )
