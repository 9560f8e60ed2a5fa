"""The tables of consent: what customers said yes and no to, which addresses stay untouched, who was erased."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.schema_parts import Id, Serial, metadata, one_of
from warehouse.ledger.types import Instant

_SCOPES = ("sms", "email", "push", "all")
_REASONS = ("stop", "unsubscribe", "complaint", "bounce", "manual", "withdrawn", "erased")

consents = sa.Table(
    "consents",
    metadata,
    sa.Column("consent_id", Serial, primary_key=True),
    sa.Column("customer_id", Id, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("given", sa.Boolean, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("wording", sa.Text, nullable=False),
    sa.CheckConstraint(one_of("channel", _SCOPES), name="channel"),
    # the customer comes first: it is the index by which statements are looked up, too
    sa.UniqueConstraint("customer_id", "channel", "topic", "at", "given", "source", "wording"),
)

# no customer and no address: an HMAC under the company's key, `key_id` says which of its keys
address_suppressions = sa.Table(
    "address_suppressions",
    metadata,
    sa.Column("address_suppression_id", Serial, primary_key=True),
    sa.Column("address_mac", Id, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("released_at", Instant),
    sa.Column("release_source", sa.Text),
    sa.CheckConstraint("channel = 'sms' OR channel = 'email' OR channel = 'push'", name="channel"),
    sa.CheckConstraint(one_of("reason", _REASONS), name="reason"),
    sa.CheckConstraint("(released_at IS NULL) = (release_source IS NULL)", name="release"),
    sa.Index(
        "address_suppressions_active",
        "address_mac",
        "channel",
        "topic",
        "reason",
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    ),
)

# who was erased is known again only to the holder of the key; the pseudonym stands where the customer's id stood
erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("pseudonym", Id, primary_key=True),
    sa.Column("customer_mac", Id, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
)
