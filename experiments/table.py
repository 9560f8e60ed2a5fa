"""Tables: per-arm aggregates out of a pandas DataFrame, an Arrow table or a mapping of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from experiments.aggregates import Moments, SurvivalCounts
from experiments.errors import ExperimentError
from experiments.metrics import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Missing = Literal["refuse", "zero", "drop"]
T = TypeVar("T")
_SMALL = 30_000


class Table:
    """Named columns of equal length, read lazily and only once."""

    def __init__(self, source: Any, *, missing: Missing = "refuse") -> None:
        self.source = source
        self.missing = missing
        self.names = [str(name) for name in _names(source)]
        self._numbers: dict[str, Array] = {}
        self._caps: dict[str, float] = {}

    def numbers(self, name: str) -> Array:
        """A column as floats; missing values by the table's policy (nan where they are to be dropped).

        Raises: ExperimentError for an unknown column, text, infinite values, or missing ones under "refuse".
        """
        import numpy as np

        if name not in self._numbers:
            values = self._floats(name)
            gaps = int(np.isnan(values).sum())
            if gaps and self.missing == "refuse":
                raise ExperimentError(
                    f"column {name!r}: {gaps} of {values.size} values are missing; say whether they mean 0 "
                    '(missing="zero") or are to be left out with their rows (missing="drop")'
                )
            if gaps and self.missing == "zero":
                values = np.where(np.isnan(values), 0.0, values)
            if name in self._caps:
                values = np.minimum(values, self._caps[name])
            self._numbers[name] = values
        return self._numbers[name]

    def winsorise(self, name: str, share: float) -> float:
        """Cap a column at this quantile of all its rows, arms pooled; the cap."""
        from experiments.winsorising import pooled_cap

        cap = pooled_cap(self.numbers(name), share)
        self._caps[name] = cap
        del self._numbers[name]
        return cap

    def labels(self, name: str) -> tuple[list[str], NDArray[np.intp]]:
        """A column of labels: the distinct ones in sorted order, and each row's place among them.

        Raises: ExperimentError for an unknown column or a missing label.
        """
        import numpy as np
        import pandas as pd

        raw = self.source[name] if name in self.names else self._raw(name)
        codes, distinct = pd.factorize(raw if isinstance(raw, pd.Series) else np.asarray(self._raw(name)))
        if (codes < 0).any():
            raise ExperimentError(f"column {name!r}: {int((codes < 0).sum())} rows have no value; every row needs one")
        texts = [_label(value) for value in distinct.tolist()]
        ranked = sorted(set(texts))
        place = np.asarray([ranked.index(text) for text in texts], dtype=np.intp)
        return ranked, place[codes] if place.size else codes

    def _floats(self, name: str) -> Array:
        import numpy as np

        raw = self._raw(name)
        try:
            values = np.asarray(raw, dtype=np.float64)
        except (TypeError, ValueError):
            values = _objects_to_floats(raw, name)
        if np.isinf(values).any():
            raise ExperimentError(f"column {name!r}: holds infinite values; they have no mean")
        return values

    def _raw(self, name: str) -> Any:
        if name not in self.names:
            raise ExperimentError(f"no column {name!r}; the table has {', '.join(self.names)}")
        column = self.source[name]
        return column.to_numpy() if hasattr(column, "to_numpy") else column


@dataclass(frozen=True, slots=True)
class Collected:
    """Aggregates of some units: `counts` per arm, `moments` per metric and arm, `times` per survival metric and arm."""

    counts: Mapping[str, int]
    moments: Mapping[str, Mapping[str, Moments]]
    times: Mapping[str, Mapping[str, SurvivalCounts]]


def collect(table: Table, *, arm: str, metrics: Sequence[Metric], by: Sequence[str] = ()) -> dict[str, Collected]:
    """All that these metrics need, per group of rows: the groups are the values of the columns `by`, in sorted order.

    Without `by` there is one group, named "". A group that an arm has nobody in gets empty aggregates of it.
    """
    rows = _Rows.of(table, arm, by)
    plain = [metric for metric in metrics if metric.kind != "survival"]
    if table.missing == "drop":  # every metric keeps the rows that it has values for
        moments = {metric.name: rows.moments(table, metric.needs) for metric in plain}
    else:
        everything = rows.moments(table, [column for metric in plain for column in metric.needs])
        moments = dict.fromkeys((metric.name for metric in plain), everything)
    times = {metric.name: rows.times(table, metric.columns) for metric in metrics if metric.kind == "survival"}
    return {
        group: Collected(
            {name: rows.sizes[place, column] for column, name in enumerate(rows.arms)},
            {metric: found[place] for metric, found in moments.items()},
            {metric: found[place] for metric, found in times.items()},
        )
        for place, group in enumerate(rows.groups)
    }


def arm_moments(table: Table, *, arm: str, columns: Sequence[str]) -> dict[str, Moments]:
    """Moments of these columns per arm, arms in sorted order; rows that miss a value are left out under "drop"."""
    return _Rows.of(table, arm, ()).moments(table, columns)[0]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a table sorted by group and arm; `edges` are where the cells (group-major) begin and end."""

    arms: list[str]
    groups: list[str]
    order: NDArray[np.intp]
    edges: list[int]

    @classmethod
    def of(cls, table: Table, arm: str, by: Sequence[str]) -> _Rows:
        import numpy as np

        arms, cells = table.labels(arm)
        groups, within = _group_labels(table, by, cells.size)
        cells = within * len(arms) + cells
        width = len(groups) * len(arms)
        order = np.argsort(cells.astype(np.int16) if width < _SMALL else cells, kind="stable")  # small: radix sort
        edges = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=width))])
        return cls(arms, groups, order, edges.tolist())

    @property
    def sizes(self) -> dict[tuple[int, int], int]:
        """Rows per group and arm."""
        width = len(self.arms)
        return {
            (group, place): self.edges[group * width + place + 1] - self.edges[group * width + place]
            for group in range(len(self.groups))
            for place in range(width)
        }

    def moments(self, table: Table, columns: Sequence[str]) -> list[dict[str, Moments]]:
        """Moments per group and arm."""
        import numpy as np

        distinct = list(dict.fromkeys(columns))
        if not distinct:
            return self._cells(lambda start, end: Moments(end - start, (), (), ()))
        sources = [table.numbers(column) for column in distinct]

        def cell(start: int, end: int) -> Moments:
            rows = self.order[start:end]
            part = np.empty((rows.size, len(sources)), order="F")
            for place, values in enumerate(sources):
                part[:, place] = values[rows]
            return Moments.from_rows(distinct, part if table.missing != "drop" else part[~np.isnan(part).any(axis=1)])

        return self._cells(cell)

    def times(self, table: Table, columns: Sequence[str]) -> list[dict[str, SurvivalCounts]]:
        """Survival counts per group and arm, from the columns time and event."""
        import numpy as np

        times, events = table.numbers(columns[0])[self.order], table.numbers(columns[1])[self.order]
        present: NDArray[np.bool_] = np.isfinite(times + events)
        if not np.isin(events[present], (0.0, 1.0)).all():
            raise ExperimentError(
                f"column {columns[1]!r}: survival needs 1 (it happened) and 0 (still waiting); found other values"
            )
        if (times[present] < 0.0).any():
            raise ExperimentError(f"column {columns[0]!r}: survival times must not be negative")

        def cell(start: int, end: int) -> SurvivalCounts:
            kept = present[start:end]
            return SurvivalCounts.from_times(times[start:end][kept], events[start:end][kept])

        return self._cells(cell)

    def _cells(self, make: Callable[[int, int], T]) -> list[dict[str, T]]:
        width = len(self.arms)
        return [
            {
                name: make(self.edges[group * width + place], self.edges[group * width + place + 1])
                for place, name in enumerate(self.arms)
            }
            for group in range(len(self.groups))
        ]


