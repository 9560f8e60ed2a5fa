"""What campaigns share: consent, codes, holdouts, pace, approvals.

A frozen copy: it does not import the room's present tables, so that it does tomorrow what it does today.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from warehouse.ledger.migrations.consent_0003 import add_consent
from warehouse.ledger.migrations.delivery_0003 import add_delivery
from warehouse.ledger.migrations.guards_0003 import add_guards
from warehouse.ledger.migrations.launches_0003 import GUARDS as _LAUNCH_GUARDS
from warehouse.ledger.migrations.launches_0003 import add_launches

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INSTANT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(referred_table_name)s_fk",
    }
)

sa.Table(
    "code_pools",
    _metadata,
    sa.Column("pool", _ID, primary_key=True),
    sa.Column("created_at", _INSTANT, nullable=False),
)

sa.Table(
    "pool_codes",
    _metadata,
    sa.Column("code_key", _ID, primary_key=True),
    sa.Column("pool", _ID, sa.ForeignKey("code_pools.pool"), nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("imported_at", _INSTANT, nullable=False),
    sa.Column("expires_at", _INSTANT),
    sa.Column("experiment_id", _ID),
    sa.Column("customer_id", _ID),
    sa.Column("reserved_at", _INSTANT),
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

sa.Table(
    "promises",
    _metadata,
    sa.Column("wave_id", _ID, primary_key=True),
    sa.Column("arm", _ID, primary_key=True),
    sa.Column("offer", _ID, primary_key=True),
    sa.Column("campaign", _ID, nullable=False),
    sa.Column("customers", sa.BigInteger, nullable=False),
    sa.Column("cost_micros", sa.BigInteger, nullable=False),
    sa.CheckConstraint("customers >= 0 AND cost_micros >= 0", name="numbers"),
    sa.Index("promises_campaign", "campaign"),
)

sa.Table(
    "point_postings",
    _metadata,
    sa.Column("posting_key", _ID, primary_key=True),
    sa.Column("customer_id", _ID, nullable=False),
    sa.Column("experiment_id", _ID, nullable=False),
    sa.Column("offer", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("posted_at", _INSTANT, nullable=False),
    sa.Column("expires_at", _INSTANT),
    sa.Column("order_id", sa.Text),
    sa.CheckConstraint("kind = 'multiplier' OR kind = 'bonus' OR kind = 'refund' OR kind = 'expiry'", name="kind"),
    sa.CheckConstraint("(points > 0) = (kind = 'multiplier' OR kind = 'bonus')", name="sign"),
    sa.CheckConstraint("points <> 0", name="something"),
    sa.Index("point_postings_customer", "customer_id", "at"),
)

sa.Table(
    "point_freezes",
    _metadata,
    sa.Column("freeze_id", _SERIAL, primary_key=True),
    sa.Column("customer_id", _ID, nullable=False),
    sa.Column("frozen", sa.Boolean, nullable=False),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("point_freezes_customer", "customer_id", "freeze_id"),
)

sa.Table(
    "point_exports",
    _metadata,
    sa.Column("export_id", _SERIAL, primary_key=True),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("begun_at", _INSTANT, nullable=False),
    sa.Column("done_at", _INSTANT),
    sa.Index(
        "point_exports_open",
        sa.text("(done_at IS NULL)"),
        unique=True,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    ),
)

sa.Table(
    "point_exported",
    _metadata,
    sa.Column("posting_key", _ID, sa.ForeignKey("point_postings.posting_key"), primary_key=True),
    sa.Column("export_id", _SERIAL, sa.ForeignKey("point_exports.export_id"), nullable=False),
    sa.Index("point_exported_export", "export_id"),
)

sa.Table(
    "holdout_periods",
    _metadata,
    sa.Column("period_id", _SERIAL, primary_key=True),
    sa.Column("salt", sa.Text, nullable=False),
    sa.Column("share", sa.Float, nullable=False),
    sa.Column("began_at", _INSTANT, nullable=False, unique=True),
    sa.CheckConstraint("share >= 0 AND share <= 1", name="share"),
)

sa.Table(
    "programme_results",
    _metadata,
    sa.Column("result_id", _SERIAL, primary_key=True),
    sa.Column("measured_at", _INSTANT, nullable=False),
    sa.Column("measurement", sa.Text, nullable=False),
)

sa.Table(
    "withheld",
    _metadata,
    sa.Column("customer_id", _ID, primary_key=True),
    sa.Column("experiment_id", _ID, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("zones", sa.Text, nullable=False),
    sa.Column("at", _INSTANT, nullable=False),
    sa.CheckConstraint("channel = 'sms' OR channel = 'email' OR channel = 'push'", name="channel"),
    sqlite_with_rowid=False,
)

# name, table, event, message, when
_GUARDS = (
    (
        "holdout_periods_no_update",
        "holdout_periods",
        "UPDATE",
        "holdout_periods is append-only: add a row instead of changing one",
        None,
    ),
    (
        "holdout_periods_no_delete",
        "holdout_periods",
        "DELETE",
        "holdout_periods is append-only: rows are never deleted",
        None,
    ),
    (
        "programme_results_no_update",
        "programme_results",
        "UPDATE",
        "programme_results is append-only: add a row instead of changing one",
        None,
    ),
    (
        "programme_results_no_delete",
        "programme_results",
        "DELETE",
        "programme_results is append-only: rows are never deleted",
        None,
    ),
    ("code_pools_no_delete", "code_pools", "DELETE", "code_pools: a pool is never deleted", None),
    ("pool_codes_no_delete", "pool_codes", "DELETE", "pool_codes: codes are never deleted", None),
    (
        "pool_codes_frozen",
        "pool_codes",
        "UPDATE OF code_key, pool, code, imported_at, expires_at",
        "pool_codes: a code stays what was imported",
        None,
    ),
    (
        "pool_codes_kept",
        "pool_codes",
        "UPDATE OF experiment_id, reserved_at",
        "pool_codes: a reserved code is not given to anybody else",
        "OLD.experiment_id IS NOT NULL AND NEW.experiment_id IS NOT NULL",
    ),
    ("promises_no_update", "promises", "UPDATE", "promises is append-only: add a row instead of changing one", None),
    ("promises_no_delete", "promises", "DELETE", "promises is append-only: rows are never deleted", None),
    (
        "point_postings_frozen",
        "point_postings",
        "UPDATE OF posting_key, experiment_id, offer, kind, points, at, posted_at, expires_at",
        "point_postings is append-only: post the opposite instead of changing a row",
        None,
    ),
    ("point_postings_no_delete", "point_postings", "DELETE", "point_postings: rows are never deleted", None),
    ("point_exports_no_delete", "point_exports", "DELETE", "point_exports: rows are never deleted", None),
    (
        "point_exports_done",
        "point_exports",
        "UPDATE",
        "point_exports: an export that is done stays as it is",
        "OLD.done_at IS NOT NULL",
    ),
    ("point_exported_no_update", "point_exported", "UPDATE", "point_exported: a posting is exported once", None),
    ("point_exported_no_delete", "point_exported", "DELETE", "point_exported: a posting is exported once", None),
)


def upgrade() -> None:
    """Add the tables, and guard them."""
    add_consent()
    add_delivery()
    add_launches(_metadata)
    _metadata.create_all(op.get_bind(), checkfirst=False)
    add_guards((*_GUARDS, *_LAUNCH_GUARDS))
