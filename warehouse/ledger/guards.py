"""Triggers that keep the ledger's history: forward-only states, append-only tables, assignments that never change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warehouse.ledger.schema import TRANSITIONS


@dataclass(frozen=True)
class Guard:
    """One refusal: on `event` of `table`, where `when` holds (always, when None).

    `erased` are the columns that an erasure, and nothing else, may change: the first of them to a recorded pseudonym or
    to the key of a pseudonym's message, while every column of `kept` stays as it is.
    """

    name: str
    table: str
    event: str
    message: str
    when: str | None = None
    erased: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def _append_only(table: str, erased: tuple[str, ...] = (), kept: tuple[str, ...] = ()) -> tuple[Guard, Guard]:
    refused = f"{table} is append-only: add a row instead of changing one"
    return (
        Guard(f"{table}_no_update", table, "UPDATE", refused, erased=erased, kept=kept),
        Guard(f"{table}_no_delete", table, "DELETE", f"{table} is append-only: rows are never deleted"),
    )


def _legal_change() -> str:
    """Write the legal changes of state as one condition, the common ones first.

    Equalities, not IN lists: SQLite builds a table for each longer list, at each row (measured: 2 us a row).
    """
    cases = []
    for old, allowed in TRANSITIONS.items():
        states = " OR ".join(f"NEW.state = '{new}'" for new in (*allowed, old))
        cases.append(f"(OLD.state = '{old}' AND ({states}))")
    return " OR ".join(cases)


GUARDS: Final[tuple[Guard, ...]] = (
    Guard(
        "outbox_forward",
        "outbox",
        "UPDATE OF state, fence, attempts",
        "outbox: states, fences and attempts only move forward",
        f"NEW.fence < OLD.fence OR NEW.attempts < OLD.attempts OR NOT ({_legal_change()})",
    ),
    Guard(
        "outbox_identity",
        "outbox",
        "UPDATE OF message_key, experiment_id, customer_id, step, turn, hop, arm",
        "outbox: a message never changes customer, step or arm",
        erased=("customer_id", "message_key"),
        kept=("experiment_id", "step", "turn", "hop", "arm"),
    ),
    Guard("outbox_no_delete", "outbox", "DELETE", "outbox: messages are never deleted; skip them with a reason"),
    Guard(
        "assignments_no_update",
        "assignments",
        "UPDATE",
        "assignments: a customer never changes arm",
        erased=("customer_id",),
        kept=("experiment_id", "wave_id", "arm", "assigned_at", "stratum", "unit"),
    ),
    Guard("assignments_no_delete", "assignments", "DELETE", "assignments: an assignment is for ever"),
    Guard(
        "experiments_frozen",
        "experiments",
        "UPDATE OF experiment_id, campaign, epoch, salt, design, design_hash, topic, started_at",
        "experiments: the design is frozen; start a new epoch",
    ),
    Guard("experiments_no_delete", "experiments", "DELETE", "experiments are never deleted; end them"),
    Guard(
        "experiments_ended",
        "experiments",
        "UPDATE OF status",
        "experiments: an ended experiment does not start again",
        "OLD.status = 'ended' AND NEW.status <> 'ended'",
    ),
    Guard(
        "waves_frozen",
        "waves",
        "UPDATE OF wave_id, experiment_id, as_of, assigned_at, plan_hash, config_hash, facts_fingerprint, "
        "planned, skipped, weights, tzdata",
        "waves: a recorded plan does not change",
    ),
    Guard(
        "waves_forward",
        "waves",
        "UPDATE OF status, recorded",
        "waves: a complete wave stays as it is",
        "OLD.status = 'complete'",
    ),
    Guard("waves_no_delete", "waves", "DELETE", "waves are never deleted"),
    Guard(
        "suppressions_frozen",
        "suppressions",
        "UPDATE OF suppression_id, customer_id, channel, topic, reason, source, at",
        "suppressions: only the release of a suppression is added",
        erased=("customer_id",),
        kept=("suppression_id", "channel", "topic", "reason", "source", "at"),
    ),
    Guard(
        "suppressions_released_once",
        "suppressions",
        "UPDATE OF released_at, release_source",
        "suppressions: a release is final; add a new suppression",
        "OLD.released_at IS NOT NULL",
    ),
    Guard("suppressions_no_delete", "suppressions", "DELETE", "suppressions are never deleted; release them"),
    Guard(
        "address_suppressions_frozen",
        "address_suppressions",
        "UPDATE OF address_suppression_id, address_mac, key_id, channel, topic, reason, source, at",
        "address_suppressions: only the release of a suppression is added",
    ),
    Guard(
        "address_suppressions_released_once",
        "address_suppressions",
        "UPDATE OF released_at, release_source",
        "address_suppressions: a release is final; add a new suppression",
        "OLD.released_at IS NOT NULL",
    ),
    Guard(
        "address_suppressions_no_delete",
        "address_suppressions",
        "DELETE",
        "address_suppressions are never deleted; release them",
    ),
    *_append_only("consents", ("customer_id",), ("consent_id", "channel", "topic", "given", "at", "source", "wording")),
    *_append_only("erasures"),
    *_append_only(
        "message_events",
        ("message_key",),
        (
            "event_id",
            "at",
            "event",
            "state",
            "applied",
            "attempt",
            "began_at",
            "worker",
            "reason",
            "provider",
            "provider_id",
            "provider_code",
            "event_key",
        ),
    ),
    *_append_only("exits", ("customer_id",), ("experiment_id", "reason", "at")),
    *_append_only("looks"),
    *_append_only("holdout_periods"),
    *_append_only("programme_results"),
    *_append_only("results"),
    *_append_only("decisions"),
    *_append_only("audit", ("subject",), ("audit_id", "at", "actor", "action", "detail")),
    Guard("launch_requests_no_update", "launch_requests", "UPDATE", "launch_requests is append-only: ask again"),
    Guard("launch_requests_no_delete", "launch_requests", "DELETE", "launch_requests: rows are never deleted"),
    Guard("launch_answers_no_update", "launch_answers", "UPDATE", "launch_answers is append-only: an answer stands"),
    Guard("launch_answers_no_delete", "launch_answers", "DELETE", "launch_answers: rows are never deleted"),
    Guard("code_pools_no_delete", "code_pools", "DELETE", "code_pools: a pool is never deleted"),
    Guard("pool_codes_no_delete", "pool_codes", "DELETE", "pool_codes: codes are never deleted"),
    Guard(
        "pool_codes_frozen",
        "pool_codes",
        "UPDATE OF code_key, pool, code, imported_at, expires_at",
        "pool_codes: a code stays what was imported",
    ),
    Guard(
        "pool_codes_kept",
        "pool_codes",
        "UPDATE OF experiment_id, reserved_at",
        "pool_codes: a reserved code is not given to anybody else",
        "OLD.experiment_id IS NOT NULL AND NEW.experiment_id IS NOT NULL",
    ),
    *_append_only("promises"),
    Guard(
        "point_postings_frozen",
        "point_postings",
        "UPDATE OF posting_key, experiment_id, offer, kind, points, at, posted_at, expires_at",
        "point_postings is append-only: post the opposite instead of changing a row",
    ),
    Guard("point_postings_no_delete", "point_postings", "DELETE", "point_postings: rows are never deleted"),
    Guard("point_exports_no_delete", "point_exports", "DELETE", "point_exports: rows are never deleted"),
    Guard(
        "point_exports_done",
        "point_exports",
        "UPDATE",
        "point_exports: an export that is done stays as it is",
        "OLD.done_at IS NOT NULL",
    ),
    Guard("point_exported_no_update", "point_exported", "UPDATE", "point_exported: a posting is exported once"),
    Guard("point_exported_no_delete", "point_exported", "DELETE", "point_exported: a posting is exported once"),
)


def guard_statements(dialect: str) -> list[str]:
    """Give the DDL that creates every guard on "sqlite" or "postgresql"."""
    if dialect == "postgresql":
        kept = [_truncate_trigger(guard) for guard in GUARDS if guard.event == "DELETE"]
        return [_POSTGRES_FUNCTION, _POSTGRES_ERASURE, *(_postgres_trigger(guard) for guard in GUARDS), *kept]
    return [_sqlite_trigger(guard) for guard in GUARDS]


# 23000 is integrity_constraint_violation: both drivers then raise IntegrityError
_POSTGRES_FUNCTION = """CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = '23000'; END $$"""


# an erasure may put a recorded pseudonym, or the key of a pseudonym's message, into the first of the named columns
_POSTGRES_ERASURE = """CREATE FUNCTION ledger_refuse_all_but_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
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


