"""What an experiment can show: sizes and detectable effects, from what the same segment did in the past."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from campaigns.draw import units_of
from experiments.clusters import MEMBERS, design_effect
from experiments.compare import ratio_sample
from experiments.distributions import normal_ppf
from experiments.means import Sample
from experiments.metrics import METRICS, Metric
from experiments.power import (
    power_mean,
    power_proportion,
    sample_size_mean,
    sample_size_proportion,
    smallest_detectable_effect_mean,
    smallest_detectable_effect_proportion,
)
from flows.steps.household_outcomes import outcome_totals
from flows.steps.select_audience import audience_between
from warehouse.facts.outcomes import wave_moments

if TYPE_CHECKING:
    import pandas as pd

    from campaigns.book import CampaignFile
    from experiments.aggregates import Moments
    from experiments.design import Design
    from flows.wiring import Workspace

LEAST_HISTORY = 200
"""Below so many customers in the past segment no baseline is claimed."""


@dataclass(frozen=True, slots=True)
class ExpectedPower:
    """What the planned sizes can show; None where the past gives no baseline.

    `needed_per_arm`: size of the smallest arm that the minimum effect needs. `detectable`: the smallest effect that the
    planned sizes show with the design's power. `power`: the chance to show the minimum effect. `promoted_from`: the
    true effect that is promoted with the design's power: the estimate must reach the minimum effect too, and at a true
    effect of just that half of all estimates do not (docs/decisions/0004-a-lift-that-is-worth-it.md).
    """

    metric: str
    baseline: float | None = None
    sd: float | None = None
    history: int = 0
    needed_per_arm: int | None = None
    detectable: float | None = None
    power: float | None = None
    promoted_from: float | None = None
    unit: str = "customer"
    """What the sizes count: customers, or households."""
    design_effect: float | None = None
    """How many times as many customers households need, compared with customers who are strangers to each other."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Past:
    """What the segment of one horizon earlier did since (None where it was too small), and how fast it fills."""

    moments: Moments | None
    inflow_per_day: float | None

    @property
    def unit_size(self) -> float:
        """Customers in a unit: 1, or the mean size of a household."""
        return unit_size(self.moments)


def past_behaviour(ws: Workspace, file: CampaignFile, design: Design, *, as_of: datetime) -> Moments | None:
    """What the audience as of one horizon earlier did in the horizon that followed, without treatment.

    The audience of a trigger is everybody whose moment had come in the horizon before.

    None where the segment was too small then, or where an earlier horizon would reach before the data.
    """
    return find_past(ws, file, design, as_of=as_of, members=None).moments


def find_past(
    ws: Workspace, file: CampaignFile, design: Design, *, as_of: datetime, members: pd.Series[str] | None
) -> Past:
    """`past_behaviour`, and how many of the `members` of today (or of those with a moment) have come a day since."""
    horizon = timedelta(days=design.horizon_days)
    past = as_of - horizon
    cohort = audience_between(ws, file, start=past - horizon, end=past)[["customer_id", "household_id"]]
    inflow = None
    if members is not None and file.campaign.audience.trigger is not None:
        inflow = len(audience_between(ws, file, start=past, end=as_of)) / design.horizon_days
    elif members is not None and len(cohort):
        # as sets of objects: `isin` of a column of texts is many times as slow
        inflow = len(set(members.tolist()).difference(cohort["customer_id"].tolist())) / design.horizon_days
    if len(cohort) < LEAST_HISTORY:
        return Past(None, inflow)
    people = cohort.assign(arm="past", unit=units_of(cohort, design.unit))
    if design.unit == "household":
        return Past(outcome_totals(ws.facts, people, {}, start=past, horizon=horizon)["past"], inflow)
    return Past(wave_moments(ws.facts, people, start=past, horizon=horizon)["past"], inflow)


