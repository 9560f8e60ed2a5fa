"""What all dispatchers together know: of each account its pace, of each campaign how its messages fare."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.schema_parts import Id, metadata
from warehouse.ledger.types import Instant

provider_accounts = sa.Table(
    "provider_accounts",
    metadata,
    sa.Column("account", Id, primary_key=True),
    sa.Column("free_at", Instant),
    sa.Column("paused_until", Instant),
    sa.Column("opened_at", Instant),
    sa.Column("rests", sa.Integer, nullable=False, server_default="0"),
    sa.Column("probe", sa.Text),
    sa.Column("recent", sa.Text, nullable=False, server_default=""),
    sa.Column("reason", sa.Text),
    sa.Column("updated_at", Instant, nullable=False),
    sa.CheckConstraint("probe IS NULL OR opened_at IS NOT NULL", name="probe"),
    sa.CheckConstraint("rests >= 0 AND (rests = 0) = (opened_at IS NULL)", name="rests"),
)

# how many messages of a slot of time a provider took, and of how many of these it said later that they did harm
delivery_tallies = sa.Table(
    "delivery_tallies",
    metadata,
    sa.Column("campaign", Id, primary_key=True),
    sa.Column("channel", Id, primary_key=True),
    sa.Column("slot_at", Instant, primary_key=True),
    sa.Column("sent", sa.Integer, nullable=False, server_default="0"),
    sa.Column("bounced", sa.Integer, nullable=False, server_default="0"),
    sa.Column("complained", sa.Integer, nullable=False, server_default="0"),
    sa.CheckConstraint("sent >= 0 AND bounced >= 0 AND complained >= 0", name="counts"),
)

delivery_troubles = sa.Table(
    "delivery_troubles",
    metadata,
    # an erasure renames the message; its trouble goes with it
    sa.Column("message_key", Id, sa.ForeignKey("outbox.message_key", onupdate="CASCADE"), primary_key=True),
    sa.Column("kind", Id, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.CheckConstraint("kind = 'bounce' OR kind = 'complaint'", name="kind"),
)
