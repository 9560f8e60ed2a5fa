"""Comparing arms with control on one metric: which method is used, and the result that says so.

The rule (docs/maths.md says why):
- proportion: Miettinen-Nurminen score test and interval. Where a cell of the two-by-two table is expected to hold fewer
  than 5, the p-value is Boschloo's (up to 100 units) or Fisher's; the interval stays the score interval.
  Relative lift: log scale.
- mean: Welch. Where one arm is more than 1.5 times the other: the permutation test's moments if the smaller arm has
  fewer than 355 * skewness**2 units, the pooled variance if the skewness was not collected. Relative lift: Fieller.
- ratio: the same on the linearised units (delta method). Relative lift: Fieller.
- with a pre-period covariate: the same on CUPED-adjusted means or ratios.
Every p-value over several arms is Holm-adjusted within its metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from experiments import proportions
from experiments.aggregates import Moments
from experiments.clusters import as_asked, clustered
from experiments.cuped import Adjustment, adjustment
from experiments.design import Design
from experiments.distributions import normal_ppf
from experiments.errors import ExperimentError
from experiments.families import Adjust, adjust_family
from experiments.means import TINY, MeanTest, Sample, permutation, pooled, pooled_skewness, welch
from experiments.metrics import METRICS, Metric, find_metric
from experiments.proportions import Counts
from experiments.relative import Lift, Mean, fieller_lift, log_lift
from experiments.results import Result, Status

LOPSIDED = 1.5  # docs/decisions/0005: beyond, Welch finds too many winners in skewed money
SKEWED = 355.0  # Kohavi, Deng and Vermeer 2022: units needed per arm for a t test = 355 * skewness**2
SMALL_EXPECTED = 5.0
EXACT_UNCONDITIONAL_UNTIL = 100
_BOUNDS = {"lower_80": 0.8, "lower_95": 0.95, "upper_95": 0.95}  # one-sided confidence


def compare(
    metric: Metric,
    arms: Mapping[str, Moments],
    *,
    control: str,
    alpha: float = 0.05,
    adjust: Adjust = "holm",
) -> list[Result]:
    """Every arm but control against control on one metric, in mapping order; p adjusted over the arms (`adjust`).

    Raises: ExperimentError where a proportion's column is not 0/1.
    """
    others = [name for name in arms if name != control]
    base = arms.get(control)
    adjusting = cuped_adjustment(metric, arms)
    results = [_result(metric, name, arms[name], control, base, _Options(alpha, adjusting)) for name in others]
    return adjust_family(results, adjust=adjust)


def compare_all(
    design: Design,
    moments: Mapping[str, Moments],
    *,
    more: Sequence[Mapping[str, Moments]] = (),
    metrics: Mapping[str, Metric] = METRICS,
) -> list[Result]:
    """All metrics of a design (primary, secondary, guardrails), arms in the design's order.

    `moments`: per arm; `more`: further aggregates per arm from other sources (the ledger's counts). A metric whose
    columns nobody collected comes back as `not_measured`. Raises: ExperimentError for a metric that `metrics` lacks.
    """
    results: list[Result] = []
    for metric in metrics_of(design, metrics):
        found = next((source for source in (moments, *more) if _collected(metric, source)), {})
        arms = {arm: found.get(arm, Moments.empty(metric.columns)) for arm in (*design.arms, design.control)}
        outcome = _compare_units(design, metric, arms)
        results += outcome if found else [_without_numbers(result, "not_measured") for result in outcome]
    return results


def metrics_of(design: Design, known: Mapping[str, Metric] = METRICS) -> list[Metric]:
    """The metrics that a design compares, each with the covariate the design gives it.

    Raises: ExperimentError for a metric that is not known.
    """
    covariates = dict(design.covariates)
    asked = [find_metric(name, known) for name in design.all_metrics()]
    return [replace(metric, covariate=covariates.get(metric.name, metric.covariate)) for metric in asked]


def _compare_units(design: Design, metric: Metric, arms: Mapping[str, Moments]) -> list[Result]:
    """Customers one by one, or households by their totals."""
    if design.unit == "customer" or metric.kind == "survival":
        return compare(metric, arms, control=design.control, alpha=design.alpha)
    of_clusters = clustered(metric)
    known = {arm: moments if moments.n else Moments.empty(of_clusters.columns) for arm, moments in arms.items()}
    found = compare(of_clusters, known, control=design.control, alpha=design.alpha)
    return [as_asked(result, metric) for result in found]


def proportion_result(arm: Counts, control: Counts, *, alpha: float) -> dict[str, Any]:
    """The fields of a Result for two shares, by the rule above. Both arms need at least two units."""
    values: dict[str, Any] = {
        "arm_value": arm.share,
        "control_value": control.share,
        "difference": arm.share - control.share,
    }
    values |= {
        name: proportions.score_bound(arm, control, confidence=share, upper=name.startswith("upper"))
        for name, share in _BOUNDS.items()
    }
    if arm.successes + control.successes in (0, arm.n + control.n):
        return values | {"status": "zero_variance", "method": "score (Miettinen-Nurminen)"}
    low, high = proportions.score_interval(arm, control, confidence=1.0 - alpha)
    p_value, method = _proportion_p(arm, control)
    values |= {"low": low, "high": high, "p_value": p_value, "method": method}
    values |= {"se": proportions.unpooled_se(arm, control)}
    lift = log_lift(_share(arm), _share(control), critical=_critical(alpha))
    return values | lift_fields(lift)


def mean_test(arm: Sample, control: Sample) -> tuple[MeanTest, str]:
    """The test of two means that the rule chooses, and its name. The samples must vary."""
    small, large = sorted((arm.n, control.n))
    if large <= LOPSIDED * small:
        return welch(arm, control), "Welch t"
    skew = pooled_skewness(arm, control)
    if skew is None:
        return pooled(arm, control), "pooled t (lopsided arms)"
    if small < SKEWED * skew**2:
        return permutation(arm, control), "permutation moments (lopsided arms, skewed)"
    return welch(arm, control), "Welch t"


class _Options(NamedTuple):
    alpha: float
    adjusting: Adjustment | None


def _result(
    metric: Metric, name: str, arm: Moments, control_name: str, control: Moments | None, options: _Options
) -> Result:
    columns = metric.columns
    blank = Result(
        metric=metric.name,
        kind=metric.kind,
        arm=name,
        control=control_name,
        n_arm=arm.n,
        n_control=0 if control is None else control.n,
    )
    if control is None:
        return replace(blank, status="no_control")
    if not arm.has(*columns) or not control.has(*columns) or metric.kind == "survival":
        return replace(blank, status="not_measured")
    if arm.n < 2 or control.n < 2:
        return replace(
            blank, status="insufficient_data", arm_value=_plain(arm, metric), control_value=_plain(control, metric)
        )
    if metric.kind == "proportion" and options.adjusting is None:
        fields = proportion_result(counts_of(arm, metric), counts_of(control, metric), alpha=options.alpha)
        return replace(blank, **fields)
    return _compare_means(blank, metric, (arm, control), options)


def _compare_means(blank: Result, metric: Metric, sides: tuple[Moments, Moments], options: _Options) -> Result:
    """Means, ratios and everything CUPED-adjusted: one number per unit with a mean and a variance."""
    samples = [_sample(metric, side, options.adjusting) for side in sides]
    arm, control = samples[0], samples[1]
    if arm is None or control is None:
        return replace(blank, status="insufficient_data")
    if not arm.in_range or not control.in_range:
        return replace(blank, status="not_comparable")
    values: dict[str, Any] = {
        "arm_value": arm.mean,
        "control_value": control.mean,
        "difference": arm.mean - control.mean,
    }
    if arm.variance + control.variance <= _noise(arm, control):
        return replace(blank, **values, status="zero_variance")
    test, method = mean_test(arm, control)
    low, high = test.interval(1.0 - options.alpha)
    prefix = "CUPED, " if options.adjusting else ""
    values |= {"low": low, "high": high, "p_value": test.p_value, "se": test.se, "df": test.df}
    values |= {"lower_80": test.lower(0.8), "lower_95": test.lower(0.95), "upper_95": test.upper(0.95)}
    values["method"] = prefix + ("delta method, " if metric.kind == "ratio" else "") + method
    return replace(blank, **values, **lift_fields(_fieller(arm, control, test, options.alpha)))


def _sample(metric: Metric, moments: Moments, adjusting: Adjustment | None) -> Sample | None:
    if adjusting is not None:
        return adjusting.sample(moments)
    if metric.kind == "ratio":
        return ratio_sample(moments, *metric.columns)
    return Sample.of(moments, metric.column)


def ratio_sample(moments: Moments, numerator: str, denominator: str) -> Sample | None:
    """The ratio of sums, with the variance of its linearised units (y - R x) / mean(x); None where mean(x) is 0.

    Source: Deng, Knoblich and Lu 2018, section 3.1 (vector ratio_delta).
    """
    below = moments.mean(denominator)
    if abs(below) < TINY:
        return None
    ratio = moments.mean(numerator) / below
    variance = (
        moments.var(numerator)
        - 2.0 * ratio * moments.cov(numerator, denominator)
        + ratio * ratio * moments.var(denominator)
    )
    return Sample(ratio, max(0.0, variance) / below**2, moments.n)


def _fieller(arm: Sample, control: Sample, test: MeanTest, alpha: float) -> Lift | None:
    """Fieller with the variances and the critical value the difference was tested with."""
    low, high = test.interval(1.0 - alpha)
    variances = (arm.mean_variance, control.mean_variance)
    if not math.isclose(sum(variances), test.se**2, rel_tol=1e-9):  # one pooled variance, shared out by size
        whole = arm.n + control.n
        variances = (test.se**2 * control.n / whole, test.se**2 * arm.n / whole)
    critical = 0.5 * (high - low) / test.se
    return fieller_lift(Mean(arm.mean, variances[0]), Mean(control.mean, variances[1]), critical=critical)


def _proportion_p(arm: Counts, control: Counts) -> tuple[float, str]:
    if proportions.smallest_expected(arm, control) >= SMALL_EXPECTED:
        return proportions.score_test(arm, control).p_value, "score (Miettinen-Nurminen)"
    if arm.n + control.n <= EXACT_UNCONDITIONAL_UNTIL:
        return min(1.0, proportions.boschloo(arm, control)), "Boschloo exact; score interval"
    return min(1.0, proportions.fisher(arm, control)), "Fisher exact; score interval"


def normal_bounds(difference: float, se: float) -> dict[str, Any]:
    """The one-sided bounds of a Result, by the normal distribution."""
    reach = {name: normal_ppf(share) * se for name, share in _BOUNDS.items()}
    return {name: difference + (far if name.startswith("upper") else -far) for name, far in reach.items()}


def lift_fields(lift: Lift | None) -> dict[str, Any]:
    """The fields of a Result that a relative lift gives, and its status: without one `relative_undefined`."""
    if lift is None:
        return {"status": "relative_undefined"}
    return {"relative_lift": lift.lift, "relative_low": lift.low, "relative_high": lift.high, "status": "ok"}


def cuped_adjustment(metric: Metric, arms: Mapping[str, Moments]) -> Adjustment | None:
    """The metric's CUPED adjustment, where the covariate was collected for every arm that has units, and varies."""
    filled = {name: moments for name, moments in arms.items() if moments.n > 0}
    before = metric.covariate_columns
    if not before or metric.kind == "survival" or not all(moments.has(*metric.needs) for moments in filled.values()):
        return None
    below = metric.columns[1] if metric.kind == "ratio" else None
    return adjustment(
        filled,
        column=metric.column,
        covariate=before[0],
        below=below,
        covariate_below=before[1] if len(before) > 1 else None,
    )


def counts_of(moments: Moments, metric: Metric) -> Counts:
    """Successes among the units of a proportion. Raises: ExperimentError where the column is not 0/1."""
    total = moments.sum(metric.column)
    share = total / moments.n
    spread = moments.var(metric.column) * (moments.n - 1) if moments.n > 1 else 0.0
    if abs(total - round(total)) > 1e-6 or abs(spread - total * (1.0 - share)) > 1e-6 * max(1.0, total):
        raise ExperimentError(
            f"metric {metric.name}: a proportion needs a column of 0 and 1, but {metric.column!r} holds other values; "
            "use :mean instead"
        )
    return Counts(round(total), moments.n)


def _noise(arm: Sample, control: Sample) -> float:
    """Variance that rounding alone can make out of equal values."""
    return max(TINY, 1e-24 * max(arm.mean**2, control.mean**2))


def _plain(moments: Moments, metric: Metric) -> float | None:
    if moments.n == 0:
        return None
    if metric.kind != "ratio":
        return moments.mean(metric.column)
    below = moments.mean(metric.columns[1])
    return None if abs(below) < TINY else moments.mean(metric.columns[0]) / below


def _share(counts: Counts) -> Mean:
    return Mean(counts.share, counts.share * (1.0 - counts.share) / counts.n)


def _critical(alpha: float) -> float:
    return normal_ppf(1.0 - 0.5 * alpha)


def _collected(metric: Metric, source: Mapping[str, Moments]) -> bool:
    return any(moments.has(*metric.columns) for moments in source.values())


def _without_numbers(result: Result, status: Status) -> Result:
    return replace(result, status=status, p_adjusted=None)
