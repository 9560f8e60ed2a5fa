"""Sufficient statistics: frozen, additive values that stand for the rows they came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

LARGEST = 1e75  # sums beyond it are refused: their squares and cubes would overflow
_MOST_DAYS = 100_000
_BLOCK = 8192  # rows at a time: they stay in the processor's cache (twice as fast as all at once for a million rows)


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, sums and centred cross products of some columns over some units.

    `central[i][j]` = sum over units of (x_i - mean_i)(x_j - mean_j): centred, so that variances stay exact at large
    means. `cubes[i]` = sum of (x_i - mean_i)**3, or `cubes` is empty where third moments were not collected.
    Merged with `+` (Chan, Golub and LeVeque 1979; third moments: Pebay 2008, eq. 3.8), checked by
    tests/experiments/test_aggregates.py.
    """

    n: int
    columns: tuple[str, ...]
    sums: tuple[float, ...]
    central: tuple[tuple[float, ...], ...]
    cubes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        width = len(self.columns)
        shapes = {len(self.sums), len(self.central), *(len(row) for row in self.central)}
        if shapes - {width} or len(self.cubes) not in (0, width) or len(set(self.columns)) != width:
            raise ExperimentError(
                f"moments: {width} columns {self.columns} need as many distinct names, sums, rows and columns of "
                f"cross products; got {len(self.sums)} sums and {[len(row) for row in self.central]}"
            )
        spreads = [value for row in self.central for value in row]
        bounded = [(self.sums, LARGEST), (spreads, LARGEST**2), (self.cubes, LARGEST**3)]
        if self.n < 0 or not all(abs(value) <= most for values, most in bounded for value in values):
            raise ExperimentError(
                f"moments of {self.columns}: n must be >= 0 and every sum finite (up to {LARGEST:g}); got n = {self.n}"
            )

    @classmethod
    def empty(cls, columns: Sequence[str]) -> Moments:
        """The neutral element of `+`: no units."""
        zeros = (0.0,) * len(columns)
        return cls(0, tuple(columns), zeros, (zeros,) * len(columns), zeros)

    @classmethod
    def from_rows(cls, columns: Sequence[str], matrix: ArrayLike) -> Moments:
        """Moments of a matrix of shape (units, columns), in two passes (mean first).

        Raises: ExperimentError where the shape differs from the columns or a value is missing or infinite.
        """
        import numpy as np

        rows = np.asarray(matrix, dtype=np.float64).reshape(-1, len(columns)) if len(columns) else np.empty((0, 0))
        if rows.shape[0] == 0:
            return cls.empty(columns)
        with np.errstate(over="ignore", invalid="ignore"):
            sums = rows.sum(axis=0)
        if not np.isfinite(sums).all():
            raise ExperimentError(f"moments: columns {tuple(columns)} hold missing or infinite values; fill them first")
        central, cubes = _central(rows, sums / rows.shape[0])
        return cls(
            n=rows.shape[0],
            columns=tuple(columns),
            sums=tuple(sums.tolist()),
            central=tuple(tuple(row) for row in central.tolist()),
            cubes=tuple(cubes.tolist()),
        )

    @classmethod
    def from_counts(cls, column: str, n: int, successes: int) -> Moments:
        """Moments of one 0/1 column: `successes` ones among `n` units.

        Raises: ExperimentError unless 0 <= successes <= n.
        """
        if not 0 <= successes <= n:
            raise ExperimentError(f"{column}: successes must lie in 0..n, got {successes} of {n}")
        if n == 0:
            return cls.empty((column,))
        share = successes / n
        spread = successes * (1.0 - share)
        return cls(n, (column,), (float(successes),), ((spread,),), (spread * (1.0 - 2.0 * share),))

    @classmethod
    def from_summary(cls, columns: Sequence[str], n: int, means: Sequence[float], cov: ArrayLike) -> Moments:
        """Moments from means and the sample covariance matrix (ddof 1), as databases give them (AVG, COVAR_SAMP)."""
        import numpy as np

        factor = max(n - 1, 0)
        matrix = np.asarray(cov, dtype=np.float64).reshape(len(columns), len(columns)) * factor
        sums = tuple(float(mean) * n for mean in means)
        return cls(n, tuple(columns), sums, tuple(tuple(row) for row in matrix.tolist()))

    def __add__(self, other: Moments) -> Moments:
        if self.columns != other.columns:
            raise ExperimentError(f"moments: cannot add columns {other.columns} to {self.columns}; use the same ones")
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n = self.n + other.n
        gaps = [b / other.n - a / self.n for a, b in zip(self.sums, other.sums, strict=True)]
        factor = self.n * other.n / n
        central = tuple(
            tuple(a + b + factor * gaps[i] * gaps[j] for j, (a, b) in enumerate(zip(left, right, strict=True)))
            for i, (left, right) in enumerate(zip(self.central, other.central, strict=True))
        )
        sums = tuple(a + b for a, b in zip(self.sums, other.sums, strict=True))
        return Moments(n, self.columns, sums, central, self._add_cubes(other, gaps))

    def _add_cubes(self, other: Moments, gaps: Sequence[float]) -> tuple[float, ...]:
        if not self.cubes or not other.cubes:
            return ()
        a, b = self.n, other.n
        n = a + b
        return tuple(
            self.cubes[i]
            + other.cubes[i]
            + gap**3 * a * b * (a - b) / n**2
            + 3.0 * gap * (a * other.central[i][i] - b * self.central[i][i]) / n
            for i, gap in enumerate(gaps)
        )

    def select(self, columns: Sequence[str]) -> Moments:
        """The same units, only these columns, in this order."""
        places = [self.place(column) for column in columns]
        return Moments(
            self.n,
            tuple(columns),
            tuple(self.sums[i] for i in places),
            tuple(tuple(self.central[i][j] for j in places) for i in places),
            tuple(self.cubes[i] for i in places) if self.cubes else (),
        )

    def scale(self, factors: Mapping[str, float]) -> Moments:
        """The moments of the columns multiplied by `factors` (1 where not named): another currency, another unit."""
        by = [factors.get(column, 1.0) for column in self.columns]
        return Moments(
            self.n,
            self.columns,
            tuple(value * f for value, f in zip(self.sums, by, strict=True)),
            tuple(tuple(v * by[i] * by[j] for j, v in enumerate(row)) for i, row in enumerate(self.central)),
            tuple(value * f**3 for value, f in zip(self.cubes, by, strict=True)) if self.cubes else (),
        )

    def has(self, *columns: str) -> bool:
        """Whether every one of these columns was collected."""
        return all(column in self.columns for column in columns)

    def place(self, column: str) -> int:
        """Where a column stands among the columns. Raises: ExperimentError where it was not collected."""
        try:
            return self.columns.index(column)
        except ValueError:
            raise ExperimentError(f"moments: no column {column!r}; collected were {', '.join(self.columns)}") from None

    def sum(self, column: str) -> float:
        """Sum of a column over the units."""
        return self.sums[self.place(column)]

    def mean(self, column: str) -> float:
        """Mean of a column. Raises: ExperimentError without units."""
        return self.sum(column) / self._at_least(1)

    def var(self, column: str) -> float:
        """Sample variance (ddof 1). Raises: ExperimentError below two units."""
        return self.cov(column, column)

    def cov(self, first: str, second: str) -> float:
        """Sample covariance (ddof 1) of two columns. Raises: ExperimentError below two units."""
        return self.central[self.place(first)][self.place(second)] / (self._at_least(2) - 1)

    def skewness(self, column: str) -> float | None:
        """Population skewness m3 / m2**1.5; None where third moments are missing or nothing varies."""
        place = self.place(column)
        spread = self.central[place][place]
        if not self.cubes or self.n == 0 or spread / self.n <= 1e-100:
            return None
        return float((self.cubes[place] / self.n) / (spread / self.n) ** 1.5)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` reads them back."""
        return {
            "n": self.n,
            "columns": list(self.columns),
            "sums": list(self.sums),
            "central": [list(row) for row in self.central],
            "cubes": list(self.cubes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Moments:
        """Read what `to_json` wrote."""
        central = tuple(tuple(map(float, row)) for row in data["central"])
        cubes = tuple(map(float, data.get("cubes", ())))
        return cls(int(data["n"]), tuple(data["columns"]), tuple(map(float, data["sums"])), central, cubes)

    def _at_least(self, units: int) -> int:
        if self.n < units:
            raise ExperimentError(f"moments of {self.columns}: needs at least {units} units, there are {self.n}")
        return self.n


@dataclass(frozen=True, slots=True)
class SurvivalCounts:
    """Events and censorings per time (usually whole days since assignment), for some units.

    `times` ascend strictly; at `times[k]`, `events[k]` units had the event and `censored[k]` left unobserved (after
    the events of that time). Every unit appears once: n = sum(events) + sum(censored). Merged with `+`.
    """

    times: tuple[float, ...]
    events: tuple[int, ...]
    censored: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.times) == len(self.events) == len(self.censored):
            raise ExperimentError("survival counts: times, events and censored must have the same length")
        if any(later <= earlier for earlier, later in zip(self.times, self.times[1:], strict=False)):
            raise ExperimentError("survival counts: times must ascend and not repeat; add up the counts of a day first")
        if any(count < 0 for count in (*self.events, *self.censored)) or any(
            not math.isfinite(time) or time < 0 for time in self.times
        ):
            raise ExperimentError("survival counts: times and counts must be finite and >= 0")

    @classmethod
    def empty(cls) -> SurvivalCounts:
        """The neutral element of `+`: no units."""
        return cls((), (), ())

    @classmethod
    def from_times(cls, times: ArrayLike, events: ArrayLike) -> SurvivalCounts:
        """Counts of units with follow-up `times` and `events` (1 = it happened then, 0 = censored then).

        Raises: ExperimentError for unequal lengths, and for times that are missing, infinite or negative.
        """
        import numpy as np

        when = np.asarray(times, dtype=np.float64).ravel()
        happened = np.asarray(events).ravel().astype(bool)
        if when.shape != happened.shape:
            raise ExperimentError(f"survival counts: {when.size} times but {happened.size} events; give one of each")
        if not np.isfinite(when).all():
            raise ExperimentError("survival counts: times hold missing or infinite values; fill them first")
        days = when.astype(np.intp) if when.size and when.min() >= 0.0 and when.max() < _MOST_DAYS else None
        if days is not None and (days == when).all():  # whole days are counted, not sorted
            everyone = np.bincount(days)
            distinct = np.flatnonzero(everyone)
            hits = np.bincount(days[happened], minlength=everyone.size)[distinct]
            lost = everyone[distinct] - hits
        else:
            distinct, place = np.unique(when, return_inverse=True)
            hits = np.bincount(place[happened], minlength=distinct.size)
            lost = np.bincount(place[~happened], minlength=distinct.size)
        times = tuple(float(time) for time in distinct.tolist())
        return cls(times, tuple(hits.tolist()), tuple(lost.tolist()))

    @classmethod
    def from_day_counts(cls, counts: Mapping[float, tuple[int, int]]) -> SurvivalCounts:
        """Counts from {day: (events, censored)}, as a GROUP BY day gives them."""
        days = sorted(counts)
        return cls(
            tuple(float(day) for day in days),
            tuple(int(counts[day][0]) for day in days),
            tuple(int(counts[day][1]) for day in days),
        )

    @property
    def n(self) -> int:
        """Units observed."""
        return sum(self.events) + sum(self.censored)

    @property
    def at_risk(self) -> tuple[int, ...]:
        """Units still without event and under observation just before each time."""
        left = self.n
        counts: list[int] = []
        for happened, lost in zip(self.events, self.censored, strict=True):
            counts.append(left)
            left -= happened + lost
        return tuple(counts)

    def __add__(self, other: SurvivalCounts) -> SurvivalCounts:
        merged: dict[float, tuple[int, int]] = {}
        for side in (self, other):
            for time, happened, lost in zip(side.times, side.events, side.censored, strict=True):
                before = merged.get(time, (0, 0))
                merged[time] = (before[0] + happened, before[1] + lost)
        return SurvivalCounts.from_day_counts(merged)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` reads them back."""
        return {"times": list(self.times), "events": list(self.events), "censored": list(self.censored)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SurvivalCounts:
        """Read what `to_json` wrote."""
        return cls(tuple(map(float, data["times"])), tuple(map(int, data["events"])), tuple(map(int, data["censored"])))


def _central(rows: NDArray[np.float64], means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centred cross products and third central sums, block by block."""
    import numpy as np

    central, cubes = np.zeros((means.size, means.size)), np.zeros(means.size)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused by Moments
        for start in range(0, rows.shape[0], _BLOCK):
            away = rows[start : start + _BLOCK] - means
            squares = away * away
            central += away.T @ away
            cubes += (squares * away).sum(axis=0)
    return central, cubes
