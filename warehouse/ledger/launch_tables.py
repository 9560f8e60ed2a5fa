"""Launches that wait for a second person, and what that person said."""

from __future__ import annotations

import sqlalchemy as sa

from warehouse.ledger.schema_parts import Id, Serial, metadata
from warehouse.ledger.types import CanonicalJson, Instant

# what is asked for: one run of one campaign with one set of files; audience: a sketch (campaigns/audience_sketch.py)
launch_requests = sa.Table(
    "launch_requests",
    metadata,
    sa.Column("request_id", Serial, primary_key=True),
    sa.Column("experiment_id", Id, nullable=False),
    sa.Column("as_of", Instant, nullable=False),
    sa.Column("config_hash", sa.Text, nullable=False),
    sa.Column("campaign", Id, nullable=False),
    sa.Column("requested_at", Instant, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("extent", CanonicalJson, nullable=False),
    sa.Column("audience", CanonicalJson, nullable=False),
    sa.Column("reasons", CanonicalJson, nullable=False),
    sa.UniqueConstraint("experiment_id", "as_of", "config_hash"),
    sa.UniqueConstraint("request_id", "requested_by"),
)

# the requester stands in the key of what is answered, so that the database itself wants a second person
launch_answers = sa.Table(
    "launch_answers",
    metadata,
    sa.Column("request_id", Serial, primary_key=True, autoincrement=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("answered_by", sa.Text, nullable=False),
    sa.Column("answered_at", Instant, nullable=False),
    sa.Column("approved", sa.Boolean, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(
        ["request_id", "requested_by"], ["launch_requests.request_id", "launch_requests.requested_by"]
    ),
    sa.CheckConstraint("answered_by <> requested_by", name="second_person"),
)
