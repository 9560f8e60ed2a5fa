"""How version 0003 guards its tables, those of its parts included: triggers that refuse what may not happen.

A frozen copy: it does not import the room's present guards, so that it does tomorrow what it does today.
"""

from __future__ import annotations

from collections.abc import Iterable

from alembic import op

Guard = tuple[str, str, str, str, str | None]
"""Name, table, event, message, and when it refuses (None: always)."""


def add_guards(guards: Iterable[Guard]) -> None:
    """Create the triggers; what may not be deleted may not be truncated either (SQLite has no TRUNCATE)."""
    connection = op.get_bind()
    postgres = connection.dialect.name == "postgresql"
    for name, table, event, message, when in guards:
        trigger = f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW"
        if not postgres:
            condition = f" WHEN {when}" if when else ""
            connection.exec_driver_sql(f"{trigger}{condition} BEGIN SELECT RAISE(ABORT, '{message}'); END")
            continue
        condition = f" WHEN ({when})" if when else ""
        connection.exec_driver_sql(f"{trigger}{condition} EXECUTE FUNCTION ledger_refuse('{message}')")
        if event == "DELETE":
            connection.exec_driver_sql(
                f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse('{message}')"
            )