def _moment(guard: Guard) -> str:
    """Say when it looks: the statement fails either way, but a trigger before an update makes PostgreSQL lock each row
    first, one more write a row; the outbox is updated three times a message."""
    return "AFTER" if guard.table == "outbox" and guard.event != "DELETE" else "BEFORE"


def _postgres_trigger(guard: Guard) -> str:
    when = f" WHEN ({guard.when})" if guard.when else ""
    call = f"ledger_refuse('{guard.message}')"
    if guard.erased:
        call = f"ledger_refuse_all_but_erasure('{guard.message}', '{','.join(guard.erased)}')"
    return (
        f"CREATE TRIGGER {guard.name} {_moment(guard)} {guard.event} ON {guard.table} "
        f"FOR EACH ROW{when} EXECUTE FUNCTION {call}"
    )


def _truncate_trigger(guard: Guard) -> str:
    """What may not be deleted row by row may not be emptied at once either (SQLite has no TRUNCATE)."""
    return (
        f"CREATE TRIGGER {guard.table}_no_truncate BEFORE TRUNCATE ON {guard.table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse('{guard.message}')"
    )


def _sqlite_trigger(guard: Guard) -> str:
    when = f" WHEN {guard.when}" if guard.when else ""
    if guard.erased:
        when = f" WHEN {_is_no_erasure(guard)}"
    return (
        f"CREATE TRIGGER {guard.name} {_moment(guard)} {guard.event} ON {guard.table} "
        f"FOR EACH ROW{when} BEGIN SELECT RAISE(ABORT, '{guard.message}'); END"
    )


def _is_no_erasure(guard: Guard) -> str:
    """SQLite: what `ledger_refuse_all_but_erasure` asks on PostgreSQL."""
    name = guard.erased[0]
    same = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in guard.kept)
    return (
        f"NOT ({same} AND NOT EXISTS (SELECT 1 FROM erasures WHERE pseudonym = OLD.{name}) "  # noqa: S608 - names are ours
        f"AND (EXISTS (SELECT 1 FROM erasures WHERE pseudonym = NEW.{name}) "
        "OR EXISTS (SELECT 1 FROM outbox AS o JOIN erasures AS e ON e.pseudonym = o.customer_id "
        f"WHERE o.message_key = NEW.{name})))"
    )
