"""Dunnett: several arms against one control, with the exact joint distribution of their t statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from experiments.distributions import root
from experiments.errors import ExperimentError
from experiments.means import Sample

_NODES = np.linspace(-8.5, 8.5, 341)
_NODE_WEIGHTS = np.exp(-0.5 * _NODES**2) / math.sqrt(2.0 * math.pi) * (_NODES[1] - _NODES[0])
_SCALE_NODES = 64
_NORMAL_FROM = 1e5


class Dunnett(NamedTuple):
    """Many-to-one comparisons: statistics, adjusted p-values and simultaneous limits, in the order of the arms."""

    statistics: tuple[float, ...]
    p_values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    critical: float


def dunnett(arms: Sequence[Sample], control: Sample, *, confidence: float = 0.95) -> Dunnett:
    """Two-sided Dunnett test with the pooled variance of all arms. Source: Dunnett 1955 (vector dunnett_2v1).

    Raises: ExperimentError without arms or where nothing varies.
    """
    everyone = [control, *arms]
    df = sum(side.n for side in everyone) - len(everyone)
    spread = sum((side.n - 1) * side.variance for side in everyone)
    if not arms or df <= 0 or spread <= 0.0:
        raise ExperimentError("Dunnett: needs at least one arm, and values that vary")
    variance = spread / df
    errors = [math.sqrt(variance * (1.0 / arm.n + 1.0 / control.n)) for arm in arms]
    gaps = [arm.mean - control.mean for arm in arms]
    statistics = [gap / se for gap, se in zip(gaps, errors, strict=True)]
    loadings = [math.sqrt(arm.n / (arm.n + control.n)) for arm in arms]
    critical = dunnett_critical(loadings, df=df, confidence=confidence)
    return Dunnett(
        tuple(statistics),
        tuple(dunnett_p(t, loadings, df=df) for t in statistics),
        tuple(gap - critical * se for gap, se in zip(gaps, errors, strict=True)),
        tuple(gap + critical * se for gap, se in zip(gaps, errors, strict=True)),
        critical,
    )


def dunnett_p(statistic: float, loadings: Sequence[float], *, df: float | None) -> float:
    """P(max |T_i| >= |statistic|): T_i correlate as loading_i * loading_j, loading = sqrt(n_i / (n_i + n_control))."""
    return float(min(1.0, max(0.0, _outside(abs(statistic), loadings, df))))


def dunnett_critical(loadings: Sequence[float], *, df: float | None, confidence: float = 0.95) -> float:
    """The |t| that all comparisons together exceed with probability 1 - confidence (df None: normal)."""
    return root(lambda c: _outside(c, loadings, df) - (1.0 - confidence), 0.0, 60.0)


def _outside(c: float, loadings: Sequence[float], df: float | None) -> float:
    """1 - P(all |T_i| < c), integrated over the shared part and, below 1e5 degrees of freedom, over the scale."""
    if df is None or df > _NORMAL_FROM:
        return float(1.0 - _inside_given_scale(np.array([c]), loadings)[0])
    roots, weights = np.polynomial.legendre.leggauss(_SCALE_NODES)
    levels, weights = 0.5 * (roots + 1.0), 0.5 * weights
    scales = np.sqrt(2.0 * special.gammaincinv(0.5 * df, levels) / df)
    return float(1.0 - weights @ _inside_given_scale(c * scales, loadings))


def _inside_given_scale(limits: np.ndarray, loadings: Sequence[float]) -> np.ndarray:
    inside = np.ones((limits.size, _NODES.size))
    for loading in loadings:
        rest = math.sqrt(1.0 - loading**2)
        shift = loading * _NODES[None, :]
        inside = inside * (
            special.ndtr((limits[:, None] - shift) / rest) - special.ndtr((-limits[:, None] - shift) / rest)
        )
    result: np.ndarray = inside @ _NODE_WEIGHTS
    return result
