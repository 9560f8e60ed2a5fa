"""Launches that wait for a second person: the part of revision 0003 that holds them, a frozen copy."""

from __future__ import annotations

import sqlalchemy as sa

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")


def add_launches(metadata: sa.MetaData) -> None:
    """Add the tables to the revision's."""
    sa.Table(
        "launch_requests",
        metadata,
        sa.Column("request_id", _SERIAL, primary_key=True),
        sa.Column("experiment_id", _ID, nullable=False),
        sa.Column("as_of", _INSTANT, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("campaign", _ID, nullable=False),
        sa.Column("requested_at", _INSTANT, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("extent", sa.Text, nullable=False),
        sa.Column("audience", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.UniqueConstraint("experiment_id", "as_of", "config_hash"),
        sa.UniqueConstraint("request_id", "requested_by"),
    )
    sa.Table(
        "launch_answers",
        metadata,
        sa.Column("request_id", _SERIAL, primary_key=True, autoincrement=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("answered_by", sa.Text, nullable=False),
        sa.Column("answered_at", _INSTANT, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_id", "requested_by"], ["launch_requests.request_id", "launch_requests.requested_by"]
        ),
        sa.CheckConstraint("answered_by <> requested_by", name="second_person"),
    )


GUARDS = (
    ("launch_requests_no_update", "launch_requests", "UPDATE", "launch_requests is append-only: ask again", None),
    ("launch_requests_no_delete", "launch_requests", "DELETE", "launch_requests: rows are never deleted", None),
    ("launch_answers_no_update", "launch_answers", "UPDATE", "launch_answers is append-only: an answer stands", None),
    ("launch_answers_no_delete", "launch_answers", "DELETE", "launch_answers: rows are never deleted", None),
)
