"""What an experiment can show: sizes and detectable effects, from what the same segment did in the past."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from experiments.metrics import METRICS
from experiments.power import (
    power_mean,
    power_proportion,
    sample_size_mean,
    sample_size_proportion,
    smallest_detectable_effect_mean,
    smallest_detectable_effect_proportion,
)
from warehouse.facts.outcomes import wave_moments
from warehouse.facts.segment_sql import select_segment

if TYPE_CHECKING:
    import pandas as pd

    from campaigns.segment import Expression
    from experiments.aggregates import Moments
    from experiments.design import Design
    from flows.wiring import Workspace

LEAST_HISTORY = 200
"""Below so many customers in the past segment no baseline is claimed."""


@dataclass(frozen=True, slots=True)
class ExpectedPower:
    """What the planned sizes can show; None where the past gives no baseline.

    `needed_per_arm`: size of the smallest arm that the minimum effect needs. `detectable`: the smallest effect that the
    planned sizes show with the design's power. `power`: the chance to show the minimum effect.
    """

    metric: str
    baseline: float | None = None
    sd: float | None = None
    history: int = 0
    needed_per_arm: int | None = None
    detectable: float | None = None
    power: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Past:
    """What the segment of one horizon earlier did since (None where it was too small), and how fast it fills."""

    moments: Moments | None
    inflow_per_day: float | None


def past_behaviour(ws: Workspace, segment: Expression, design: Design, *, as_of: datetime) -> Moments | None:
    """What the customers of the segment as of one horizon earlier did in the horizon that followed, without treatment.

    None where the segment was too small then, or where an earlier horizon would reach before the data.
    """
    return find_past(ws, segment, design, as_of=as_of, members=None).moments


def find_past(
    ws: Workspace, segment: Expression, design: Design, *, as_of: datetime, members: pd.Series[str] | None
) -> Past:
    """`past_behaviour`, and how many of the segment's `members` of today came into it a day since."""
    horizon = timedelta(days=design.horizon_days)
    past = as_of - horizon
    cohort = select_segment(ws.facts, segment, as_of=past, options=ws.feature_options)[["customer_id"]]
    inflow = None
    if members is not None and len(cohort):
        inflow = float((~members.isin(cohort["customer_id"])).sum()) / design.horizon_days
    if len(cohort) < LEAST_HISTORY:
        return Past(None, inflow)
    return Past(wave_moments(ws.facts, cohort.assign(arm="past"), start=past, horizon=horizon)["past"], inflow)


def expect_power(past: Moments | None, design: Design, *, n_arm: int, n_control: int) -> ExpectedPower:
    """What sizes `n_arm` (the smallest treated arm) and `n_control` can show about the primary metric."""
    metric = METRICS[design.primary]
    if past is None or metric.source != "facts" or metric.kind not in ("proportion", "mean"):
        return ExpectedPower(design.primary)
    baseline = past.mean(metric.column)
    effect = design.minimum_effect.absolute(baseline)
    if not metric.higher_is_better:
        effect = -effect
    shares = dict(design.weights)
    treated = [share for arm, share in shares.items() if arm != design.control and share > 0]
    if not treated or not shares[design.control] or not effect:
        return ExpectedPower(design.primary, baseline=baseline, history=past.n)
    ratio, comparisons = min(treated) / shares[design.control], len(treated)
    if metric.kind == "proportion":
        return _proportion(baseline, effect, design, past, ratio, comparisons, (n_arm, n_control))
    sd = math.sqrt(past.var(metric.column))
    return _mean(sd, effect, design, past, ratio, comparisons, (n_arm, n_control))


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
    known = ExpectedPower(design.primary, baseline=past.mean(METRICS[design.primary].column), sd=sd, history=past.n)
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
