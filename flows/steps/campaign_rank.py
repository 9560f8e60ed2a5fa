"""Who goes first when campaigns compete for a customer: declared priority, then expected incremental value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from warehouse.ledger.experiments import experiments
from warehouse.ledger.results import measurements

if TYPE_CHECKING:
    from campaigns.model import Campaign
    from flows.wiring import Workspace

Rank = tuple[int, float, str]
"""Smaller goes first: priority and value from large to small, and the name where both are equal."""


def rank_campaigns(ws: Workspace, campaigns: Sequence[Campaign]) -> dict[str, Rank]:
    """The rank of each campaign by name."""
    with ws.ledger.read() as tx:
        return {c.name: (-c.priority, -expected_value(tx, c), c.name) for c in campaigns}


def expected_value(tx: Any, campaign: Campaign) -> float:
    """What the campaign is expected to gain per customer assigned, in money, messages paid for.

    The incremental margin (else revenue) of its last measurement that has one, over the arms by their present weights;
    before that `expected_lift`, where it is an amount of money; 0 where nothing is known.
    """
    for row in reversed(experiments(tx, campaign.name)):
        for measured in reversed(measurements(tx, row.experiment_id)):
            value = _measured_value(measured.measurement, campaign)
            if value is not None:
                return value
    lift = campaign.experiment.expected_lift
    return lift.value if lift is not None and lift.kind == "absolute" and lift.unit not in ("pp", "") else 0.0


def _measured_value(measurement: Mapping[str, Any], campaign: Campaign) -> float | None:
    of_revenue = [row for row in measurement.get("results", ()) if row["metric"] == "revenue"]
    weights = {name: arm.weight for name, arm in campaign.arms.items()}
    for rows in (measurement.get("margin") or (), of_revenue):
        found = {row["arm"]: row["difference"] for row in rows if row["difference"] is not None}
        known = {arm: weights[arm] for arm in found if weights.get(arm)}
        if known:
            return float(sum(found[arm] * weight for arm, weight in known.items()) / sum(known.values()))
    return None
