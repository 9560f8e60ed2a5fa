"""The tables of pace, of how messages fare, of short links and of early receipts; part of version 0003.

A frozen copy: it does not import the room's present tables, so that it does tomorrow what it does today.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INSTANT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def add_delivery() -> None:
    """Add the tables."""
    op.create_table(
        "provider_accounts",
        sa.Column("account", _ID, nullable=False),
        sa.Column("free_at", _INSTANT),
        sa.Column("paused_until", _INSTANT),
        sa.Column("opened_at", _INSTANT),
        sa.Column("rests", sa.Integer, nullable=False, server_default="0"),
        sa.Column("probe", sa.Text),
        sa.Column("recent", sa.Text, nullable=False, server_default=""),
        sa.Column("reason", sa.Text),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("account", name="provider_accounts_pk"),
        sa.CheckConstraint("probe IS NULL OR opened_at IS NOT NULL", name="provider_accounts_probe"),
        sa.CheckConstraint("rests >= 0 AND (rests = 0) = (opened_at IS NULL)", name="provider_accounts_rests"),
    )
    op.create_table(
        "delivery_tallies",
        sa.Column("campaign", _ID, nullable=False),
        sa.Column("channel", _ID, nullable=False),
        sa.Column("slot_at", _INSTANT, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False, server_default="0"),
        sa.Column("bounced", sa.Integer, nullable=False, server_default="0"),
        sa.Column("complained", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("campaign", "channel", "slot_at", name="delivery_tallies_pk"),
        sa.CheckConstraint("sent >= 0 AND bounced >= 0 AND complained >= 0", name="delivery_tallies_counts"),
    )
    op.create_table(
        "delivery_troubles",
        sa.Column("message_key", _ID, nullable=False),
        sa.Column("kind", _ID, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("message_key", "kind", name="delivery_troubles_pk"),
        sa.CheckConstraint("kind = 'bounce' OR kind = 'complaint'", name="delivery_troubles_kind"),
        sa.ForeignKeyConstraint(
            ["message_key"], ["outbox.message_key"], name="delivery_troubles_outbox_fk", onupdate="CASCADE"
        ),
    )
    op.create_table(
        "short_links",
        sa.Column("link_id", _SERIAL, nullable=False),
        sa.Column("message_key", _ID, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("link_id", name="short_links_pk"),
        sa.UniqueConstraint("message_key", "position", name="short_links_message_key_position_key"),
        sa.CheckConstraint("position >= 0", name="short_links_position"),
        sa.CheckConstraint("url LIKE 'https://%'", name="short_links_url"),
        sa.ForeignKeyConstraint(
            ["message_key"], ["outbox.message_key"], name="short_links_outbox_fk", onupdate="CASCADE"
        ),
    )
    op.create_table(
        "early_receipts",
        sa.Column("event_key", _ID, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("provider_id", _ID, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("code", sa.Text),
        sa.Column("suppress", sa.Text),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("event_key", name="early_receipts_pk"),
        sa.CheckConstraint("state = 'delivered' OR state = 'failed'", name="early_receipts_state"),
    )
