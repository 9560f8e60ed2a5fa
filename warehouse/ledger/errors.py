"""What can go wrong in the ledger."""

from __future__ import annotations


class LedgerError(Exception):
    """The ledger refuses; the message says what, where, what was expected and what to do."""


class SchemaVersionError(LedgerError):
    """The database's tables are older or newer than this installation (or are not there)."""


class PlanConflictError(LedgerError):
    """Another plan was already recorded for the same experiment and as-of instant."""