def expect_power(past: Moments | None, design: Design, *, n_arm: int, n_control: int) -> ExpectedPower:
    """What sizes `n_arm` (the smallest treated arm) and `n_control` can show about the primary metric."""
    metric = METRICS[design.primary]
    if past is None or metric.source != "facts" or metric.kind not in ("proportion", "mean"):
        return ExpectedPower(design.primary)
    sample = sample_of(past, metric)
    baseline = sample.mean
    effect = design.minimum_effect.absolute(baseline)
    if not metric.higher_is_better:
        effect = -effect
    shares = dict(design.weights)
    treated = [share for arm, share in shares.items() if arm != design.control and share > 0]
    if not treated or not shares[design.control] or not effect:
        return ExpectedPower(design.primary, baseline=baseline, history=past.n)
    ratio, comparisons = min(treated) / shares[design.control], len(treated)
    if metric.kind == "proportion" and not past.has(MEMBERS):
        found = _proportion(baseline, effect, design, past, ratio, comparisons, (n_arm, n_control))
        return _with_promotion(found, design, effect, comparisons)
    found = _mean(math.sqrt(sample.variance), effect, design, past, ratio, comparisons, (n_arm, n_control))
    found = _with_promotion(found, design, effect, comparisons)
    if not past.has(MEMBERS):
        return found
    effect_of_design = design_effect(past, metric.column) if metric.kind == "proportion" else None
    return replace(found, unit="household", design_effect=effect_of_design)


def unit_size(past: Moments | None) -> float:
    """Customers in a unit: 1, or the mean size of a household where `past` holds totals of households."""
    return past.mean(MEMBERS) if past is not None and past.has(MEMBERS) else 1.0


def sample_of(past: Moments, metric: Metric) -> Sample:
    """Mean and variance of one unit; of households the mean is per customer, the variance that of a household."""
    if not past.has(MEMBERS):
        return Sample.of(past, metric.column)
    found = ratio_sample(past, metric.column, MEMBERS)
    assert found is not None  # a household has members
    return found


def _with_promotion(power: ExpectedPower, design: Design, effect: float, comparisons: int) -> ExpectedPower:
    """The size with the effect from which promotion is as likely as the design's power.

    Its estimate must exceed the minimum effect and the test's boundary: the larger of both, and z(power) errors more.
    The standard error is that of the smallest detectable effect, which lies z(1 - alpha / 2) + z(power) of them from 0.
    """
    if power.detectable is None:
        return power
    reach = normal_ppf(1.0 - 0.5 * design.alpha / comparisons) + normal_ppf(design.power)
    se = abs(power.detectable) / reach
    least = max(abs(effect), normal_ppf(1.0 - 0.5 * design.alpha / comparisons) * se)
    return replace(power, promoted_from=math.copysign(least + normal_ppf(design.power) * se, effect))


def _proportion(
    baseline: float,
    effect: float,
    design: Design,
    past: Moments,
    ratio: float,
    comparisons: int,
    sizes: tuple[int, int],
) -> ExpectedPower:
    known = ExpectedPower(design.primary, baseline=baseline, history=past.n)
    if not 0.0 < baseline + effect < 1.0:
        return known
    n_arm, n_control = sizes
    control = sample_size_proportion(
        baseline, effect, alpha=design.alpha, power=design.power, ratio=ratio, comparisons=comparisons
    )
    return ExpectedPower(
        design.primary,
        baseline=baseline,
        history=past.n,
        needed_per_arm=math.ceil(min(control, control * ratio)),
        detectable=smallest_detectable_effect_proportion(
            baseline, n_arm, n_control, alpha=design.alpha, power=design.power, comparisons=comparisons
        ),
        power=power_proportion(
            baseline, effect, n_arm=n_arm, n_control=n_control, alpha=design.alpha, comparisons=comparisons
        ),
    )


def _mean(
    sd: float, effect: float, design: Design, past: Moments, ratio: float, comparisons: int, sizes: tuple[int, int]
) -> ExpectedPower:
    baseline = sample_of(past, METRICS[design.primary]).mean
    known = ExpectedPower(design.primary, baseline=baseline, sd=sd, history=past.n)
    if sd == 0.0:
        return known
    n_arm, n_control = sizes
    control = sample_size_mean(sd, effect, alpha=design.alpha, power=design.power, ratio=ratio, comparisons=comparisons)
    return ExpectedPower(
        design.primary,
        baseline=known.baseline,
        sd=sd,
        history=past.n,
        needed_per_arm=math.ceil(min(control, control * ratio)),
        detectable=smallest_detectable_effect_mean(
            sd, n_arm, n_control, alpha=design.alpha, power=design.power, comparisons=comparisons
        ),
        power=power_mean(sd, effect, n_arm=n_arm, n_control=n_control, alpha=design.alpha, comparisons=comparisons),
    )
