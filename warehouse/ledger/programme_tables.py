"""The tables of what all campaigns share: the global holdout's periods, the programme's lift, control's pressure."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.schema_parts import Id, Serial, metadata
from warehouse.ledger.types import CanonicalJson, Instant

# whoever was a member in a period is known again for ever: by the salt and the share, from the customer's id alone
holdout_periods = sa.Table(
    "holdout_periods",
    metadata,
    sa.Column("period_id", Serial, primary_key=True),
    sa.Column("salt", sa.Text, nullable=False),
    sa.Column("share", sa.Float, nullable=False),
    sa.Column("began_at", Instant, nullable=False, unique=True),
    sa.CheckConstraint("share >= 0 AND share <= 1", name="share"),
)

programme_results = sa.Table(
    "programme_results",
    metadata,
    sa.Column("result_id", Serial, primary_key=True),
    sa.Column("measured_at", Instant, nullable=False),
    sa.Column("measurement", CanonicalJson, nullable=False),
)

# what a customer of control would have been sent: it counts against caps as the messages of the arms do, so that
# control has as little room for other campaigns as everybody else
withheld = sa.Table(
    "withheld",
    metadata,
    sa.Column("customer_id", Id, primary_key=True),
    sa.Column("experiment_id", Id, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("zones", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.CheckConstraint("channel = 'sms' OR channel = 'email' OR channel = 'push'", name="channel"),
    sqlite_with_rowid=False,
)
