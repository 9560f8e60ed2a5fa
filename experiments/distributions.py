"""Tails and quantiles of the reference distributions, by special functions.

scipy.stats would give the same and costs half a second to import.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import special

_SKEWLESS = 1e-4  # below, Pearson's type III is taken for the normal: at z = 3 its tail differs by 1 in 2,000


def normal_sf(z: float) -> float:
    """P(Z > z) of the standard normal."""
    return float(special.ndtr(-z))


def normal_cdf(z: float) -> float:
    """P(Z <= z) of the standard normal."""
    return float(special.ndtr(z))


def normal_ppf(share: float) -> float:
    """The standard normal's quantile."""
    return float(special.ndtri(share))


def normal_pdf(z: float) -> float:
    """The standard normal's density."""
    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def t_sf(t: float, df: float | None) -> float:
    """P(T > t) of Student's t; df None means the normal."""
    return normal_sf(t) if df is None else float(special.stdtr(df, -t))


def t_ppf(share: float, df: float | None) -> float:
    """Quantile of Student's t; df None means the normal."""
    return normal_ppf(share) if df is None else float(special.stdtrit(df, share))


def chi2_sf(chi2: float, df: float) -> float:
    """P(X > chi2) of the chi-square distribution."""
    return float(special.chdtrc(df, chi2))


def beta_ppf(share: float, a: float, b: float) -> float:
    """Quantile of the beta distribution."""
    return float(special.betaincinv(a, b, share))


def two_sided(statistic: float, df: float | None = None) -> float:
    """Two-sided p-value of a z (df None) or t statistic, from the tail itself so that small values stay right."""
    return min(1.0, 2.0 * t_sf(abs(statistic), df))


def pearson3_ppf(share: float, skew: float) -> float:
    """Quantile of the Pearson type III distribution with mean 0, variance 1 and this skewness (0: the normal)."""
    if abs(skew) < _SKEWLESS:
        return normal_ppf(share)
    shape = 4.0 / skew**2
    if skew > 0.0:
        return (float(special.gammaincinv(shape, share)) - shape) / math.sqrt(shape)
    return (shape - float(special.gammainccinv(shape, share))) / math.sqrt(shape)


def pearson3_sf(value: float, skew: float) -> float:
    """P(X > value) of the Pearson type III distribution with mean 0, variance 1 and this skewness."""
    if abs(skew) < _SKEWLESS:
        return normal_sf(value)
    shape = 4.0 / skew**2
    if skew > 0.0:
        return float(special.gammaincc(shape, max(0.0, shape + value * math.sqrt(shape))))
    return float(special.gammainc(shape, max(0.0, shape - value * math.sqrt(shape))))


def root(function: Callable[[float], float], low: float, high: float, *, steps: int = 200) -> float:
    """Where a monotone function changes sign between low and high (Illinois false position, halved when it stalls).

    An end that already has the wrong sign is returned as it is: the root lies beyond the allowed range.
    """
    f_low, f_high = function(low), function(high)
    if f_low == 0.0 or (f_low * f_high > 0.0 and abs(f_low) < abs(f_high)):
        return low
    if f_high == 0.0 or f_low * f_high > 0.0:
        return high
    side = 0
    for step in range(steps):
        width = high - low
        if abs(width) <= 1e-15 + 4e-16 * max(abs(low), abs(high)):
            break
        guess = 0.5 * (low + high) if step % 5 == 4 else (low * f_high - high * f_low) / (f_high - f_low)
        value = function(guess)
        if value == 0.0:
            return guess
        if value * f_high > 0.0:
            high, f_high, side = guess, value, _halve(side, -1)
            f_low *= 0.5 if side == -2 else 1.0
        else:
            low, f_low, side = guess, value, _halve(side, 1)
            f_high *= 0.5 if side == 2 else 1.0
    return 0.5 * (low + high)


def _halve(side: int, now: int) -> int:
    """How often in a row the same end moved (signed, at most 2)."""
    return 2 * now if side * now > 0 else now
