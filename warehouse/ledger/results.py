"""What was measured and decided: looks, results, and decisions in a hash chain. Appended, never edited."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from warehouse.ledger import schema
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.types import canonical_json, instant_text

FIRST_HASH: Final = "0" * 64
"""What the first decision names as its predecessor."""

_L = schema.looks
_R = schema.results
_D = schema.decisions


@dataclass(frozen=True, slots=True)
class LookRow:
    """One planned analysis: its number (from 1), when, and at what share of the planned information."""

    experiment_id: str
    look: int
    at: datetime
    information: float
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """One measurement: `measurement` is its JSON."""

    measurement_id: int
    experiment_id: str
    measured_at: datetime
    measurement: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """One decision with its evidence; `hash` covers all other fields, `previous_hash` included."""

    decision_id: int
    experiment_id: str
    decided_at: datetime
    verdict: str
    arm: str | None
    rule_version: str
    evidence: Mapping[str, Any]
    previous_hash: str
    hash: str


def record_look(
    tx: sa.Connection,
    experiment_id: str,
    look: int,
    *,
    at: datetime,
    information: float,
    detail: Mapping[str, Any] | None = None,
) -> LookRow:
    """Record a look; a second call with the same number gives the first one's row (a look is spent once)."""
    query = sa.select(_L).where(_L.c.experiment_id == experiment_id, _L.c.look == look)
    row = tx.execute(query).mappings().first()
    if row is None:
        last = max((done.look for done in looks(tx, experiment_id)), default=0)
        if look <= last:
            raise LedgerError(f"experiment {experiment_id}: look {look} cannot follow look {last}")
        values = {"at": at, "information": information, "detail": dict(detail or {})}
        tx.execute(sa.insert(_L).values(experiment_id=experiment_id, look=look, **values))
        row = tx.execute(query).mappings().one()
    return LookRow(**row)


def looks(tx: sa.Connection, experiment_id: str) -> list[LookRow]:
    """List the looks taken, in order."""
    query = sa.select(_L).where(_L.c.experiment_id == experiment_id).order_by(_L.c.look)
    return [LookRow(**row) for row in tx.execute(query).mappings()]


def record_measurement(
    tx: sa.Connection, experiment_id: str, measurement: Mapping[str, Any], *, measured_at: datetime
) -> MeasurementRow:
    """Record a measurement (plain JSON types); the same one at the same instant is recorded once."""
    content_hash = _sha256(canonical_json(measurement))
    query = sa.select(_R.c.measurement_id, _R.c.experiment_id, _R.c.measured_at, _R.c.measurement).where(
        _R.c.experiment_id == experiment_id, _R.c.measured_at == measured_at, _R.c.content_hash == content_hash
    )
    row = tx.execute(query).first()
    if row is None:
        values = {"measured_at": measured_at, "measurement": dict(measurement), "content_hash": content_hash}
        tx.execute(sa.insert(_R).values(experiment_id=experiment_id, **values))
        row = tx.execute(query).one()
    return MeasurementRow(*row)


def measurements(tx: sa.Connection, experiment_id: str) -> list[MeasurementRow]:
    """List the experiment's measurements, oldest first."""
    columns = (_R.c.measurement_id, _R.c.experiment_id, _R.c.measured_at, _R.c.measurement)
    query = sa.select(*columns).where(_R.c.experiment_id == experiment_id)
    return [MeasurementRow(*row) for row in tx.execute(query.order_by(_R.c.measured_at, _R.c.measurement_id))]


def latest_measurement(tx: sa.Connection, experiment_id: str) -> MeasurementRow | None:
    """Give the measurement of the latest instant."""
    found = measurements(tx, experiment_id)
    return found[-1] if found else None


def append_decision(
    tx: sa.Connection,
    experiment_id: str,
    *,
    decided_at: datetime,
    verdict: str,
    arm: str | None,
    rule_version: str,
    evidence: Mapping[str, Any],
) -> DecisionRow:
    """Append a decision to the chain; the same decision of the same instant is appended once."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.text("LOCK TABLE decisions IN SHARE ROW EXCLUSIVE MODE"))  # the chain has one end
    content: dict[str, Any] = {
        "experiment_id": experiment_id,
        "decided_at": decided_at,
        "verdict": verdict,
        "arm": arm,
        "rule_version": rule_version,
        "evidence": dict(evidence),
    }
    for row in decisions(tx, experiment_id):
        if row.hash == _decision_hash(row.decision_id, row.previous_hash, content):
            return row
    last = tx.execute(sa.select(_D.c.decision_id, _D.c.hash).order_by(_D.c.decision_id.desc()).limit(1)).first()
    number, previous = (last[0] + 1, last[1]) if last else (1, FIRST_HASH)
    row = DecisionRow(
        decision_id=number, previous_hash=previous, hash=_decision_hash(number, previous, content), **content
    )
    tx.execute(sa.insert(_D).values(decision_id=number, previous_hash=previous, hash=row.hash, **content))
    return row


def decisions(tx: sa.Connection, experiment_id: str | None = None) -> list[DecisionRow]:
    """List decisions in the order they were taken."""
    query = sa.select(_D).order_by(_D.c.decision_id)
    if experiment_id is not None:
        query = query.where(_D.c.experiment_id == experiment_id)
    return [DecisionRow(**row) for row in tx.execute(query).mappings()]


def verify_decisions(tx: sa.Connection) -> int:
    """Walk the chain and give its length. Raises LedgerError naming the first decision that was tampered with."""
    previous, count = FIRST_HASH, 0
    for row in decisions(tx):
        content = {name: getattr(row, name) for name in _HASHED}
        if row.previous_hash != previous or row.hash != _decision_hash(row.decision_id, previous, content):
            raise LedgerError(
                f"decision {row.decision_id} does not fit the chain: it, or one before it, was changed or removed; "
                "restore the ledger from a backup"
            )
        previous, count = row.hash, count + 1
    return count


_HASHED: Final = ("experiment_id", "decided_at", "verdict", "arm", "rule_version", "evidence")


def _decision_hash(number: int, previous: str, content: Mapping[str, Any]) -> str:
    written = {**content, "decided_at": instant_text(content["decided_at"]), "decision_id": number}
    return _sha256(previous + canonical_json(written))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
