"""The one error of this room."""

from __future__ import annotations


class ExperimentError(Exception):
    """A design, a table or an aggregate that the maths cannot work with; the message says what was expected."""
