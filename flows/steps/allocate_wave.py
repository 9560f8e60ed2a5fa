"""The shares of the next wave: as the file says, or learnt from the waves that have matured (Thompson)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from experiments.bandit import floor_for, next_weights
from experiments.compare import counts_of
from experiments.metrics import METRICS
from warehouse.facts.outcomes import wave_moments
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.waves import WaveRow, find_wave, waves

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experiments.design import Design
    from experiments.proportions import Counts
    from flows.steps.ledger_standing import Epoch
    from flows.wiring import Workspace


@dataclass(frozen=True, slots=True)
class Allocation:
    """The shares of one wave, in the order of the file, control last.

    `floor`: the least share of control and of every arm (None where the file's shares hold). `learnt_from`: the as-of
    instants of the matured waves that the shares follow from; `customers`: who was in them.
    """

    weights: tuple[tuple[str, float], ...]
    floor: float | None = None
    learnt_from: tuple[datetime, ...] = ()
    customers: int = 0

    def to_json(self) -> dict[str, Any]:
        """What plan.json says of it."""
        return {
            "mode": "fixed" if self.floor is None else "thompson",
            "weights": dict(self.weights),
            "floor": self.floor,
            "learnt_from": [at.isoformat() for at in self.learnt_from],
            "customers": self.customers,
        }


def allocate_wave(ws: Workspace, design: Design, epoch: Epoch, *, as_of: datetime) -> Allocation:
    """The shares of the wave as of an instant.

    `fixed`, and the first waves of `thompson`: those of the design. Later waves of `thompson` follow the outcomes of
    the epoch's complete waves whose horizon and lateness had passed by `as_of` (`bandit.next_weights`: integrated, not
    drawn, so that the same facts give the same shares). A wave that was begun keeps the shares it was begun with.
    """
    if design.allocation == "fixed":
        return Allocation(design.weights)
    floor = floor_for(sum(weight > 0.0 for _, weight in design.weights))
    if epoch.is_new:
        return Allocation(design.weights, floor)
    with ws.ledger.read() as tx:
        begun = find_wave(tx, epoch.experiment_id, as_of)
        known = waves(tx, epoch.experiment_id)
    if begun is not None and begun.weights:
        return Allocation(tuple((arm, float(begun.weights.get(arm, 0.0))) for arm, _ in design.weights), floor)
    wait = timedelta(days=design.horizon_days + design.lateness_days)
    mature = [wave for wave in known if wave.status == "complete" and wave.assigned_at + wait <= as_of]
    counted = [_successes(ws, design, wave) for wave in mature]
    people = sum(side.n for wave in counted for side in wave.values())
    return Allocation(next_weights(design.weights, counted), floor, tuple(wave.as_of for wave in mature), people)


def _successes(ws: Workspace, design: Design, wave: WaveRow) -> Mapping[str, Counts]:
    """The wave's customers by arm, and how many of them the primary counts."""
    with ws.ledger.read() as tx:
        cohort = assignments_frame(tx, wave.wave_id)
    if cohort.empty:
        return {}
    horizon = timedelta(days=design.horizon_days)
    moments = wave_moments(ws.facts, cohort, start=wave.assigned_at, horizon=horizon)
    return {arm: counts_of(part, METRICS[design.primary]) for arm, part in moments.items()}
