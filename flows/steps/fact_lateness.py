"""How late orders become known, against what an experiment waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from experiments.health import Lateness, lateness

if TYPE_CHECKING:
    from experiments.design import Design
    from flows.wiring import Workspace

LEAST_ORDERS: Final = 100
"""Orders loaded after the first load, below which nothing is said of their delay."""


def observed_lateness(ws: Workspace, design: Design) -> Lateness | None:
    """The delays of the orders loaded so far against what the design waits; None where they are not known."""
    delays = ws.facts.order_delays()
    if delays is None or sum(delays.values()) < LEAST_ORDERS:
        return None
    return lateness({float(days): n for days, n in delays.items()}, allowed_days=design.lateness_days)


def describe_lateness(design: Design, observed: Lateness | None) -> dict[str, Any]:
    """What a measurement says of it."""
    if observed is None:
        return {"status": "unknown", "agreed_days": design.lateness_days}
    return {"status": "known", "agreed_days": design.lateness_days, **observed._asdict()}
