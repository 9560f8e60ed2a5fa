"""The part of version 0003 that is about consent: its tables, and erasure through the guards of the older ones.

A frozen copy: it does not import the room's present tables, so that it does tomorrow what it does today.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from warehouse.ledger.migrations.guards_0003 import add_guards

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_INSTANT = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def add_consent() -> None:
    """Create the tables, and guard them."""
    op.create_table(
        "consents",
        sa.Column("consent_id", _SERIAL, nullable=False),
        sa.Column("customer_id", _ID, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("given", sa.Boolean, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("wording", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("consent_id", name="consents_pk"),
        sa.CheckConstraint(
            "channel = 'sms' OR channel = 'email' OR channel = 'push' OR channel = 'all'", name="consents_channel"
        ),
        sa.UniqueConstraint(
            "customer_id",
            "channel",
            "topic",
            "at",
            "given",
            "source",
            "wording",
            name="consents_customer_id_channel_topic_at_given_source_wording_key",
        ),
    )
    op.create_table(
        "address_suppressions",
        sa.Column("address_suppression_id", _SERIAL, nullable=False),
        sa.Column("address_mac", _ID, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("released_at", _INSTANT),
        sa.Column("release_source", sa.Text),
        sa.PrimaryKeyConstraint("address_suppression_id", name="address_suppressions_pk"),
        sa.CheckConstraint(
            "channel = 'sms' OR channel = 'email' OR channel = 'push'", name="address_suppressions_channel"
        ),
        sa.CheckConstraint(
            "reason = 'stop' OR reason = 'unsubscribe' OR reason = 'complaint' OR reason = 'bounce' "
            "OR reason = 'manual' OR reason = 'withdrawn' OR reason = 'erased'",
            name="address_suppressions_reason",
        ),
        sa.CheckConstraint("(released_at IS NULL) = (release_source IS NULL)", name="address_suppressions_release"),
    )
    op.create_index(
        "address_suppressions_active",
        "address_suppressions",
        ["address_mac", "channel", "topic", "reason"],
        unique=True,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_table(
        "erasures",
        sa.Column("pseudonym", _ID, nullable=False),
        sa.Column("customer_mac", _ID, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("pseudonym", name="erasures_pk"),
    )
    add_guards(_GUARDS)
    _let_erasures_through()


# name, table, event, message, when
_GUARDS = (
    (
        "address_suppressions_frozen",
        "address_suppressions",
        "UPDATE OF address_suppression_id, address_mac, key_id, channel, topic, reason, source, at",
        "address_suppressions: only the release of a suppression is added",
        None,
    ),
    (
        "address_suppressions_released_once",
        "address_suppressions",
        "UPDATE OF released_at, release_source",
        "address_suppressions: a release is final; add a new suppression",
        "OLD.released_at IS NOT NULL",
    ),
    (
        "address_suppressions_no_delete",
        "address_suppressions",
        "DELETE",
        "address_suppressions are never deleted; release them",
        None,
    ),
    ("consents_no_delete", "consents", "DELETE", "consents is append-only: rows are never deleted", None),
    ("erasures_no_update", "erasures", "UPDATE", "erasures is append-only: add a row instead of changing one", None),
    ("erasures_no_delete", "erasures", "DELETE", "erasures is append-only: rows are never deleted", None),
)

# name, table, event, message, columns that an erasure changes, columns it keeps
_ERASABLE = (
    (
        "outbox_identity",
        "outbox",
        "UPDATE OF message_key, experiment_id, customer_id, step, turn, hop, arm",
        "outbox: a message never changes customer, step or arm",
        ("customer_id", "message_key"),
        ("experiment_id", "step", "turn", "hop", "arm"),
    ),
    (
        "assignments_no_update",
        "assignments",
        "UPDATE",
        "assignments: a customer never changes arm",
        ("customer_id",),
        ("experiment_id", "wave_id", "arm", "assigned_at", "stratum", "unit"),
    ),
    (
        "suppressions_frozen",
        "suppressions",
        "UPDATE OF suppression_id, customer_id, channel, topic, reason, source, at",
        "suppressions: only the release of a suppression is added",
        ("customer_id",),
        ("suppression_id", "channel", "topic", "reason", "source", "at"),
    ),
    (
        "message_events_no_update",
        "message_events",
        "UPDATE",
        "message_events is append-only: add a row instead of changing one",
        ("message_key",),
        (
            *("event_id", "at", "event", "state", "applied", "attempt", "began_at", "worker", "reason", "provider"),
            *("provider_id", "provider_code", "event_key"),
        ),
    ),
    (
        "exits_no_update",
        "exits",
        "UPDATE",
        "exits is append-only: add a row instead of changing one",
        ("customer_id",),
        ("experiment_id", "reason", "at"),
    ),
    (
        "audit_no_update",
        "audit",
        "UPDATE",
        "audit is append-only: add a row instead of changing one",
        ("subject",),
        ("audit_id", "at", "actor", "action", "detail"),
    ),
    (
        "consents_no_update",
        "consents",
        "UPDATE",
        "consents is append-only: add a row instead of changing one",
        ("customer_id",),
        ("consent_id", "channel", "topic", "given", "at", "source", "wording"),
    ),
)

_ERASURE_FUNCTION = """CREATE FUNCTION ledger_refuse_all_but_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  names text[] := string_to_array(TG_ARGV[1], ',');
  was text := to_jsonb(OLD) ->> names[1];
  becomes text := to_jsonb(NEW) ->> names[1];
BEGIN
  IF to_jsonb(NEW) - names = to_jsonb(OLD) - names
    AND NOT EXISTS (SELECT 1 FROM erasures WHERE pseudonym = was)
    AND (EXISTS (SELECT 1 FROM erasures WHERE pseudonym = becomes)
      OR EXISTS (SELECT 1 FROM outbox AS o JOIN erasures AS e ON e.pseudonym = o.customer_id
                 WHERE o.message_key = becomes))
  THEN RETURN NEW; END IF;
  RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = '23000';
END $$"""


def _let_erasures_through() -> None:
    """Guards of the older tables, and of consents, that refuse every change but an erasure's."""
    postgres = op.get_bind().dialect.name == "postgresql"
    if postgres:
        op.execute(_ERASURE_FUNCTION)
    for name, table, event, message, erased, kept in _ERASABLE:
        if table != "consents":
            op.execute(f"DROP TRIGGER {name} ON {table}" if postgres else f"DROP TRIGGER {name}")
        moment = "AFTER" if table == "outbox" else "BEFORE"
        trigger = f"CREATE TRIGGER {name} {moment} {event} ON {table} FOR EACH ROW"
        if postgres:
            call = f"ledger_refuse_all_but_erasure('{message}', '{','.join(erased)}')"
            op.execute(f"{trigger} EXECUTE FUNCTION {call}")
        else:
            condition = _is_no_erasure(erased[0], kept)
            op.execute(f"{trigger} WHEN {condition} BEGIN SELECT RAISE(ABORT, '{message}'); END")


def _is_no_erasure(name: str, kept: tuple[str, ...]) -> str:
    same = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in kept)
    return (
        f"NOT ({same} AND NOT EXISTS (SELECT 1 FROM erasures WHERE pseudonym = OLD.{name}) "  # noqa: S608 - names are ours
        f"AND (EXISTS (SELECT 1 FROM erasures WHERE pseudonym = NEW.{name}) "
        "OR EXISTS (SELECT 1 FROM outbox AS o JOIN erasures AS e ON e.pseudonym = o.customer_id "
        f"WHERE o.message_key = NEW.{name})))"
    )
