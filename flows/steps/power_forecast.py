"""When an experiment can be decided: the sizes its guardrails need, and the days until enough customers have come."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from campaigns.schedule import runs_between
from experiments.metrics import METRICS
from experiments.power import days_to_decision, sample_size_guardrail, sample_size_guardrail_mean
from flows.steps.expected_power import sample_of
from warehouse.ledger.experiments import experiments
from warehouse.ledger.tallies import tally
from warehouse.ledger.waves import waves

if TYPE_CHECKING:
    from campaigns.model import Campaign
    from campaigns.plan import Plan
    from experiments.aggregates import Moments
    from experiments.design import Design, Guardrail
    from flows.steps.expected_power import ExpectedPower, Past
    from flows.wiring import Workspace

LONGEST_DAYS: Final = 365.0
"""A decision farther away than this counts as out of reach: shops, prices and customers are others by then."""
USUAL_RATES: Final = {"unsubscribed": 0.003, "complained": 0.0005}
"""What shares of written-to customers unsubscribe or complain, before the ledger knows better."""
_LEAST_TOLD: Final = 1000
"""Customers written to, from which on the ledger's own rates are used."""


@dataclass(frozen=True, slots=True)
class GuardrailSize:
    """What one guardrail needs to be shown harmless; sizes are of the smallest arm, None where it cannot be told."""

    metric: str
    baseline: float | None
    margin: float | None
    needed_per_arm: int | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """`needed_customers`: all arms together, for the primary and every guardrail. `days`: until they are mature.

    `inflow_per_day`: customers who came into the segment lately and may take part. `problem`: why the experiment cannot
    be decided within a year, or on this one run where no schedule repeats it; None where it can, or where the past
    gives no baseline.
    """

    guardrails: tuple[GuardrailSize, ...]
    needed_customers: int | None
    inflow_per_day: float | None
    days: float | None
    problem: str | None

    def planned_sizes(self, power: ExpectedPower) -> tuple[int | None, dict[str, int]]:
        """The smallest arm's size that the primary and every guardrail need together, and each guardrail's own.

        None where the primary's is not known: a size that leaves it out would promise power that nobody planned.
        """
        own = {size.metric: size.needed_per_arm for size in self.guardrails if size.needed_per_arm is not None}
        return (None if power.needed_per_arm is None else max(power.needed_per_arm, *own.values(), 0)), own

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "guardrails": [asdict(size) for size in self.guardrails],
            "needed_customers": self.needed_customers,
            "inflow_per_day": self.inflow_per_day,
            "days_to_decision": self.days,
        }


@dataclass(frozen=True, slots=True)
class Supply:
    """Customers for the experiment: `now` take part in this run or did before; `waiting` were left out by its limit."""

    now: int
    waiting: int
    inflow_per_day: float | None
    per_day: float | None
    """What the limit lets through a day (None: everybody)."""


def forecast(
    ws: Workspace, campaign: Campaign, design: Design, power: ExpectedPower, past: Past, supply: Supply
) -> Forecast:
    """The customers that the primary and every guardrail need, and the days until they have been followed."""
    smallest, ratio = _shares(design)
    sizes = tuple(
        _guardrail(guard, design, past.moments, ledger_rates(ws, design), ratio) for guard in design.guardrails
    )
    needed_arms = [power.needed_per_arm, *(size.needed_per_arm for size in sizes)]
    known = [needed for needed in needed_arms if needed is not None]
    if not known or smallest <= 0.0:
        return Forecast(sizes, None, supply.inflow_per_day, None, None)
    needed = math.ceil(max(known) * past.unit_size / smallest)  # a household comes with all its customers
    days = _days(design, supply, needed)
    return Forecast(
        sizes, needed, supply.inflow_per_day, days, _problem(campaign, sizes, power, supply, (needed, days))
    )


def supply_of(campaign: Campaign, plan: Plan, past: Past, *, assigned: int, as_of: datetime) -> Supply:
    """What a plan takes, what its limit leaves for later runs, and what comes in; `assigned`: by earlier runs."""
    limit, schedule = campaign.audience.limit, campaign.schedule
    waiting = plan.skipped.get("over_limit", 0)
    fit = (plan.eligible + waiting + plan.skipped.get("already_assigned", 0)) / plan.audience if plan.audience else 0.0
    per_day = None
    if limit is not None and schedule is not None:
        runs = runs_between(schedule.cron, schedule.timezone, start=as_of, end=as_of + timedelta(days=364))
        per_day = limit * len(runs) / 364
    inflow = None if past.inflow_per_day is None else past.inflow_per_day * fit
    return Supply(plan.eligible + assigned, waiting, inflow, per_day)


