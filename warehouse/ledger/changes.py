"""Changes of messages in one transaction: decided row by row, the same on every database, and written in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.messages import Event, MessageRow, adjust_budgets, append_events
from warehouse.ledger.types import instant_text

_COUNTED: Final = frozenset(schema.COUNTED)
_PROOF: Final = frozenset({"sent", "delivered"})

Outcome = Literal["sent", "delivered", "failed", "in_doubt", "pending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """News of one message.

    `state`: sent (the provider took it), delivered, failed, in_doubt (nobody knows), or pending (surely not taken: try
    again, at `not_before` when given). A worker shows its `fence`; whoever asked the provider in vain about a message
    in doubt shows the one it had then, as others may have asked, and sent it, meanwhile; a receipt has none.
    `event_key` (a provider's event id) makes repeated news of one event count once. `at`: when it happened; default:
    now.
    """

    message_key: str
    state: Outcome
    reason: str | None = None
    provider: str | None = None
    provider_id: str | None = None
    provider_code: str | None = None
    segments: int | None = None
    cost_micros: int | None = None
    not_before: datetime | None = None
    fence: int | None = None
    event_key: str | None = None
    at: datetime | None = None
    event: str | None = None
    """What the history calls it where it is more than the state: open, click."""


class Changes:
    """What a transaction does to the messages it has locked."""

    def __init__(self, rows: dict[str, MessageRow], now: datetime) -> None:
        self.rows = rows
        self.now = now
        self.applied = 0
        self._now = instant_text(now)
        self.ignored: list[str] = []
        self._states = {key: row.state for key, row in rows.items()}
        self._costs = {key: row.cost_micros for key, row in rows.items()}
        self._changes: dict[str, dict[str, Any]] = {}
        self._events: list[Event] = []
        self._budget: list[tuple[str, int, int]] = []

    def leave(
        self, key: str, state: str, event: str, reason: str, *, slot: tuple[datetime, datetime] | None = None
    ) -> int:
        """Take a message out of a worker's hands, to `state`."""
        row = self.rows[key]
        change: dict[str, Any] = {"reason": reason}
        if slot is not None:
            change |= {"not_before": instant_text(slot[0]), "closes_at": instant_text(slot[1])}
        self._move(row, state, change)
        self._events.append(
            Event(
                message_key=key,
                at=self.now,
                event=event,
                state=state,
                attempt=row.attempts,
                began_at=row.intent_at if state == "in_doubt" else None,
                worker=row.lease_owner,
                reason=reason,
                provider=row.provider if state == "in_doubt" else None,
            )
        )
        self.applied += 1
        return 1

    def settle(self, item: Settlement) -> None:
        """Apply one settlement, or note that it changed nothing."""
        row = self.rows[item.message_key]
        before = self._states[item.message_key]
        fenced_out = item.fence not in (None, row.fence) or _is_hearsay(item, before)
        after = next_state(before, item.state, fenced_out=fenced_out)
        if after is not None:
            self._move(row, after, _told(item, after))
            self.applied += 1
        else:
            self.ignored.append(item.message_key)
            if item.state in _PROOF and before in ("sent", "delivered", "failed"):
                self._complete(row, item)
        self._events.append(
            Event(
                message_key=item.message_key,
                at=item.at or self.now,
                event=item.event or item.state,
                state=after or before,
                applied=after is not None,
                attempt=row.attempts,
                began_at=row.intent_at,
                worker=row.lease_owner,
                reason=item.reason,
                provider=item.provider,
                provider_id=item.provider_id,
                provider_code=item.provider_code,
                event_key=item.event_key,
            )
        )

    def write(self, tx: sa.Connection) -> None:
        """Write messages, histories and what the campaigns used up."""
        by_shape: dict[tuple[str, ...], list[str]] = {}
        for key, change in self._changes.items():
            by_shape.setdefault(tuple(sorted(change)), []).append(key)
        for shape, keys in by_shape.items():
            columns: dict[str, Sequence[Any]] = {"message_key": keys}
            columns |= {name: [self._changes[key][name] for key in keys] for name in shape}
            columns["updated_at"] = [self._now] * len(keys)
            dialect.update_rows(tx, schema.outbox, "message_key", columns)
        append_events(tx, self._events)
        adjust_budgets(tx, self._budget)

    def _complete(self, row: MessageRow, item: Settlement) -> None:
        """Add what a receipt that came first did not know; so the order of news makes no difference."""
        missing = {name: getattr(item, name) for name in ("provider", "provider_id", "segments")}
        change = {name: value for name, value in missing.items() if value is not None and getattr(row, name) is None}
        if item.cost_micros is not None:
            change["cost_micros"] = item.cost_micros
        self._change(row, self._states[row.message_key], change)

    def _move(self, row: MessageRow, state: str, change: dict[str, Any]) -> None:
        done = None if state == "pending" else self._now
        moved = {"state": state, "lease_owner": None, "lease_until": None, "settled_at": done}
        self._change(row, state, moved | change)

    def _change(self, row: MessageRow, state: str, change: dict[str, Any]) -> None:
        key = row.message_key
        before, cost = self._states[key], self._costs[key]
        new_cost = int(change.get("cost_micros", cost))
        counted = int(state in _COUNTED) - int(before in _COUNTED)
        spent = (new_cost if state in _COUNTED else 0) - (cost if before in _COUNTED else 0)
        self._budget.append((row.experiment_id, counted, spent))
        self._states[key], self._costs[key] = state, new_cost
        if change:
            self._changes.setdefault(key, {}).update(change)


def _is_hearsay(item: Settlement, before: str) -> bool:
    """Whether somebody who does not say of which attempt he speaks would have a message sent once more."""
    return item.fence is None and item.state == "pending" and before != "in_doubt"


def _told(item: Settlement, state: str) -> dict[str, Any]:
    """Give what a settlement that is applied says: reason and code are the new state's own, the rest adds up."""
    change: dict[str, Any] = {
        "reason": item.reason or ("unknown" if state in ("failed", "in_doubt") else None),
        "provider_code": item.provider_code,
    }
    for name in ("provider", "provider_id", "segments", "cost_micros"):
        if getattr(item, name) is not None:
            change[name] = getattr(item, name)
    if state == "pending" and item.not_before is not None:
        change["not_before"] = instant_text(item.not_before)
    return change


def next_state(current: str, wanted: str, *, fenced_out: bool) -> str | None:
    """Give the state a settlement leads to, None when it changes nothing."""
    if wanted not in schema.TRANSITIONS[current]:
        return None
    if wanted in _PROOF:
        return wanted
    if fenced_out or (wanted in ("pending", "in_doubt") and current not in ("sending", "in_doubt")):
        return None
    return wanted
