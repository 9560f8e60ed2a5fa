"""Costs that single units caused, taken off a column of moments exactly: as if the rows had been there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.aggregates import Moments


def shift(moments: Moments, column: str, total: float) -> Moments:
    """The moments after a total that is the same for all units was taken off a column: only its mean moves."""
    place = moments.place(column)
    sums = list(moments.sums)
    sums[place] -= total
    return replace(moments, sums=tuple(sums))


def charge(
    moments: Moments, column: str, costs: NDArray[np.float64], values: Mapping[str, NDArray[np.float64]]
) -> Moments:
    """The moments after each of some units was charged its cost in a column; all other units are charged nothing.

    `costs` has one entry a charged unit, `values` the units' entries in every column of the moments, in the same order.
    With x' = x - c: sum(x' - m')(y - my) = sum(x - m)(y - my) - sum(c y) + sum(c) my, and so for square and cube.
    Checked against rows by tests/experiments/test_charges.py. Raises ExperimentError where a column of the moments has
    no values.
    """
    if missing := sorted(set(moments.columns) - set(values)):
        raise ExperimentError(f"charge: the columns {', '.join(missing)} have no values of the charged units")
    if not len(costs):
        return moments
    n, place = moments.n, moments.place(column)
    total, own = float(costs.sum()), values[column]
    means = [value / n for value in moments.sums]
    central = [list(row) for row in moments.central]
    for other, name in enumerate(moments.columns):
        moved = float((costs * values[name]).sum()) - total * means[other]
        if other == place:
            central[place][place] += float((costs**2).sum()) - total**2 / n - 2.0 * moved
            continue
        central[place][other] -= moved
        central[other][place] -= moved
    cubes = list(moments.cubes)
    if cubes:
        gap = total / n  # how far the mean falls
        mean = means[place] - gap
        everybody = cubes[place] + 3.0 * moments.central[place][place] * gap + n * gap**3
        cubes[place] = everybody + float((((own - costs) - mean) ** 3 - (own - mean) ** 3).sum())
    central[place][place] = max(central[place][place], 0.0)
    return replace(shift(moments, column, total), central=tuple(tuple(row) for row in central), cubes=tuple(cubes))
