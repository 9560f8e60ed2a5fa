"""Does the effect differ among customers whom another campaign treated: a two by two of both draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from experiments.aggregates import Moments
from experiments.health import interaction
from experiments.metrics import METRICS
from experiments.multiplicity import holm
from flows.steps.collect_outcomes import WaveOutcomes, add_moments
from warehouse.facts.outcomes import wave_moments
from warehouse.ledger.overlaps import shared_customers

if TYPE_CHECKING:
    import pandas as pd

    from experiments.design import Design
    from flows.steps.collect_outcomes import Collected
    from flows.wiring import Workspace

LEAST_PER_CELL: Final = 50
"""Customers in each of the four cells below which nothing is tested."""


def describe_interactions(
    ws: Workspace, design: Design, collected: Collected, others: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """For each of the other experiments and every arm: the effect on the primary among those whom it treated, among
    those in its control, and whether they differ; p-values Holm-adjusted over all.

    Only customers whom both experiments drew are compared: there both draws are random, so that the difference of the
    two effects is no choice of anybody's. Mature waves alone. Empty where shares were learnt, households were drawn or
    the primary is no number per customer.
    """
    metric = METRICS[design.primary]
    able = design.allocation == "fixed" and design.unit == "customer" and metric.source == "facts"
    found: dict[str, list[dict[str, Any]]] = {}
    for other in others if able and metric.kind in ("proportion", "mean") else ():
        cells = _cells(ws, design, collected, other)
        tests = [_test(cells, arm, design.control, metric.column) for arm in design.arms]
        found[other] = [test for test in tests if test is not None]
    rows = [row for tests in found.values() for row in tests if row["p_value"] is not None]
    for row, p in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = p
    return found


def _cells(ws: Workspace, design: Design, collected: Collected, other: str) -> dict[str, Moments]:
    """Moments by our arm and by whether the other experiment treated the customer: `arm` + _TREATED or _CONTROL."""
    return add_moments(_of_wave(ws, design, wave, other) for wave in collected.mature_waves)


def _of_wave(ws: Workspace, design: Design, wave: WaveOutcomes, other: str) -> Mapping[str, Moments]:
    horizon = timedelta(days=design.horizon_days)
    with ws.ledger.read() as tx:
        shared: pd.DataFrame = shared_customers(tx, wave.wave, other, horizon=horizon)
    if shared.empty:
        return {}
    cohort = shared.assign(arm=shared["arm"] + shared["in_control"].map({True: _CONTROL, False: _TREATED}))
    return wave_moments(ws.facts, cohort[["customer_id", "arm"]], start=wave.wave.assigned_at, horizon=horizon)


def _test(cells: Mapping[str, Moments], arm: str, control: str, column: str) -> dict[str, Any] | None:
    four = [cells.get(side + there) for there in (_TREATED, _CONTROL) for side in (arm, control)]
    known = [cell for cell in four if cell is not None and cell.n >= LEAST_PER_CELL]
    if len(known) < len(four):
        return None
    found = interaction((known[0], known[1]), (known[2], known[3]), column=column)
    return {"arm": arm, "customers": sum(cell.n for cell in known), **found._asdict(), "p_adjusted": None}


_TREATED: Final = "\x1ftreated there"
_CONTROL: Final = "\x1fcontrol there"
"""Added to the name of an arm; no arm's name can hold it."""
