"""What campaigns share: consent, codes, holdouts, pace, approvals.

A frozen copy: it does not import the room's present tables, so that it does tomorrow what it does today.
"""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.migrations.delivery_0003 import add_delivery

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INSTANT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables."""
    add_delivery()
