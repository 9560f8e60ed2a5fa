"""Power: how many customers an effect needs, and which effect a given number can show."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import special

from experiments.distributions import normal_cdf, normal_ppf, root, t_ppf
from experiments.errors import ExperimentError

_LARGEST = 1e12  # sizes beyond it are not searched for
_NORMAL_FROM = 1e6  # degrees of freedom from which Student's t is taken for the normal
_NO_LOWER_TAIL = 7.0  # below 0 lies Phi(-shift): 1e-12 of it, and less beyond


def fleiss_size(p_control: float, p_arm: float, *, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Control's size (not rounded) for the pooled z test; arm's size is `ratio` times it.

    Pooled variance under equality, unpooled under the alternative. Source: Fleiss, Levin and Paik 2003, eq. 4.14
    without continuity correction (vectors n_prop_pooled_z, n_prop_bonferroni3).
    """
    _check(alpha, power, ratio)
    mean = (p_control + ratio * p_arm) / (1.0 + ratio)
    null = _z_alpha(alpha) * math.sqrt((1.0 + 1.0 / ratio) * mean * (1.0 - mean))
    other = normal_ppf(power) * math.sqrt(p_control * (1 - p_control) + p_arm * (1 - p_arm) / ratio)
    return ((null + other) / (p_arm - p_control)) ** 2


