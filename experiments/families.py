"""Families: the p-values of several arms against one control, adjusted together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from experiments.distributions import normal_ppf
from experiments.errors import ExperimentError
from experiments.multiplicity import benjamini_hochberg, benjamini_yekutieli, bonferroni, hochberg, holm
from experiments.results import Result

Adjust = Literal["holm", "dunnett", "hochberg", "bonferroni", "benjamini_hochberg", "benjamini_yekutieli", "none"]
FARTHEST = 37.0  # beyond, the normal tail is smaller than any float

_BY_NAME: Mapping[str, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "hochberg": hochberg,
    "bonferroni": bonferroni,
    "benjamini_hochberg": benjamini_hochberg,
    "benjamini_yekutieli": benjamini_yekutieli,
    "none": list,
}


def adjust_family(results: Sequence[Result], *, adjust: Adjust = "holm") -> list[Result]:
    """The results with `p_adjusted` over those that have a p-value.

    Raises: ExperimentError for an adjustment that does not exist.
    """
    if adjust != "dunnett" and adjust not in _BY_NAME:
        raise ExperimentError(f"adjust {adjust!r} is not known; known are dunnett, {', '.join(_BY_NAME)}")
    tested = [result for result in results if result.p_value is not None]
    p_values = [result.p_value or 0.0 for result in tested]
    adjusted = iter(dunnett_adjusted(tested) if adjust == "dunnett" else _BY_NAME[adjust](p_values))
    return [replace(r, p_adjusted=next(adjusted)) if r.p_value is not None else r for r in results]


def dunnett_adjusted(results: Sequence[Result]) -> list[float]:
    """P that any of the arms would show as small a p, control being shared: never more than Bonferroni's.

    Every test keeps its own p, read as a normal statistic; the statistics of arms i and j correlate by
    sqrt(n_i / (n_i + n_0)) sqrt(n_j / (n_j + n_0)), as means with one variance do. Source: Dunnett 1955; exact for
    large samples (test against scipy: tests/reference/test_oracles.py). `dunnett.dunnett` is the test with t statistics
    and one pooled variance.
    """
    from experiments.dunnett import dunnett_p

    loadings = [math.sqrt(result.n_arm / (result.n_arm + result.n_control)) for result in results]
    adjusted = []
    for result in results:
        p = result.p_value or 0.0
        joint = dunnett_p(statistic_of(p), loadings, df=None)
        adjusted.append(min(1.0, max(p, min(joint, p * len(results)))))
    return adjusted


def statistic_of(p_value: float) -> float:
    """The |z| that has this two-sided p-value (at most 37)."""
    return FARTHEST if p_value <= 0.0 else min(FARTHEST, -normal_ppf(0.5 * p_value))
