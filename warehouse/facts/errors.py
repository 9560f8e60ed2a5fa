"""The root of every error of the facts."""

from __future__ import annotations


class FactsError(Exception):
    """Something about the facts cannot be done; the message says what, where, what was expected and what to do."""
