"""Tells before a campaign runs what it can show: sizes, detectable effects, and how many runs it takes."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from experiments.aggregates import Moments
from experiments.errors import ExperimentError
from experiments.metrics import METRICS
from flows.steps.expected_power import ExpectedPower, expect_power, past_behaviour, unit_size
from flows.steps.ledger_standing import find_epoch
from flows.steps.plan_campaign import plan_campaign
from flows.steps.planning_rules import freeze_design

if TYPE_CHECKING:
    from experiments.design import Design
    from flows.wiring import Workspace

MULTIPLES: Final = (0.5, 1, 2, 4, 8, 16)
"""How much of the audience the curve looks at."""
_ASSUMED: Final = 1_000_000
"""Size of the made-up past from which an assumed baseline is read; only its share counts."""


def show_power(
    ws: Workspace, name: str, *, as_of: datetime, customers: int | None = None, baseline: float | None = None
) -> dict[str, Any]:
    """What the campaign's experiment can show with `customers` (default: those who may take part as of the instant).

    The baseline is what the segment did one horizon earlier without treatment, unless one is given (a share 0..1, for
    a primary metric that is a proportion). Planned looks cost little power and are left out of the reckoning. Without
    `customers` also what every guardrail needs, and the days until a decision by the segment's inflow.

    Raises ExperimentError for a baseline that does not fit the metric, and what `plan_campaign` raises.
    """
    file = ws.campaign(name)
    design = freeze_design(file, ws.settings, epoch=find_epoch(ws, file).number)
    past = past_behaviour(ws, file, design, as_of=as_of) if baseline is None else _assume(design, baseline)
    outlook: dict[str, Any] = {"guardrails": [], "inflow_per_day": None, "days_to_decision": None}
    if customers is None:
        planned = plan_campaign(ws, name, as_of=as_of, may_refuse=False).summary
        customers = int(planned["eligible"])
        outlook = {key: planned["power"][key] for key in outlook}
    power = _with(past, design, customers)
    smallest = _smallest_share(design)
    needed = None if power.needed_per_arm is None else math.ceil(power.needed_per_arm * unit_size(past) / smallest)
    return outlook | {
        "campaign": name,
        "as_of": as_of.isoformat(),
        "metric": design.primary,
        "baseline": power.baseline,
        "sd": power.sd,
        "history": 0 if baseline is not None else power.history,
        "minimum_effect": None if power.baseline is None else design.minimum_effect.absolute(power.baseline),
        "alpha": design.alpha,
        "wanted_power": design.power,
        "customers": customers,
        "needed_per_arm": power.needed_per_arm,
        "unit": power.unit,
        "design_effect": power.design_effect,
        "needed_customers": needed,
        "runs_needed": math.ceil(needed / customers) if needed and customers else None,
        "detectable": power.detectable,
        "power": power.power,
        "promoted_from": power.promoted_from,
        "curve": [_point(past, design, round(customers * multiple)) for multiple in MULTIPLES] if customers else [],
    }


def _assume(design: Design, baseline: float) -> Moments:
    metric = METRICS[design.primary]
    if metric.kind != "proportion" or metric.source != "facts":
        raise ExperimentError(
            f"a baseline can be given for a proportion of the facts only; {design.primary} is a {metric.kind} of the "
            f"{metric.source}; leave it out to have it measured"
        )
    if not 0.0 < baseline < 1.0:
        raise ExperimentError(f"baseline {baseline:g}: expected a share between 0 and 1, such as 0.08")
    return Moments.from_counts(metric.column, _ASSUMED, round(baseline * _ASSUMED))


def _with(past: Moments | None, design: Design, customers: int) -> ExpectedPower:
    shares = dict(design.weights)
    units = customers / unit_size(past)
    n_arm, n_control = round(units * _smallest_share(design)), round(units * shares[design.control])
    if not n_arm or not n_control:
        known = expect_power(past, design, n_arm=1, n_control=1)
        return ExpectedPower(design.primary, known.baseline, known.sd, known.history, known.needed_per_arm)
    return expect_power(past, design, n_arm=n_arm, n_control=n_control)


def _smallest_share(design: Design) -> float:
    return min((share for arm, share in design.weights if arm != design.control and share > 0), default=1.0)


def _point(past: Moments | None, design: Design, customers: int) -> dict[str, Any]:
    power = _with(past, design, customers)
    return {"customers": customers, "detectable": power.detectable, "power": power.power}
