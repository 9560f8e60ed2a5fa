"""Several comparisons at once: p-values adjusted so that the family keeps its error rate."""

from __future__ import annotations

from collections.abc import Sequence


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """p times the number of tests, at most 1. Controls the family-wise error (vector mt_bonferroni)."""
    return [min(1.0, p * len(p_values)) for p in p_values]


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down Bonferroni. Controls the family-wise error. Source: Holm 1979 (vector mt_holm)."""
    order, m = _ascending(p_values), len(p_values)
    adjusted, running = [0.0] * m, 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def hochberg(p_values: Sequence[float]) -> list[float]:
    """Step-up; family-wise error under independence or positive dependence. Source: Hochberg 1988."""
    m = len(p_values)
    return _step_up(p_values, [float(m - rank) for rank in range(m)])


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Step-up; false discovery rate. Source: Benjamini and Hochberg 1995 (vector mt_benjamini_hochberg)."""
    m = len(p_values)
    return _step_up(p_values, [m / (rank + 1.0) for rank in range(m)])


def benjamini_yekutieli(p_values: Sequence[float]) -> list[float]:
    """Step-up; false discovery rate under any dependence. Source: Benjamini and Yekutieli 2001."""
    m = len(p_values)
    harmonic = sum(1.0 / (rank + 1.0) for rank in range(m))
    return _step_up(p_values, [m * harmonic / (rank + 1.0) for rank in range(m)])


def preferential_bonferroni(*, alpha: float, primary_share: float, arms: int, metrics: int) -> tuple[float, float]:
    """Alpha of each comparison on the primary metric and on each other one.

    The primary gets `primary_share` of alpha, the other metrics divide the rest; both are divided by the arms.
    Source: Eppo's documentation, "preferential Bonferroni" (vector preferential_bonferroni).
    """
    others = metrics - 1
    rest = alpha * (1.0 - primary_share) / (others * arms) if others else 0.0
    return alpha * (primary_share if others else 1.0) / arms, rest


def _ascending(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=lambda index: p_values[index])


def _step_up(p_values: Sequence[float], factors: Sequence[float]) -> list[float]:
    """From the largest p downwards, the running minimum of factor(rank) * p."""
    adjusted, running = [0.0] * len(p_values), 1.0
    for rank, index in reversed(list(enumerate(_ascending(p_values)))):
        running = min(running, factors[rank] * p_values[index])
        adjusted[index] = running
    return adjusted
