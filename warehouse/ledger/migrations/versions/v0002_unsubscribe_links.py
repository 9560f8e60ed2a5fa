"""Numbers of customers for their unsubscribe links, and an index of the audit by what was acted on.

A frozen copy: it does not import the room's present tables, so that it does tomorrow what it does today.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table and the index."""
    op.create_table(
        "unsubscribe_links",
        sa.Column("link_id", _SERIAL, nullable=False),
        sa.Column("customer_id", _ID, nullable=False),
        sa.Column("topic", sa.Text, nullable=False, server_default="all"),
        sa.PrimaryKeyConstraint("link_id", name="unsubscribe_links_pk"),
        sa.UniqueConstraint("customer_id", "topic", name="unsubscribe_links_customer_id_topic_key"),
    )
    op.create_index("audit_subject", "audit", ["subject"])