def _group_labels(table: Table, by: Sequence[str], size: int) -> tuple[list[str], NDArray[np.intp]]:
    """Groups that occur, in sorted order of the columns' values, and each row's place among them."""
    import numpy as np

    groups, codes = [""], np.zeros(size, dtype=np.intp)
    for column in by:
        names, places = table.labels(column)
        codes = codes * len(names) + places
        groups = [f"{group} / {name}" if group else name for group in groups for name in names]
    found, codes = np.unique(codes, return_inverse=True) if by else (np.zeros(1, dtype=np.intp), codes)
    return [groups[place] for place in found.tolist()], codes


def _names(source: Any) -> Iterable[Any]:
    if isinstance(source, Mapping):
        return list(source)
    for attribute in ("column_names", "columns"):
        names = getattr(source, attribute, None)
        if names is not None:
            return list(names)
    raise ExperimentError(
        f"cannot read a table out of {type(source).__name__}; give a DataFrame, an Arrow table or a mapping of arrays"
    )


def _objects_to_floats(raw: Any, name: str) -> Array:
    import numpy as np
    import pandas as pd

    values = pd.Series(raw).reset_index(drop=True)
    try:
        converted: Array = pd.to_numeric(values, errors="raise").to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        strange = (
            pd.to_numeric(values, errors="coerce").isna() & values.notna() & (values.astype(str).str.strip() != "")
        )
        raise ExperimentError(  # the value itself may be an address: it is not shown
            f"column {name!r}: {int(strange.sum())} of {values.size} values are no numbers, the first in row "
            f"{int(strange.argmax()) + 1}; metrics need numbers, shares 0 and 1"
        ) from None
    return converted


def _label(value: Any) -> str:
    """1.0 and 1 are the same arm: a column with a gap turns integers into floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
