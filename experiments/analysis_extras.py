"""Two readings of any table that decisions need: is an arm no worse than a margin, and what did those reached gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.cace import Cace, cace
from experiments.errors import ExperimentError
from experiments.metrics import Metric
from experiments.results import Result
from experiments.table import Table, arm_moments


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """An arm against a margin: `worst` is the worsening that is not excluded (one-sided 95 %, the metric's unit)."""

    metric: str
    arm: str
    margin: float
    worst: float | None
    noninferior: bool | None
    method: str
    status: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedEffect:
    """The effect per reached unit of one metric and arm, beside the effect of intending to treat (`cace.itt`)."""

    metric: str
    arm: str
    cace: Cace

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, flat."""
        return {"metric": self.metric, "arm": self.arm, **asdict(self.cace)}


def noninferiority_view(
    metrics: Sequence[Metric], results: Sequence[Result], margins: Mapping[str, float]
) -> tuple[NonInferiority, ...]:
    """Every arm on every metric with a margin: no worse than it where the one-sided 95 % bound says so.

    The bound is that of the result's own method, as in the harm gate. `margins`: metric -> tolerated worsening, above
    0. Raises: ExperimentError for a margin that is not above 0.

    >>> shown = Result(metric="m", kind="mean", arm="a", control="c", n_arm=9, n_control=9, lower_95=-0.2)
    >>> found = noninferiority_view([Metric("m", "mean", ("x",))], [shown], {"m": 0.3})[0]
    >>> found.worst, found.noninferior
    (0.2, True)
    """
    for name, margin in margins.items():
        if not margin > 0.0:
            raise ExperimentError(f"margin of {name}: the tolerated worsening must be above 0, got {margin}")
    better = {metric.name: metric.higher_is_better for metric in metrics}
    found = []
    for result in results:
        if result.metric not in margins:
            continue
        bound = result.lower_95 if better[result.metric] else result.upper_95
        worst = None if bound is None else (-bound if better[result.metric] else bound)
        margin = margins[result.metric]
        found.append(
            NonInferiority(
                metric=result.metric,
                arm=result.arm,
                margin=margin,
                worst=worst,
                noninferior=None if worst is None else worst < margin,
                method=result.method,
                status=result.status,
            )
        )
    return tuple(found)


def reached_view(
    table: Table, metrics: Sequence[Metric], *, arm: str, control: str, delivered: str, alpha: float
) -> tuple[ReachedEffect, ...]:
    """The effect on those reached, of every proportion and mean (`cace.cace`). `delivered`: a column of 0 and 1.

    Raises: ExperimentError where it holds other values.
    """
    import numpy as np

    values = table.numbers(delivered)
    if not np.isin(values[~np.isnan(values)], (0.0, 1.0)).all():
        raise ExperimentError(f"column {delivered!r}: delivered needs 1 (reached) and 0 (not); found other values")
    found = []
    for metric in metrics:
        if metric.kind not in ("proportion", "mean"):
            continue
        arms = arm_moments(table, arm=arm, columns=(metric.column, delivered))
        for name in arms:
            if name != control:
                effect = cace(
                    arms[name], arms[control], outcome=metric.column, delivered=delivered, confidence=1.0 - alpha
                )
                found.append(ReachedEffect(metric=metric.name, arm=name, cace=effect))
    return tuple(found)
