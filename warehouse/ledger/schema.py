"""The ledger's tables. Uniqueness and legal states live here first, in code second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import sqlalchemy as sa

import warehouse.ledger.account_tables
import warehouse.ledger.consent_tables
import warehouse.ledger.early_tables
import warehouse.ledger.launch_tables
import warehouse.ledger.link_tables
import warehouse.ledger.offer_tables
import warehouse.ledger.programme_tables  # noqa: F401 - completes the metadata
from warehouse.ledger.schema_parts import Id, Serial, metadata, one_of
from warehouse.ledger.types import CanonicalJson, Instant

SCHEMA_VERSION: Final = "0003"
"""The newest migration: what this code expects to find in the database."""

Channel = Literal["sms", "email", "push"]
State = Literal["pending", "claimed", "sending", "sent", "delivered", "failed", "skipped", "in_doubt"]
SuppressionReason = Literal["stop", "unsubscribe", "complaint", "bounce", "manual", "withdrawn", "erased"]

CHANNELS: Final[tuple[Channel, ...]] = ("sms", "email", "push")
STATES: Final[tuple[State, ...]] = (
    "pending", "claimed", "sending", "sent", "delivered", "failed", "skipped", "in_doubt",
)  # fmt: skip
SUPPRESSION_REASONS: Final[tuple[SuppressionReason, ...]] = (
    "stop", "unsubscribe", "complaint", "bounce", "manual", "withdrawn", "erased",
)  # fmt: skip
COUNTED: Final[tuple[State, ...]] = ("claimed", "sending", "sent", "delivered", "in_doubt")
"""States of messages that reached the customer or may have: these use up caps and budgets."""

TRANSITIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "pending": ("claimed", "skipped", "sent", "delivered", "failed"),
    "claimed": ("pending", "sending", "skipped", "sent", "delivered", "failed"),
    "sending": ("pending", "sent", "delivered", "failed", "in_doubt"),
    "in_doubt": ("pending", "sent", "delivered", "failed"),
    "sent": ("delivered", "failed"),
    "delivered": ("failed",),
    "failed": (),
    "skipped": (),
}
"""The only legal moves; triggers enforce them. Back to pending only while no provider has accepted the message;
proof of acceptance (a receipt that comes late) is believed from any state in which the message is still ours."""


experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("experiment_id", Id, primary_key=True),
    sa.Column("campaign", Id, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("salt", sa.Text, nullable=False),
    sa.Column("design", CanonicalJson, nullable=False),
    sa.Column("design_hash", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False, server_default="marketing"),
    sa.Column("status", sa.Text, nullable=False, server_default="running"),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("end_reason", sa.Text),
    sa.UniqueConstraint("campaign", "epoch"),
    sa.CheckConstraint("status = 'running' OR status = 'ended'", name="status"),
    sa.CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name="ended"),
    sa.CheckConstraint("epoch >= 1", name="epoch"),
    sa.CheckConstraint("experiment_id = campaign || ':' || CAST(epoch AS TEXT)", name="identity"),
    sa.Index(
        "experiments_one_running",
        "campaign",
        unique=True,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    ),
)

waves = sa.Table(
    "waves",
    metadata,
    sa.Column("wave_id", Id, primary_key=True),
    sa.Column("experiment_id", Id, sa.ForeignKey("experiments.experiment_id"), nullable=False),
    sa.Column("as_of", Instant, nullable=False),
    sa.Column("assigned_at", Instant, nullable=False),
    sa.Column("plan_hash", sa.Text, nullable=False),
    sa.Column("config_hash", sa.Text, nullable=False),
    sa.Column("facts_fingerprint", sa.Text, nullable=False),
    sa.Column("planned", CanonicalJson, nullable=False),
    sa.Column("skipped", CanonicalJson, nullable=False),
    sa.Column("weights", CanonicalJson, nullable=False),
    sa.Column("tzdata", sa.Text, nullable=False, server_default=""),
    sa.Column("recorded", CanonicalJson),
    sa.Column("status", sa.Text, nullable=False, server_default="open"),
    sa.UniqueConstraint("experiment_id", "as_of"),
    sa.CheckConstraint("status = 'open' OR status = 'complete'", name="status"),
    sa.CheckConstraint("(status = 'complete') = (recorded IS NOT NULL)", name="recorded"),
)

assignments = sa.Table(
    "assignments",
    metadata,
    sa.Column("experiment_id", Id, primary_key=True),
    sa.Column("customer_id", Id, primary_key=True),
    # no foreign key: PostgreSQL would look up one and the same wave for each of a million rows (doubles the load time);
    # record_wave writes the wave first, and waves are never deleted
    sa.Column("wave_id", Id, nullable=False),
    sa.Column("arm", sa.Text, nullable=False),
    sa.Column("assigned_at", Instant, nullable=False),
    sa.Column("stratum", sa.Text),
    sa.Column("unit", Id),
    sqlite_with_rowid=False,  # measured: sorted rows go in 3x faster than into a rowid table with its own key index
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("message_key", Id, primary_key=True),
    sa.Column("experiment_id", Id, nullable=False),
    sa.Column("customer_id", Id, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("turn", sa.Integer, nullable=False, server_default="1"),
    sa.Column("hop", sa.Integer, nullable=False, server_default="0"),
    sa.Column("arm", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("fallback", sa.Text, nullable=False, server_default=""),
    sa.Column("template", sa.Text, nullable=False),
    sa.Column("offer", sa.Text),
    sa.Column("code", sa.Text),
    sa.Column("locale", sa.Text),
    sa.Column("unless", sa.Text),
    sa.Column("zones", sa.Text, nullable=False, server_default=""),
    sa.Column("place", sa.Text, nullable=False, server_default=""),
    sa.Column("not_before", Instant, nullable=False),
    sa.Column("closes_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    sa.Column("reason", sa.Text),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until", Instant),
    sa.Column("claimed_at", Instant),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("provider", sa.Text),
    sa.Column("provider_id", sa.Text),
    sa.Column("provider_code", sa.Text),
    sa.Column("segments", sa.Integer),
    sa.Column("cost_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("intent_at", Instant),
    sa.Column("settled_at", Instant),
    sa.Column("updated_at", Instant, nullable=False),
    sa.ForeignKeyConstraint(
        ["experiment_id", "customer_id"],
        ["assignments.experiment_id", "assignments.customer_id"],
        deferrable=True,  # an erasure renames the customer everywhere, in any order
    ),
    sa.CheckConstraint(one_of("state", STATES), name="state"),
    sa.CheckConstraint(one_of("channel", CHANNELS), name="channel"),
    # TURN and HOP show only where a message is not the first of its step
    sa.CheckConstraint(
        "message_key = experiment_id || '/' || customer_id || '/' || CAST(step AS TEXT)"
        " || CASE WHEN turn > 1 THEN '.' || CAST(turn AS TEXT) ELSE '' END"
        " || CASE WHEN hop > 0 THEN '/' || channel ELSE '' END",
        name="key",
    ),
    sa.CheckConstraint("(state = 'claimed' OR state = 'sending') = (lease_owner IS NOT NULL)", name="lease_owner"),
    sa.CheckConstraint("(lease_owner IS NULL) = (lease_until IS NULL)", name="lease_until"),
    sa.CheckConstraint(
        "state = 'pending' OR reason IS NOT NULL OR NOT (state = 'skipped' OR state = 'failed' OR state = 'in_doubt')",
        name="reason",
    ),
    sa.CheckConstraint("turn >= 1 AND hop >= 0", name="place"),
    sa.CheckConstraint("step >= 0 AND fence >= 0 AND attempts >= 0 AND cost_micros >= 0", name="numbers"),
    # a claim reads one lane (experiment, channel) from its earliest due row; a paused lane costs nothing
    sa.Index(
        "outbox_due",
        "experiment_id",
        "channel",
        "not_before",
        "closes_at",
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    ),
    # for the sweep alone, so in words that no other query uses: PostgreSQL would lead an intent or a settlement, which
    # know their messages' keys, through the entries of all that ever were claimed, as these stay until the next vacuum
    sa.Index(
        "outbox_leased",
        "lease_until",
        sqlite_where=sa.text("(state = 'claimed') <> (state = 'sending')"),
        postgresql_where=sa.text("(state = 'claimed') <> (state = 'sending')"),
    ),
    sa.Index(
        "outbox_in_doubt",
        "experiment_id",
        sqlite_where=sa.text("state = 'in_doubt'"),
        postgresql_where=sa.text("state = 'in_doubt'"),
    ),
    # what is left to fall back to: few rows, as most messages arrive
    sa.Index(
        "outbox_fallback",
        "experiment_id",
        "reason",
        sqlite_where=sa.text("fallback <> '' AND (state = 'failed' OR state = 'skipped')"),
        postgresql_where=sa.text("fallback <> '' AND (state = 'failed' OR state = 'skipped')"),
    ),
    sa.Index(
        "outbox_unreported",
        "experiment_id",
        "intent_at",
        sqlite_where=sa.text("fallback <> '' AND state = 'sent'"),
        postgresql_where=sa.text("fallback <> '' AND state = 'sent'"),
    ),
    # half full, as the keys below: each change of state adds an entry that must find room (a sixth of a claim's work)
    sa.Index("outbox_customer", "customer_id", postgresql_with={"fillfactor": 50}),
    # a callback of Twilio's that bears no key of ours; of one e-mail request all messages have the same id
    sa.Index(
        "outbox_provider_id",
        "provider_id",
        sqlite_where=sa.text("channel = 'sms' AND provider_id IS NOT NULL"),
        postgresql_where=sa.text("channel = 'sms' AND provider_id IS NOT NULL"),
    ),
)

sa.event.listen(
    outbox,
    "after_create",
    sa.DDL("ALTER INDEX outbox_pk SET (fillfactor = 50)").execute_if(  # type: ignore[no-untyped-call]  # no types
        dialect="postgresql"
    ),
)

message_events = sa.Table(
    "message_events",
    metadata,
    sa.Column("event_id", Serial, primary_key=True),
    # no foreign key: PostgreSQL would look the message up again for every line (a quarter of a settlement there);
    # lines are written for messages that the same transaction has read and locked, and messages are never deleted
    sa.Column("message_key", Id, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("applied", sa.Boolean, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("began_at", Instant),
    sa.Column("worker", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("provider", sa.Text),
    sa.Column("provider_id", sa.Text),
    sa.Column("provider_code", sa.Text),
    sa.Column("event_key", sa.Text),
    sa.Index("message_events_message", "message_key"),
    # what customers did with messages: few rows, read when a best hour is learned
    sa.Index(
        "message_events_engaged",
        "at",
        sqlite_where=sa.text("event = 'open' OR event = 'click'"),
        postgresql_where=sa.text("event = 'open' OR event = 'click'"),
    ),
    sa.Index(
        "message_events_event_key",
        "event_key",
        unique=True,
        sqlite_where=sa.text("event_key IS NOT NULL"),
        postgresql_where=sa.text("event_key IS NOT NULL"),
    ),
)

exits = sa.Table(
    "exits",
    metadata,
    sa.Column("experiment_id", Id, primary_key=True),
    sa.Column("customer_id", Id, primary_key=True),
    sa.Column("reason", Id, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.ForeignKeyConstraint(
        ["experiment_id", "customer_id"],
        ["assignments.experiment_id", "assignments.customer_id"],
        deferrable=True,  # an erasure renames the customer everywhere, in any order
    ),
    sqlite_with_rowid=False,
)

suppressions = sa.Table(
    "suppressions",
    metadata,
    sa.Column("suppression_id", Serial, primary_key=True),
    sa.Column("customer_id", Id, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False, server_default="all"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("released_at", Instant),
    sa.Column("release_source", sa.Text),
    sa.CheckConstraint(one_of("channel", (*CHANNELS, "all")), name="channel"),
    sa.CheckConstraint(one_of("reason", SUPPRESSION_REASONS), name="reason"),
    sa.CheckConstraint("(released_at IS NULL) = (release_source IS NULL)", name="release"),
    sa.Index(
        "suppressions_active",
        "customer_id",
        "channel",
        "topic",
        "reason",
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    ),
    sa.Index("suppressions_customer", "customer_id", "at"),
)

looks = sa.Table(
    "looks",
    metadata,
    sa.Column("experiment_id", Id, sa.ForeignKey("experiments.experiment_id"), primary_key=True),
    sa.Column("look", sa.Integer, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("information", sa.Float, nullable=False),
    sa.Column("detail", CanonicalJson, nullable=False),
    sa.CheckConstraint("look >= 1", name="look"),
    sa.CheckConstraint("information >= 0", name="information"),
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("measurement_id", Serial, primary_key=True),
    sa.Column("experiment_id", Id, sa.ForeignKey("experiments.experiment_id"), nullable=False),
    sa.Column("measured_at", Instant, nullable=False),
    sa.Column("measurement", CanonicalJson, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.UniqueConstraint("experiment_id", "measured_at", "content_hash"),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("decision_id", Serial, primary_key=True, autoincrement=False),
    sa.Column("experiment_id", Id, sa.ForeignKey("experiments.experiment_id"), nullable=False),
    sa.Column("decided_at", Instant, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("arm", sa.Text),
    sa.Column("rule_version", sa.Text, nullable=False),
    sa.Column("evidence", CanonicalJson, nullable=False),
    sa.Column("previous_hash", sa.Text, nullable=False, unique=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("audit_id", Serial, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", CanonicalJson, nullable=False),
    sa.Index("audit_subject", "subject"),
)

# a link is short, so it names the customer by a number
unsubscribe_links = sa.Table(
    "unsubscribe_links",
    metadata,
    sa.Column("link_id", Serial, primary_key=True),
    sa.Column("customer_id", Id, nullable=False),
    sa.Column("topic", sa.Text, nullable=False, server_default="all"),
    sa.UniqueConstraint("customer_id", "topic"),
)

switches = sa.Table(
    "switches",
    metadata,
    sa.Column("scope", Id, primary_key=True),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

budgets = sa.Table(
    "budgets",
    metadata,
    sa.Column("campaign", Id, primary_key=True),
    sa.Column("messages", sa.BigInteger, nullable=False),
    sa.Column("cost_micros", sa.BigInteger, nullable=False),
    sa.CheckConstraint("messages >= 0 AND cost_micros >= 0", name="used"),
)
