"""Tables: per-arm aggregates out of a pandas DataFrame, an Arrow table or a mapping of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from experiments.aggregates import Moments, SurvivalCounts
from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Missing = Literal["refuse", "zero", "drop"]


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

        codes, distinct = pd.factorize(np.asarray(self._raw(name)))
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


def arm_moments(table: Table, *, arm: str, columns: Sequence[str]) -> dict[str, Moments]:
    """Moments of these columns per arm, arms in sorted order; rows that miss a value are left out under "drop"."""
    import numpy as np

    names, codes = table.labels(arm)
    distinct = list(dict.fromkeys(columns))
    matrix = np.column_stack([table.numbers(column) for column in distinct]) if distinct else np.empty((codes.size, 0))
    present = ~np.isnan(matrix).any(axis=1) if table.missing == "drop" else np.ones(codes.size, dtype=bool)
    return {
        name: Moments.from_rows(distinct, matrix[(codes == place) & present])
        if distinct
        else Moments(int((codes == place).sum()), (), (), ())
        for place, name in enumerate(names)
    }


def arm_survival(table: Table, *, arm: str, time: str, event: str) -> dict[str, SurvivalCounts]:
    """Survival counts per arm; rows that miss a value are left out under "drop"."""
    import numpy as np

    names, codes = table.labels(arm)
    times, events = table.numbers(time), table.numbers(event)
    present = ~(np.isnan(times) | np.isnan(events))
    if not np.isin(events[present], (0.0, 1.0)).all():
        raise ExperimentError(
            f"column {event!r}: survival needs 1 (it happened) and 0 (still waiting); found other values"
        )
    if (times[present] < 0.0).any():
        raise ExperimentError(f"column {time!r}: survival times must not be negative")
    return {
        name: SurvivalCounts.from_times(times[(codes == place) & present], events[(codes == place) & present])
        for place, name in enumerate(names)
    }


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

    try:
        values = pd.to_numeric(pd.Series(raw), errors="raise").to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ExperimentError(
            f"column {name!r} is not numeric ({error}); metrics need numbers, shares 0 and 1"
        ) from error
    converted: Array = values
    return converted


def _label(value: Any) -> str:
    """1.0 and 1 are the same arm: a column with a gap turns integers into floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
