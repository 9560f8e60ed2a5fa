"""The targets of short links: which page the how-manieth link of a message leads to."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.schema_parts import Id, Serial, metadata

short_links = sa.Table(
    "short_links",
    metadata,
    sa.Column("link_id", Serial, primary_key=True),
    sa.Column("message_key", Id, sa.ForeignKey("outbox.message_key", onupdate="CASCADE"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.UniqueConstraint("message_key", "position"),
    sa.CheckConstraint("position >= 0", name="position"),
    # a page over TLS and nothing else: no script, no file
    sa.CheckConstraint("url LIKE 'https://%'", name="url"),
)
