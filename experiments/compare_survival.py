"""Comparing arms on the time until something happens: restricted mean times with a common horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from experiments.aggregates import SurvivalCounts
from experiments.compare import normal_bounds
from experiments.families import Adjust, adjust_family
from experiments.metrics import Metric
from experiments.results import Result
from experiments.survival import common_horizon, restricted_mean, rmst_difference


def compare_survival(
    metric: Metric,
    arms: Mapping[str, SurvivalCounts],
    *,
    control: str,
    alpha: float = 0.05,
    horizon: float | None = None,
    adjust: Adjust = "holm",
) -> list[Result]:
    """Every arm but control against control: mean time without the event, up to `horizon`.

    Values are in the unit of the times; the horizon is the longest time that every arm was observed for unless given.
    Immature customers count as censored. p adjusted over the arms. Method: difference of restricted means,
    Greenwood errors, normal (docs/maths.md, "Survival").
    """
    until = common_horizon(arms) if horizon is None else horizon
    base = arms.get(control)
    results = [_result(metric, (name, arms[name]), (control, base), alpha, until) for name in arms if name != control]
    return adjust_family(results, adjust=adjust)


def _result(
    metric: Metric,
    arm: tuple[str, SurvivalCounts],
    control: tuple[str, SurvivalCounts | None],
    alpha: float,
    horizon: float | None,
) -> Result:
    base = control[1]
    blank = Result(
        metric=metric.name,
        kind=metric.kind,
        arm=arm[0],
        control=control[0],
        n_arm=arm[1].n,
        n_control=0 if base is None else base.n,
    )
    if base is None:
        return replace(blank, status="no_control")
    if min(arm[1].n, base.n) < 2 or horizon is None:
        return replace(blank, status="insufficient_data")
    values = [restricted_mean(side, horizon=horizon).value for side in (arm[1], base)]
    gap = rmst_difference(arm[1], base, horizon=horizon, confidence=1.0 - alpha)
    shown = replace(
        blank,
        arm_value=values[0],
        control_value=values[1],
        difference=gap.difference,
        method=f"restricted mean to {horizon:g}, Greenwood",
    )
    if gap.p_value is None:
        return replace(shown, status="zero_variance")
    return replace(
        shown,
        low=gap.low,
        high=gap.high,
        p_value=gap.p_value,
        se=gap.se,
        status="relative_undefined",
        **normal_bounds(gap.difference, gap.se),
    )
