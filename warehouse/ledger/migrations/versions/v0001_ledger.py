"""The first tables of the ledger, their indexes and the triggers that guard them.

A frozen copy: it does not import the room's present tables, so that it does tomorrow what it does today.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(referred_table_name)s_fk",
    }
)

# ids compare by code point on both databases ("C" collation), as Python sorts them
_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INSTANT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

sa.Table(
    "experiments",
    _metadata,
    sa.Column("experiment_id", _ID, primary_key=True),
    sa.Column("campaign", _ID, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("salt", sa.Text, nullable=False),
    sa.Column("design", sa.Text, nullable=False),
    sa.Column("design_hash", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False, server_default="marketing"),
    sa.Column("status", sa.Text, nullable=False, server_default="running"),
    sa.Column("started_at", _INSTANT, nullable=False),
    sa.Column("ended_at", _INSTANT),
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

sa.Table(
    "waves",
    _metadata,
    sa.Column("wave_id", _ID, primary_key=True),
    sa.Column("experiment_id", _ID, sa.ForeignKey("experiments.experiment_id"), nullable=False),
    sa.Column("as_of", _INSTANT, nullable=False),
    sa.Column("assigned_at", _INSTANT, nullable=False),
    sa.Column("plan_hash", sa.Text, nullable=False),
    sa.Column("config_hash", sa.Text, nullable=False),
    sa.Column("facts_fingerprint", sa.Text, nullable=False),
    sa.Column("planned", sa.Text, nullable=False),
    sa.Column("skipped", sa.Text, nullable=False),
    sa.Column("weights", sa.Text, nullable=False),
    sa.Column("tzdata", sa.Text, nullable=False, server_default=""),
    sa.Column("recorded", sa.Text),
    sa.Column("status", sa.Text, nullable=False, server_default="open"),
    sa.UniqueConstraint("experiment_id", "as_of"),
    sa.CheckConstraint("status = 'open' OR status = 'complete'", name="status"),
    sa.CheckConstraint("(status = 'complete') = (recorded IS NOT NULL)", name="recorded"),
)

sa.Table(
    "assignments",
    _metadata,
    sa.Column("experiment_id", _ID, primary_key=True),
    sa.Column("customer_id", _ID, primary_key=True),
    # no foreign key: PostgreSQL would look up one and the same wave for each of a million rows (doubles the load time);
    # record_wave writes the wave first, and waves are never deleted
    sa.Column("wave_id", _ID, nullable=False),
    sa.Column("arm", sa.Text, nullable=False),
    sa.Column("assigned_at", _INSTANT, nullable=False),
    sa.Column("stratum", sa.Text),
    sa.Column("unit", _ID),
    sqlite_with_rowid=False,  # measured: sorted rows go in 3x faster than into a rowid table with its own key index
)

sa.Table(
    "outbox",
    _metadata,
    sa.Column("message_key", _ID, primary_key=True),
    sa.Column("experiment_id", _ID, nullable=False),
    sa.Column("customer_id", _ID, nullable=False),
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
    sa.Column("not_before", _INSTANT, nullable=False),
    sa.Column("closes_at", _INSTANT, nullable=False),
    sa.Column("expires_at", _INSTANT, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    sa.Column("reason", sa.Text),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until", _INSTANT),
    sa.Column("claimed_at", _INSTANT),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("provider", sa.Text),
    sa.Column("provider_id", sa.Text),
    sa.Column("provider_code", sa.Text),
    sa.Column("segments", sa.Integer),
    sa.Column("cost_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("intent_at", _INSTANT),
    sa.Column("settled_at", _INSTANT),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.ForeignKeyConstraint(
        ["experiment_id", "customer_id"],
        ["assignments.experiment_id", "assignments.customer_id"],
        deferrable=True,  # an erasure renames the customer everywhere, in any order
    ),
    sa.CheckConstraint(
        "state = 'pending' OR state = 'claimed' OR state = 'sending' OR state = 'sent' OR state = "
        "'delivered' OR state = 'failed' OR state = 'skipped' OR state = 'in_doubt'",
        name="state",
    ),
    sa.CheckConstraint("channel = 'sms' OR channel = 'email' OR channel = 'push'", name="channel"),
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
    _metadata.tables["outbox"],
    "after_create",
    sa.DDL("ALTER INDEX outbox_pk SET (fillfactor = 50)").execute_if(  # type: ignore[no-untyped-call]  # no types
        dialect="postgresql"
    ),
)

sa.Table(
    "message_events",
    _metadata,
    sa.Column("event_id", _SERIAL, primary_key=True),
    # no foreign key: PostgreSQL would look the message up again for every line (a quarter of a settlement there);
    # lines are written for messages that the same transaction has read and locked, and messages are never deleted
    sa.Column("message_key", _ID, nullable=False),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("applied", sa.Boolean, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("began_at", _INSTANT),
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

sa.Table(
    "exits",
    _metadata,
    sa.Column("experiment_id", _ID, primary_key=True),
    sa.Column("customer_id", _ID, primary_key=True),
    sa.Column("reason", _ID, primary_key=True),
    sa.Column("at", _INSTANT, nullable=False),
    sa.ForeignKeyConstraint(
        ["experiment_id", "customer_id"],
        ["assignments.experiment_id", "assignments.customer_id"],
        deferrable=True,  # an erasure renames the customer everywhere, in any order
    ),
    sqlite_with_rowid=False,
)

sa.Table(
    "suppressions",
    _metadata,
    sa.Column("suppression_id", _SERIAL, primary_key=True),
    sa.Column("customer_id", _ID, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False, server_default="all"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("released_at", _INSTANT),
    sa.Column("release_source", sa.Text),
    sa.CheckConstraint("channel = 'sms' OR channel = 'email' OR channel = 'push' OR channel = 'all'", name="channel"),
    sa.CheckConstraint(
        "reason = 'stop' OR reason = 'unsubscribe' OR reason = 'complaint' OR reason = 'bounce' OR reason = 'manual' "
        "OR reason = 'withdrawn' OR reason = 'erased'",
        name="reason",
    ),
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

sa.Table(
    "looks",
    _metadata,
    sa.Column("experiment_id", _ID, sa.ForeignKey("experiments.experiment_id"), primary_key=True),
    sa.Column("look", sa.Integer, primary_key=True),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("information", sa.Float, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.CheckConstraint("look >= 1", name="look"),
    sa.CheckConstraint("information >= 0", name="information"),
)

sa.Table(
    "results",
    _metadata,
    sa.Column("measurement_id", _SERIAL, primary_key=True),
    sa.Column("experiment_id", _ID, sa.ForeignKey("experiments.experiment_id"), nullable=False),
    sa.Column("measured_at", _INSTANT, nullable=False),
    sa.Column("measurement", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.UniqueConstraint("experiment_id", "measured_at", "content_hash"),
)

sa.Table(
    "decisions",
    _metadata,
    sa.Column("decision_id", _SERIAL, primary_key=True, autoincrement=False),
    sa.Column("experiment_id", _ID, sa.ForeignKey("experiments.experiment_id"), nullable=False),
    sa.Column("decided_at", _INSTANT, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("arm", sa.Text),
    sa.Column("rule_version", sa.Text, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.Text, nullable=False, unique=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
)

sa.Table(
    "audit",
    _metadata,
    sa.Column("audit_id", _SERIAL, primary_key=True),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

sa.Table(
    "switches",
    _metadata,
    sa.Column("scope", _ID, primary_key=True),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("changed_at", _INSTANT, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

sa.Table(
    "budgets",
    _metadata,
    sa.Column("campaign", _ID, primary_key=True),
    sa.Column("messages", sa.BigInteger, nullable=False),
    sa.Column("cost_micros", sa.BigInteger, nullable=False),
    sa.CheckConstraint("messages >= 0 AND cost_micros >= 0", name="used"),
)

# name, table, event, message, when
_GUARDS = (
    (
        "outbox_forward",
        "outbox",
        "UPDATE OF state, fence, attempts",
        "outbox: states, fences and attempts only move forward",
        (
            "NEW.fence < OLD.fence OR NEW.attempts < OLD.attempts OR NOT ((OLD.state = 'pending' AND "
            "(NEW.state = 'claimed' OR NEW.state = 'skipped' OR NEW.state = 'sent' OR NEW.state = "
            "'delivered' OR NEW.state = 'failed' OR NEW.state = 'pending')) OR (OLD.state = 'claimed' AND "
            "(NEW.state = 'pending' OR NEW.state = 'sending' OR NEW.state = 'skipped' OR NEW.state = 'sent' "
            "OR NEW.state = 'delivered' OR NEW.state = 'failed' OR NEW.state = 'claimed')) OR (OLD.state = "
            "'sending' AND (NEW.state = 'pending' OR NEW.state = 'sent' OR NEW.state = 'delivered' OR "
            "NEW.state = 'failed' OR NEW.state = 'in_doubt' OR NEW.state = 'sending')) OR (OLD.state = "
            "'in_doubt' AND (NEW.state = 'pending' OR NEW.state = 'sent' OR NEW.state = 'delivered' OR "
            "NEW.state = 'failed' OR NEW.state = 'in_doubt')) OR (OLD.state = 'sent' AND (NEW.state = "
            "'delivered' OR NEW.state = 'failed' OR NEW.state = 'sent')) OR (OLD.state = 'delivered' AND "
            "(NEW.state = 'failed' OR NEW.state = 'delivered')) OR (OLD.state = 'failed' AND (NEW.state = "
            "'failed')) OR (OLD.state = 'skipped' AND (NEW.state = 'skipped')))"
        ),
    ),
    (
        "outbox_identity",
        "outbox",
        "UPDATE OF message_key, experiment_id, customer_id, step, turn, hop, arm",
        "outbox: a message never changes customer, step or arm",
        None,
    ),
    ("outbox_no_delete", "outbox", "DELETE", "outbox: messages are never deleted; skip them with a reason", None),
    ("assignments_no_update", "assignments", "UPDATE", "assignments: a customer never changes arm", None),
    ("assignments_no_delete", "assignments", "DELETE", "assignments: an assignment is for ever", None),
    (
        "experiments_frozen",
        "experiments",
        "UPDATE OF experiment_id, campaign, epoch, salt, design, design_hash, topic, started_at",
        "experiments: the design is frozen; start a new epoch",
        None,
    ),
    ("experiments_no_delete", "experiments", "DELETE", "experiments are never deleted; end them", None),
    (
        "experiments_ended",
        "experiments",
        "UPDATE OF status",
        "experiments: an ended experiment does not start again",
        "OLD.status = 'ended' AND NEW.status <> 'ended'",
    ),
    (
        "waves_frozen",
        "waves",
        (
            "UPDATE OF wave_id, experiment_id, as_of, assigned_at, plan_hash, config_hash, "
            "facts_fingerprint, planned, skipped, weights, tzdata"
        ),
        "waves: a recorded plan does not change",
        None,
    ),
    (
        "waves_forward",
        "waves",
        "UPDATE OF status, recorded",
        "waves: a complete wave stays as it is",
        "OLD.status = 'complete'",
    ),
    ("waves_no_delete", "waves", "DELETE", "waves are never deleted", None),
    (
        "suppressions_frozen",
        "suppressions",
        "UPDATE OF suppression_id, customer_id, channel, topic, reason, source, at",
        "suppressions: only the release of a suppression is added",
        None,
    ),
    (
        "suppressions_released_once",
        "suppressions",
        "UPDATE OF released_at, release_source",
        "suppressions: a release is final; add a new suppression",
        "OLD.released_at IS NOT NULL",
    ),
    ("suppressions_no_delete", "suppressions", "DELETE", "suppressions are never deleted; release them", None),
    (
        "message_events_no_update",
        "message_events",
        "UPDATE",
        "message_events is append-only: add a row instead of changing one",
        None,
    ),
    (
        "message_events_no_delete",
        "message_events",
        "DELETE",
        "message_events is append-only: rows are never deleted",
        None,
    ),
    ("exits_no_update", "exits", "UPDATE", "exits is append-only: add a row instead of changing one", None),
    ("exits_no_delete", "exits", "DELETE", "exits is append-only: rows are never deleted", None),
    ("looks_no_update", "looks", "UPDATE", "looks is append-only: add a row instead of changing one", None),
    ("looks_no_delete", "looks", "DELETE", "looks is append-only: rows are never deleted", None),
    ("results_no_update", "results", "UPDATE", "results is append-only: add a row instead of changing one", None),
    ("results_no_delete", "results", "DELETE", "results is append-only: rows are never deleted", None),
    ("decisions_no_update", "decisions", "UPDATE", "decisions is append-only: add a row instead of changing one", None),
    ("decisions_no_delete", "decisions", "DELETE", "decisions is append-only: rows are never deleted", None),
    ("audit_no_update", "audit", "UPDATE", "audit is append-only: add a row instead of changing one", None),
    ("audit_no_delete", "audit", "DELETE", "audit is append-only: rows are never deleted", None),
)

_POSTGRES_FUNCTION = """CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = '23000'; END $$"""


def upgrade() -> None:
    """Create everything."""
    connection = op.get_bind()
    _metadata.create_all(connection, checkfirst=False)
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.exec_driver_sql(_POSTGRES_FUNCTION)
    for name, table, event, message, when in _GUARDS:
        # a trigger before an update makes PostgreSQL lock each row first: one more write a row
        moment = "AFTER" if table == "outbox" and event != "DELETE" else "BEFORE"
        trigger = f"CREATE TRIGGER {name} {moment} {event} ON {table} FOR EACH ROW"
        if postgres:
            condition = f" WHEN ({when})" if when else ""
            connection.exec_driver_sql(f"{trigger}{condition} EXECUTE FUNCTION ledger_refuse('{message}')")
            if event == "DELETE":
                connection.exec_driver_sql(
                    f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                    f"FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse('{message}')"
                )
        else:
            condition = f" WHEN {when}" if when else ""
            connection.exec_driver_sql(f"{trigger}{condition} BEGIN SELECT RAISE(ABORT, '{message}'); END")
