"""Messages in doubt as their worker had claimed them, so that what was sent can be worked out again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.claims import ClaimedMessage

_A = schema.assignments
_O = schema.outbox

_STORED: Final = tuple(name for name in ClaimedMessage._fields if name in _O.c)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A message that a provider may have taken, at the attempt whose intent was committed at `intent_at`."""

    message: ClaimedMessage
    provider: str | None
    intent_at: datetime


def doubts(tx: sa.Connection, *, channel: str, since_before: datetime, limit: int = 500) -> list[Doubt]:
    """List a channel's messages that came into doubt before an instant, oldest first.

    Not by the intent: a message may leave until its lease nears its end, and is in doubt at the end of it only.
    """
    owner = (_A.c.experiment_id == _O.c.experiment_id) & (_A.c.customer_id == _O.c.customer_id)
    query = (
        sa.select(*(_O.c[name] for name in _STORED), _O.c.provider, _O.c.intent_at, _A.c.assigned_at)
        .select_from(_O.join(_A, owner))
        .where(sa.text("outbox.state = 'in_doubt'"), _O.c.channel == channel, _O.c.settled_at < since_before)
        .order_by(_O.c.settled_at, _O.c.message_key)
        .limit(limit)
    )
    return [_doubt(dict(row)) for row in tx.execute(query).mappings()]


def provider_ids(tx: sa.Connection, customers: Iterable[str], *, channel: str) -> dict[str, set[str]]:
    """The ids under which a provider knows the customers' messages on a channel: customer -> ids."""
    found: dict[str, set[str]] = {}
    query = sa.select(_O.c.customer_id, _O.c.provider_id).where(
        dialect.among(tx, _O.c.customer_id, sorted(customers)), _O.c.channel == channel, _O.c.provider_id.is_not(None)
    )
    for customer, provider_id in tx.execute(query):
        found.setdefault(customer, set()).add(provider_id)
    return found


def _doubt(row: dict[str, object]) -> Doubt:
    provider, intent_at = row.pop("provider"), row.pop("intent_at")
    assert isinstance(intent_at, datetime)  # nothing is in doubt before an intent
    zones = tuple(zone for zone in str(row.pop("zones")).split(",") if zone)
    message = ClaimedMessage(**{**row, "zones": zones, "lease_until": intent_at})  # type: ignore[arg-type]  # columns of the same names
    return Doubt(message, None if provider is None else str(provider), intent_at)