def arcsine_size(p_control: float, p_arm: float, *, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Control's size (not rounded) by Cohen's h. Source: Cohen 1988, section 6.4 (vector n_prop_arcsine)."""
    _check(alpha, power, ratio)
    h = 2.0 * (math.asin(math.sqrt(p_arm)) - math.asin(math.sqrt(p_control)))

    def shortfall(n: float) -> float:
        return _normal_power(abs(h) * math.sqrt(n * ratio / (1.0 + ratio)), alpha) - power

    return _solve(shortfall, (_z_alpha(alpha) + normal_ppf(power)) ** 2 * (1.0 + 1.0 / ratio) / h**2)


def sample_size_proportion(
    baseline: float, effect_abs: float, *, alpha: float, power: float, ratio: float = 1.0, comparisons: int = 1
) -> int:
    """Control's size to show a change of `effect_abs` from `baseline` (both shares), rounded up; arm = ratio times it.

    `comparisons`: arms tested against control (alpha is divided: Bonferroni, which Holm never needs more than).
    Raises: ExperimentError where baseline or baseline + effect leaves 0..1 or the effect is 0.
    """
    _check_share(baseline, effect_abs)
    return math.ceil(
        fleiss_size(baseline, baseline + effect_abs, alpha=alpha / comparisons, power=power, ratio=ratio) - 1e-9
    )


def power_proportion(
    baseline: float, effect_abs: float, *, n_arm: int, n_control: int, alpha: float, comparisons: int = 1
) -> float:
    """Chance that the pooled z test shows a true change of `effect_abs` (two-sided alpha, both tails counted)."""
    _check_share(baseline, effect_abs)
    if n_arm < 1 or n_control < 1:
        return 0.0
    p_arm = baseline + effect_abs
    mean = (n_control * baseline + n_arm * p_arm) / (n_control + n_arm)
    null = _z_alpha(alpha / comparisons) * math.sqrt(mean * (1.0 - mean) * (1.0 / n_arm + 1.0 / n_control))
    spread = math.sqrt(baseline * (1 - baseline) / n_control + p_arm * (1 - p_arm) / n_arm)
    if spread == 0.0:
        return 1.0
    return normal_cdf((abs(effect_abs) - null) / spread) + normal_cdf((-abs(effect_abs) - null) / spread)


def smallest_detectable_effect_proportion(
    baseline: float, n_arm: int, n_control: int, *, alpha: float, power: float, comparisons: int = 1
) -> float | None:
    """Smallest increase of a share that these sizes show with this power; None where even 100 % would not do."""
    _check(alpha, power, 1.0)
    room = 1.0 - baseline
    if room <= 0.0 or n_arm < 1 or n_control < 1:
        return None

    def shortfall(effect: float) -> float:
        shown = power_proportion(
            baseline, effect, n_arm=n_arm, n_control=n_control, alpha=alpha, comparisons=comparisons
        )
        return shown - power

    return None if shortfall(room) < 0.0 else root(shortfall, min(1e-9, 0.5 * room), room)


def power_mean(
    sd: float, effect_abs: float, *, n_arm: float, n_control: float, alpha: float, comparisons: int = 1
) -> float:
    """Chance that the two-sample t test shows a true difference of means (noncentral t, both tails)."""
    df = n_arm + n_control - 2.0
    if df <= 0.0:
        return 0.0
    shift = abs(effect_abs) / sd * math.sqrt(n_arm * n_control / (n_arm + n_control))
    critical = t_ppf(1.0 - 0.5 * alpha / comparisons, df)
    if df > _NORMAL_FROM:
        return normal_cdf(shift - critical) + normal_cdf(-shift - critical)
    # beyond _NO_LOWER_TAIL the lower tail is nothing, and scipy gives nan for it at some degrees of freedom
    lower = special.nctdtr(df, shift, -critical) if shift < _NO_LOWER_TAIL else 0.0
    return float(1.0 - special.nctdtr(df, shift, critical) + lower)


def mean_size(sd: float, effect_abs: float, *, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Control's size (not rounded) for the two-sample t test (vector n_mean_t).

    Raises: ExperimentError where sd <= 0 or the effect is 0.
    """
    _check(alpha, power, ratio)
    if sd <= 0.0 or effect_abs == 0.0:
        raise ExperimentError(f"power: sd must be above 0 and the effect not 0, got sd {sd}, effect {effect_abs}")

    def shortfall(n: float) -> float:
        return power_mean(sd, effect_abs, n_arm=ratio * n, n_control=n, alpha=alpha) - power

    return _solve(shortfall, (_z_alpha(alpha) + normal_ppf(power)) ** 2 * (1.0 + 1.0 / ratio) * (sd / effect_abs) ** 2)


def sample_size_mean(
    sd: float, effect_abs: float, *, alpha: float, power: float, ratio: float = 1.0, comparisons: int = 1
) -> int:
    """Control's size to show a difference of means of `effect_abs` (unit of `sd`), rounded up; arm = ratio times it.

    With CUPED give sd * sqrt(1 - correlation**2). Raises: ExperimentError where sd <= 0 or the effect is 0.
    """
    return max(2, math.ceil(mean_size(sd, effect_abs, alpha=alpha / comparisons, power=power, ratio=ratio) - 1e-9))


def smallest_detectable_effect_mean(
    sd: float, n_arm: int, n_control: int, *, alpha: float, power: float, comparisons: int = 1
) -> float | None:
    """Smallest difference of means that these sizes show with this power; None below three units (mde_mean_t)."""
    _check(alpha, power, 1.0)
    if sd <= 0.0 or n_arm + n_control <= 2 or min(n_arm, n_control) < 1:
        return None

    def shortfall(effect: float) -> float:
        shown = power_mean(sd, effect, n_arm=n_arm, n_control=n_control, alpha=alpha, comparisons=comparisons)
        return shown - power

    high = 10.0 * sd * math.sqrt(1.0 / n_arm + 1.0 / n_control)
    while shortfall(high) < 0.0:
        high *= 2.0
    return root(shortfall, 0.0, high)


def sample_size_guardrail(
    baseline: float, margin_abs: float, *, power: float, alpha: float = 0.05, ratio: float = 1.0
) -> int:
    """Control's size to show that a share did not get worse by `margin_abs` when it did not change (one-sided alpha).

    Source: Chow, Shao and Wang 2008, section 4.2.2. Raises: ExperimentError where the baseline is not within (0, 1) or
    the margin not above 0.
    """
    _check(alpha, power, ratio)
    if not 0.0 < baseline < 1.0 or margin_abs <= 0.0:
        raise ExperimentError(f"power: baseline must lie in 0..1 and the margin above 0, got {baseline}, {margin_abs}")
    z = normal_ppf(1.0 - alpha) + normal_ppf(power)
    return math.ceil(z**2 * baseline * (1.0 - baseline) * (1.0 + 1.0 / ratio) / margin_abs**2 - 1e-9)


def sample_size_guardrail_mean(
    sd: float, margin_abs: float, *, power: float, alpha: float = 0.05, ratio: float = 1.0
) -> int:
    """Control's size to show that a mean did not get worse by `margin_abs` when it did not change (one-sided alpha).

    Raises: ExperimentError where sd or margin are not above 0.
    """
    _check(alpha, power, ratio)
    if sd <= 0.0 or margin_abs <= 0.0:
        raise ExperimentError(f"power: sd and margin must be above 0, got {sd}, {margin_abs}")
    z = normal_ppf(1.0 - alpha) + normal_ppf(power)
    return max(2, math.ceil(z**2 * (1.0 + 1.0 / ratio) * (sd / margin_abs) ** 2 - 1e-9))


def cuped_sd(sd: float, correlation: float) -> float:
    """The standard deviation that is left after CUPED with a covariate of this correlation."""
    return sd * math.sqrt(max(0.0, 1.0 - correlation**2))


def days_to_decision(
    needed: int, *, waiting: int, inflow_per_day: float, horizon_days: float, lateness_days: float
) -> float | None:
    """Days until `needed` customers (all arms) are assigned and mature: `waiting` now, then `inflow_per_day`.

    None where the inflow never gets there.
    """
    missing = max(0, needed - waiting)
    if missing and inflow_per_day <= 0.0:
        return None
    return (missing / inflow_per_day if missing else 0.0) + horizon_days + lateness_days


def _normal_power(shift: float, alpha: float) -> float:
    critical = _z_alpha(alpha)
    return normal_cdf(shift - critical) + normal_cdf(-shift - critical)


def _z_alpha(alpha: float) -> float:
    return normal_ppf(1.0 - 0.5 * alpha)


def _solve(shortfall: Callable[[float], float], guess: float) -> float:
    """The size where a rising shortfall crosses 0, bracketed around a first guess."""
    low, high = max(1.0 + 1e-6, 0.5 * guess), max(4.0, 2.0 * guess)
    while shortfall(low) > 0.0 and low > 1.01:
        low = max(1.0 + 1e-6, 0.5 * low)
    while shortfall(high) < 0.0 and high < _LARGEST:
        high *= 2.0
    return root(shortfall, low, high)


def _check(alpha: float, power: float, ratio: float) -> None:
    if not 0.0 < alpha < 1.0 or not 0.0 < power < 1.0 or ratio <= 0.0:
        raise ExperimentError(
            f"power: alpha and power lie between 0 and 1, ratio above 0; got {alpha}, {power}, {ratio}"
        )


def _check_share(baseline: float, effect_abs: float) -> None:
    if not 0.0 <= baseline <= 1.0 or not 0.0 <= baseline + effect_abs <= 1.0 or effect_abs == 0.0:
        raise ExperimentError(
            f"power: baseline {baseline} and baseline + effect {baseline + effect_abs} must lie in 0..1 and differ"
        )
