"""The history of one customer, or one message: what `retain explain` tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from warehouse.ledger import dialect, schema
from warehouse.ledger.erasures import personal_tables
from warehouse.ledger.suppressions import suppressions_of

_A = schema.assignments
_E = schema.experiments
_O = schema.outbox
_V = schema.message_events


@dataclass(frozen=True, slots=True)
class CustomerHistory:
    """All the ledger knows of one customer, each part in the order of time; rows by column name."""

    customer_id: str
    assignments: tuple[Mapping[str, Any], ...]
    messages: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    exits: tuple[Mapping[str, Any], ...]
    suppressions: tuple[Mapping[str, Any], ...]


def customer_history(tx: sa.Connection, customer_id: str, *, campaign: str | None = None) -> CustomerHistory:
    """Give a customer's history, of one campaign (all its epochs) or of all. Suppressions are always all."""
    epochs = sa.select(_E.c.experiment_id)
    if campaign is not None:
        epochs = epochs.where(_E.c.campaign == campaign)
    ids = list(tx.execute(epochs).scalars())
    w = schema.waves
    assigned = (
        sa.select(_A, w.c.as_of, w.c.plan_hash, w.c.config_hash, w.c.weights, w.c.tzdata)
        .join(w, w.c.wave_id == _A.c.wave_id)
        .where(dialect.among(tx, _A.c.experiment_id, ids), _A.c.customer_id == customer_id)
        .order_by(_A.c.assigned_at, _A.c.experiment_id)
    )
    messages = (
        sa.select(_O)
        .where(_O.c.customer_id == customer_id, dialect.among(tx, _O.c.experiment_id, ids))
        .order_by(_O.c.not_before, _O.c.message_key)
    )
    sent = _rows(tx, messages)
    events = (
        sa.select(_V)
        .where(dialect.among(tx, _V.c.message_key, [row["message_key"] for row in sent]))
        .order_by(_V.c.at, _V.c.event_id)
    )
    x = schema.exits
    exits = (
        sa.select(x)
        .where(dialect.among(tx, x.c.experiment_id, ids), x.c.customer_id == customer_id)
        .order_by(x.c.at, x.c.experiment_id)
    )
    return CustomerHistory(
        customer_id,
        _rows(tx, assigned),
        sent,
        _rows(tx, events),
        _rows(tx, exits),
        tuple(suppressions_of(tx, customer_id)),
    )


def message_history(tx: sa.Connection, message_key: str) -> tuple[Mapping[str, Any], ...]:
    """Give the lines of one message's history in the order they were written."""
    return _rows(tx, sa.select(_V).where(_V.c.message_key == message_key).order_by(_V.c.event_id))


def personal_rows(tx: sa.Connection, customer_id: str, keys: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Give every row of every table that is about a customer or one of the messages `keys`, by table."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for table in personal_tables():
        column, values = ("customer_id", [customer_id]) if "customer_id" in table.c else ("message_key", list(keys))
        query = sa.select(table).where(dialect.among(tx, table.c[column], values)).order_by(*table.primary_key.columns)
        found[table.name] = list(_rows(tx, query))
    subjects = dialect.among(tx, schema.audit.c.subject, [customer_id, *keys])
    found["audit"] = list(_rows(tx, sa.select(schema.audit).where(subjects).order_by(schema.audit.c.audit_id)))
    return found


def _rows(tx: sa.Connection, query: sa.Select[Any]) -> tuple[Mapping[str, Any], ...]:
    return tuple(dict(row) for row in tx.execute(query).mappings())
