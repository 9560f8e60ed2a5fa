"""Who did what, when: an append-only log. Never an address in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from warehouse.ledger import schema

_T = schema.audit


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the log. `subject`: what was acted on, such as a campaign, an experiment or a customer's id."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]


def record_audit(
    tx: sa.Connection, *, at: datetime, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> None:
    """Append one line, in the transaction of what it tells about."""
    tx.execute(sa.insert(_T).values(at=at, actor=actor, action=action, subject=subject, detail=dict(detail or {})))


def audit_log(tx: sa.Connection, *, subject: str | None = None, limit: int = 1_000) -> list[AuditRow]:
    """List the newest lines, newest first; of one subject when given."""
    query = sa.select(_T).order_by(_T.c.audit_id.desc()).limit(limit)
    if subject is not None:
        query = query.where(_T.c.subject == subject)
    return [AuditRow(**row) for row in tx.execute(query).mappings()]
