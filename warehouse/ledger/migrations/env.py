"""Runs migrations on the connection that `warehouse.ledger.engine.migrate` hands over; the transaction is its own."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
