"""Winsorising: extreme values capped at a quantile of all arms together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.aggregates import Moments
from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class SparseRows:
    """The values of n units, of whom only those with any value but 0 have a row; all others are 0 in every column.

    `values`: shape (rows, columns), rows at most n.
    """

    n: int
    columns: tuple[str, ...]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns) or len(self.values) > self.n:
            raise ExperimentError(
                f"sparse rows: {self.n} units and columns {self.columns} do not fit values of {self.values.shape}"
            )

    def column(self, name: str) -> NDArray[np.float64]:
        """The values of a column, of the units that have a row."""
        return self.values[:, self.columns.index(name)]

    def capped(self, caps: Mapping[str, float]) -> Moments:
        """Moments over all n units, values above a column's cap counting as the cap."""
        import numpy as np

        limits = np.array([caps.get(name, np.inf) for name in self.columns])
        rows = Moments.from_rows(self.columns, np.minimum(self.values, limits))
        zeros = (0.0,) * len(self.columns)
        return rows + Moments(self.n - rows.n, self.columns, zeros, (zeros,) * len(self.columns), zeros)


def pooled_cap(values: ArrayLike, share: float, *, nonzero: bool = False) -> float:
    """The `share` quantile (linear between order statistics) of the values, or of those that are not 0.

    Give all arms together: caps per arm turned a null experiment into 10 % false wins (docs/maths.md). Missing values
    do not count. Source: numpy's default quantile (vector winsor_p95). Raises: ExperimentError outside 0..1 or empty.
    """
    import numpy as np

    _check(share)
    known = np.asarray(values, dtype=np.float64).ravel()
    known = known[~np.isnan(known)]
    if nonzero:
        known = known[known != 0.0]
    if known.size == 0:
        raise ExperimentError("winsorising: there are no values to take a quantile of")
    return float(np.quantile(known, share))


def sparse_cap(parts: Sequence[SparseRows], column: str, share: float) -> float | None:
    """`pooled_cap` of a column over all units of all parts, the zeros included without writing them out.

    None without units. Raises: ExperimentError where the share lies outside 0..1.
    """
    import numpy as np

    _check(share)
    n = sum(part.n for part in parts)
    if n == 0:
        return None
    known = np.sort(np.concatenate([part.column(column) for part in parts]))
    zeros, below = n - known.size, int(np.searchsorted(known, 0.0))

    def at(place: int) -> float:
        if below <= place < below + zeros:
            return 0.0
        return float(known[place if place < below else place - zeros])

    where = (n - 1) * share
    low = math.floor(where)
    return at(low) + (where - low) * (at(min(low + 1, n - 1)) - at(low))


def _check(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise ExperimentError(f"winsorising: the quantile must lie in (0, 1], got {share}")
