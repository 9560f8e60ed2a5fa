"""Warns of customers and topics that nobody knows: what is recorded under a slip of the pen does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retain.printing import warn

if TYPE_CHECKING:
    from flows.wiring import Workspace


def warn_of_stranger(ws: Workspace, customer: str) -> bool:
    """Warn where no such customer is loaded, which stops nothing; give whether one is."""
    from flows.steps.suppress_customer import is_loaded

    known = is_loaded(ws, customer)
    if not known:
        warn(f"no customer {customer} is loaded; it is done all the same: check that the id is the right one")
    return known


def warn_of_topic(ws: Workspace, topic: str) -> None:
    """Warn where no campaign is about this topic."""
    from flows.steps.suppress_customer import doubt_of_topic

    if doubt := doubt_of_topic(ws, topic):
        warn(doubt)
