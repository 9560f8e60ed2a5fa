"""Launches that need a second person: asked for once, answered once, never by the one who asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from warehouse.ledger.audit import record_audit
from warehouse.ledger.engine import Ledger
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.launch_tables import launch_answers, launch_requests

_R, _A = launch_requests, launch_answers
_FIELDS: Final = tuple(column.name for column in _R.c)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One run that waits: of which campaign, as of when, with which files, how large, and why it must be approved."""

    experiment_id: str
    as_of: datetime
    config_hash: str
    campaign: str
    requested_at: datetime
    requested_by: str
    extent: Mapping[str, Any]
    audience: Sequence[int]
    """A sketch of who takes part, to tell later how much of it has moved."""
    reasons: Sequence[str]
    request_id: int | None = None
    """The ledger gives it."""


@dataclass(frozen=True, slots=True)
class LaunchAnswer:
    """What the second person said."""

    approved: bool
    answered_by: str
    answered_at: datetime
    note: str


@dataclass(frozen=True, slots=True)
class Launch:
    """A request with its answer (None: it still waits)."""

    request: LaunchRequest
    answer: LaunchAnswer | None


def request_launch(ledger: Ledger, request: LaunchRequest) -> Launch:
    """Ask for a launch. What was asked for already stays as it was, with its answer."""
    with ledger.begin() as tx:
        found = _find(tx, request.experiment_id, request.as_of, request.config_hash)
        if found is not None:
            return found
        values = {name: getattr(request, name) for name in _FIELDS if name != "request_id"}
        values |= {"audience": list(request.audience), "reasons": list(request.reasons), "extent": dict(request.extent)}
        tx.execute(sa.insert(_R).values(**values))
        detail = {"as_of": request.as_of.isoformat(), "config": request.config_hash, **request.extent}
        record_audit(
            tx,
            at=request.requested_at,
            actor=request.requested_by,
            action="launch requested",
            subject=request.campaign,
            detail=detail,
        )
    return Launch(request, None)


def answer_launch(ledger: Ledger, request: LaunchRequest, answer: LaunchAnswer) -> None:
    """Approve or refuse. Raises LedgerError for the person who asked, and where it was answered already."""
    if request.requested_by.casefold() == answer.answered_by.casefold():
        raise LedgerError(
            f"{answer.answered_by} asked for this launch of {request.campaign}, so somebody else must answer; "
            "name that person with --by"
        )
    with ledger.begin() as tx:
        found = _find(tx, request.experiment_id, request.as_of, request.config_hash)
        if found is not None and found.answer is not None:
            said = "approved" if found.answer.approved else "refused"
            raise LedgerError(
                f"this launch of {request.campaign} was {said} by {found.answer.answered_by} already; nothing changed"
            )
        tx.execute(
            sa.insert(_A).values(
                request_id=request.request_id,
                requested_by=request.requested_by,
                answered_by=answer.answered_by,
                answered_at=answer.answered_at,
                approved=answer.approved,
                note=answer.note,
            )
        )
        record_audit(
            tx,
            at=answer.answered_at,
            actor=answer.answered_by,
            action="launch approved" if answer.approved else "launch refused",
            subject=request.campaign,
            detail={"as_of": request.as_of.isoformat(), "config": request.config_hash, "note": answer.note},
        )


def launches(tx: sa.Connection, campaign: str | None = None) -> list[Launch]:
    """Every launch that was asked for, newest first; of one campaign where it is given."""
    query = _query().order_by(_R.c.request_id.desc())
    if campaign is not None:
        query = query.where(_R.c.campaign == campaign)
    return [_launch(row) for row in tx.execute(query)]


def _find(tx: sa.Connection, experiment_id: str, as_of: datetime, config_hash: str) -> Launch | None:
    key = (_R.c.experiment_id == experiment_id) & (_R.c.as_of == as_of) & (_R.c.config_hash == config_hash)
    row = tx.execute(_query().where(key)).one_or_none()
    return None if row is None else _launch(row)


def _query() -> sa.Select[Any]:
    answer = (_A.c.approved, _A.c.answered_by, _A.c.answered_at, _A.c.note)
    return sa.select(*_R.c, *answer).select_from(_R.outerjoin(_A, _A.c.request_id == _R.c.request_id))


def _launch(row: sa.Row[Any]) -> Launch:
    request = LaunchRequest(**{name: getattr(row, name) for name in _FIELDS})
    if row.answered_at is None:
        return Launch(request, None)
    return Launch(request, LaunchAnswer(row.approved, row.answered_by, row.answered_at, row.note))
