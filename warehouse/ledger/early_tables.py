"""Receipts that came before the answer that tells which message they are about."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.schema_parts import Id, metadata, one_of
from warehouse.ledger.types import Instant

# for a short while only, and never with an address: the provider's id is all that names the message
early_receipts = sa.Table(
    "early_receipts",
    metadata,
    sa.Column("event_key", Id, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("provider_id", Id, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("code", sa.Text),
    sa.Column("suppress", sa.Text),
    sa.Column("at", Instant, nullable=False),
    sa.CheckConstraint(one_of("state", ("delivered", "failed")), name="state"),
)
