"""What offers leave behind: pools of codes and who got which, what runs promised, points and their export."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from warehouse.ledger.schema_parts import Id, Serial, metadata, one_of
from warehouse.ledger.types import Instant

POSTINGS: Final = ("multiplier", "bonus", "refund", "expiry")
"""Why points were posted: so many times the usual ones, a bonus, an order taken back, points that ran out."""

# the row that appliers lock, so that two of them never look at the same free codes
code_pools = sa.Table(
    "code_pools",
    metadata,
    sa.Column("pool", Id, primary_key=True),
    sa.Column("created_at", Instant, nullable=False),
)

# code_key: the code as shops compare it, without case; one code is in one pool only, or two customers could get it
pool_codes = sa.Table(
    "pool_codes",
    metadata,
    sa.Column("code_key", Id, primary_key=True),
    sa.Column("pool", Id, sa.ForeignKey("code_pools.pool"), nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("imported_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("experiment_id", Id),
    sa.Column("customer_id", Id),
    sa.Column("reserved_at", Instant),
    sa.CheckConstraint(
        "(customer_id IS NULL) = (experiment_id IS NULL) AND (customer_id IS NULL) = (reserved_at IS NULL)",
        name="reserved",
    ),
    sa.Index(
        "pool_codes_owner",
        "experiment_id",
        "customer_id",
        unique=True,
        sqlite_where=sa.text("customer_id IS NOT NULL"),
        postgresql_where=sa.text("customer_id IS NOT NULL"),
    ),
    sa.Index(
        "pool_codes_free",
        "pool",
        "code_key",
        sqlite_where=sa.text("customer_id IS NULL"),
        postgresql_where=sa.text("customer_id IS NULL"),
    ),
)

# what a run promised by its offers, as it was expected when it was applied: offer is NAME, or NAME/TIER
promises = sa.Table(
    "promises",
    metadata,
    sa.Column("wave_id", Id, primary_key=True),
    sa.Column("arm", Id, primary_key=True),
    sa.Column("offer", Id, primary_key=True),
    sa.Column("campaign", Id, nullable=False),
    sa.Column("customers", sa.BigInteger, nullable=False),
    sa.Column("cost_micros", sa.BigInteger, nullable=False),
    sa.CheckConstraint("customers >= 0 AND cost_micros >= 0", name="numbers"),
    sa.Index("promises_campaign", "campaign"),
)

point_postings = sa.Table(
    "point_postings",
    metadata,
    sa.Column("posting_key", Id, primary_key=True),
    sa.Column("customer_id", Id, nullable=False),
    sa.Column("experiment_id", Id, nullable=False),
    sa.Column("offer", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("posted_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("order_id", sa.Text),
    sa.CheckConstraint(one_of("kind", POSTINGS), name="kind"),
    sa.CheckConstraint("(points > 0) = (kind = 'multiplier' OR kind = 'bonus')", name="sign"),
    sa.CheckConstraint("points <> 0", name="something"),
    sa.Index("point_postings_customer", "customer_id", "at"),
)

# the last line of a customer says whether the points are frozen
point_freezes = sa.Table(
    "point_freezes",
    metadata,
    sa.Column("freeze_id", Serial, primary_key=True),
    sa.Column("customer_id", Id, nullable=False),
    sa.Column("frozen", sa.Boolean, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("point_freezes_customer", "customer_id", "freeze_id"),
)

# an export is begun (its postings are its own from then on) and done (its file is written); one at a time is open
point_exports = sa.Table(
    "point_exports",
    metadata,
    sa.Column("export_id", Serial, primary_key=True),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("begun_at", Instant, nullable=False),
    sa.Column("done_at", Instant),
    sa.Index(
        "point_exports_open",
        sa.text("(done_at IS NULL)"),
        unique=True,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    ),
)

point_exported = sa.Table(
    "point_exported",
    metadata,
    sa.Column("posting_key", Id, sa.ForeignKey("point_postings.posting_key"), primary_key=True),
    sa.Column("export_id", Serial, sa.ForeignKey("point_exports.export_id"), nullable=False),
    sa.Index("point_exported_export", "export_id"),
)