def _shares(design: Design) -> tuple[float, float]:
    """The smallest share of all arms, and the smallest treated arm's size for one customer of control."""
    shares = dict(design.weights)
    treated = [share for arm, share in shares.items() if arm != design.control and share > 0.0]
    control = shares[design.control]
    if not treated or control <= 0.0:
        return 0.0, 1.0
    return min(*treated, control), min(treated) / control


def _guardrail(
    guard: Guardrail, design: Design, past: Moments | None, rates: dict[str, float], ratio: float
) -> GuardrailSize:
    metric = METRICS[guard.metric]
    measured = metric.source == "facts" and metric.kind in ("proportion", "mean") and past is not None
    sample = sample_of(past, metric) if measured and past is not None else None
    baseline = rates.get(guard.metric) if sample is None else sample.mean
    margin = None if baseline is None else guard.margin_at(baseline)
    control = None
    if baseline is not None and margin:
        if metric.kind == "proportion" and 0.0 < baseline < 1.0 and (sample is None or design.unit == "customer"):
            control = sample_size_guardrail(baseline, margin, power=design.power, ratio=ratio)
        elif sample is not None and sample.variance > 0.0:
            sd = math.sqrt(sample.variance)
            control = sample_size_guardrail_mean(sd, margin, power=design.power, ratio=ratio)
    needed = None if control is None else math.ceil(min(control, control * ratio))
    return GuardrailSize(guard.metric, baseline, margin, needed)


def ledger_rates(ws: Workspace, design: Design) -> dict[str, float]:
    """Shares of the customers whom messages reached who unsubscribed or complained so far, in all campaigns.

    The usual rates until enough were reached; empty where no guardrail of the design needs them.
    """
    if not any(METRICS[guard.metric].source == "ledger" for guard in design.guardrails):
        return {}
    told = {"unsubscribed": 0, "complained": 0}
    reached = 0
    with ws.ledger.read() as tx:
        for row in experiments(tx):
            horizon = timedelta(days=float(row.design["horizon_days"]))
            for wave in waves(tx, row.experiment_id):
                for counted in tally(tx, wave.wave_id, horizon=horizon).values():
                    if counted.reached:
                        reached += counted.reached
                        told["unsubscribed"] += counted.unsubscribed
                        told["complained"] += counted.complained
    if reached < _LEAST_TOLD:
        return dict(USUAL_RATES)
    return {metric: count / reached if count else USUAL_RATES[metric] for metric, count in told.items()}


def _days(design: Design, supply: Supply, needed: int) -> float | None:
    """The later of: customers have come, and the limit has let them through."""

    def until(waiting: int, per_day: float) -> float | None:
        return days_to_decision(
            needed,
            waiting=waiting,
            inflow_per_day=per_day,
            horizon_days=design.horizon_days,
            lateness_days=design.lateness_days,
        )

    come = until(supply.now + supply.waiting, supply.inflow_per_day or 0.0)
    if supply.per_day is None:
        return come
    through = until(supply.now, supply.per_day)
    return None if come is None or through is None else max(come, through)


def _problem(
    campaign: Campaign,
    sizes: tuple[GuardrailSize, ...],
    power: ExpectedPower,
    supply: Supply,
    known: tuple[int, float | None],
) -> str | None:
    needed, days = known
    hardest = max(
        [(power.needed_per_arm or 0, power.metric), *((size.needed_per_arm or 0, size.metric) for size in sizes)]
    )[1]
    if campaign.schedule is None:
        if supply.now >= needed:
            return None
        return (
            f"{hardest} needs {needed:,} customers, this run makes it {supply.now:,}, and no schedule repeats it; "
            "give the campaign a schedule, a larger minimum effect or margin, or fewer arms"
        )
    if days is not None and days <= LONGEST_DAYS:
        return None
    reached = "never" if days is None else f"in {days:,.0f} days"
    return (
        f"{hardest} needs {needed:,} customers, which the segment's inflow reaches {reached}; widen the segment, raise "
        "the minimum effect or margin, or test fewer arms"
    )
