"""Collects what an experiment's customers did, wave by wave: counts of the ledger, outcomes and first purchases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from experiments.aggregates import Moments, SurvivalCounts
from experiments.winsorising import SparseRows
from flows.steps.household_outcomes import ledger_totals, outcome_totals
from warehouse.facts.outcomes import first_purchase_days, wave_moments_and_rows
from warehouse.ledger.assignments import assignments_frame, drawn_units, units_frame
from warehouse.ledger.deliveries import reached_customers
from warehouse.ledger.tallies import ArmTally, customer_tallies, tally
from warehouse.ledger.waves import WaveRow, waves

if TYPE_CHECKING:
    import pandas as pd

    from experiments.design import Design
    from flows.wiring import Workspace

PRE_PERIOD: Final = timedelta(days=365)
"""How far before the assignment a customer's own spending is looked at, to take out its noise (CUPED)."""
CAPPED_ROWS: Final = ("revenue", "margin", "pre_revenue")
"""What is kept of every customer with orders: money that may be capped, and the covariate of both."""
DELIVERED: Final = "delivered"
"""The column of the moments that is 1 for customers whom a message reached."""


@dataclass(frozen=True)
class WaveOutcomes:
    """One wave: its counts, the day of first purchases so far, and, once it is mature, its outcomes by arm.

    The outcomes have the columns of `wave_moments` and `delivered`.
    """

    wave: WaveRow
    tally: Mapping[str, ArmTally]
    times: Mapping[str, SurvivalCounts]
    outcomes: Mapping[str, Moments] | None
    units: Mapping[str, int]
    """Units by arm: customers, or households."""
    drawn: Mapping[str, int]
    """Those of them for whom no earlier epoch's draw counted: the split can be tested on these."""
    ledger: Mapping[str, Moments] | None = None
    """Where households were drawn: the totals of what the ledger counts, mature or not."""
    money: Mapping[str, tuple[SparseRows, ...]] = field(default_factory=dict)
    """By arm, the customers' own values of what may be capped, once the wave is mature."""

    @property
    def is_mature(self) -> bool:
        """Whether horizon and lateness have passed."""
        return self.outcomes is not None


@dataclass(frozen=True)
class Collected:
    """What was counted in all waves, by arm: everybody assigned, everybody mature, and the mature ones' outcomes."""

    waves: tuple[WaveOutcomes, ...]

    @cached_property
    def mature_waves(self) -> tuple[WaveOutcomes, ...]:
        """The waves whose horizon and lateness have passed."""
        return tuple(wave for wave in self.waves if wave.is_mature)

    @cached_property
    def assigned(self) -> Mapping[str, int]:
        """Customers of all waves."""
        return {arm: counted.assigned for arm, counted in self.running.items()}

    @cached_property
    def mature(self) -> Mapping[str, int]:
        """Customers of the mature waves."""
        return {arm: counted.assigned for arm, counted in self.tallies.items()}

    @cached_property
    def units(self) -> Mapping[str, int]:
        """Units of all waves: customers, or households."""
        return _add_counts(wave.units for wave in self.waves)

    @cached_property
    def drawn(self) -> Mapping[str, int]:
        """Units of all waves for whom no earlier epoch's draw counted."""
        return _add_counts(wave.drawn for wave in self.waves)

    @cached_property
    def mature_units(self) -> Mapping[str, int]:
        """Units of the mature waves."""
        return _add_counts(wave.units for wave in self.mature_waves)

    @cached_property
    def ledger(self) -> Mapping[str, Moments]:
        """Where households were drawn: the totals of what the ledger counts, in all waves."""
        return add_moments(wave.ledger for wave in self.waves if wave.ledger is not None)

    @cached_property
    def outcomes(self) -> Mapping[str, Moments]:
        """The mature waves' outcomes."""
        return add_moments(wave.outcomes for wave in self.mature_waves if wave.outcomes is not None)

    @cached_property
    def tallies(self) -> Mapping[str, ArmTally]:
        """The ledger's counts of the mature waves."""
        return _add_tallies(wave.tally for wave in self.mature_waves)

    @cached_property
    def running(self) -> Mapping[str, ArmTally]:
        """The ledger's counts of all waves, for harm that may be seen any day."""
        return _add_tallies(wave.tally for wave in self.waves)


def collect_outcomes(ws: Workspace, design: Design, *, now: datetime) -> Collected:
    """Everything about the experiment's waves as of `now`. Facts of the last `lateness_days` may still be missing.

    Outcomes are those of mature waves; first purchases are followed in all waves, as far as the facts are complete.
    """
    with ws.ledger.read() as tx:
        recorded = [wave for wave in waves(tx, design.experiment_id) if wave.assigned_at <= now]
    return Collected(tuple(_collect_wave(ws, wave, design, now) for wave in recorded))


def add_moments(parts: Iterable[Mapping[str, Moments]]) -> dict[str, Moments]:
    """The arms' moments of several waves together."""
    total: dict[str, Moments] = {}
    for part in parts:
        for arm, moments in part.items():
            total[arm] = total[arm] + moments if arm in total else moments
    return total


def _collect_wave(ws: Workspace, wave: WaveRow, design: Design, now: datetime) -> WaveOutcomes:
    horizon, lateness = timedelta(days=design.horizon_days), timedelta(days=design.lateness_days)
    with ws.ledger.read() as tx:
        cohort = assignments_frame(tx, wave.wave_id)
        counted = tally(tx, wave.wave_id, horizon=horizon)
        units, drawn = drawn_units(tx, wave.wave_id)
        reached = reached_customers(tx, wave.wave_id)
    known_until = max(wave.assigned_at, now - lateness)
    times = first_purchase_days(ws.facts, cohort, start=wave.assigned_at, until=known_until, horizon=horizon)
    is_mature = wave.assigned_at + horizon + lateness <= now
    if design.unit == "household":
        return _collect_households(ws, WaveOutcomes(wave, counted, {}, None, units, drawn), reached, horizon, is_mature)
    outcomes: dict[str, Moments] | None = None
    money: dict[str, tuple[SparseRows, ...]] = {}
    if is_mature:
        outcomes, money = _outcomes(ws, cohort, reached, start=wave.assigned_at, horizon=horizon)
    return WaveOutcomes(wave, counted, times, outcomes, units, drawn, money=money)


def _collect_households(
    ws: Workspace, found: WaveOutcomes, reached: set[str], horizon: timedelta, is_mature: bool
) -> WaveOutcomes:
    """The wave by totals of households. First purchases are not followed: their curves take customers for strangers."""
    wave = found.wave
    with ws.ledger.read() as tx:
        people = units_frame(tx, wave.wave_id)
        values = customer_tallies(tx, wave.wave_id, horizon=horizon)
    outcomes = None
    if is_mature:
        values_and_fate = {**values, DELIVERED: dict.fromkeys(reached, 1.0)}
        outcomes = outcome_totals(
            ws.facts, people, values_and_fate, start=wave.assigned_at, horizon=horizon, pre_period=PRE_PERIOD
        )
    return replace(found, outcomes=outcomes, ledger=ledger_totals(people, values))


def _outcomes(
    ws: Workspace, cohort: pd.DataFrame, reached: set[str], *, start: datetime, horizon: timedelta
) -> tuple[dict[str, Moments], dict[str, tuple[SparseRows, ...]]]:
    """Outcomes by arm with the column `delivered`: those reached and those not are two groups of one scan."""
    marked = cohort["arm"].where(cohort["customer_id"].isin(reached), cohort["arm"] + _NOT_REACHED)
    groups, rows = wave_moments_and_rows(
        ws.facts, cohort.assign(arm=marked), start=start, horizon=horizon, pre_period=PRE_PERIOD, columns=CAPPED_ROWS
    )
    money: dict[str, tuple[SparseRows, ...]] = {}
    for name, part in rows.items():
        arm = name.removesuffix(_NOT_REACHED)
        money[arm] = (*money.get(arm, ()), part)
    outcomes = add_moments(
        {name.removesuffix(_NOT_REACHED): _with_constant(moments, float(not name.endswith(_NOT_REACHED)))}
        for name, moments in groups.items()
    )
    return outcomes, money


def _with_constant(moments: Moments, value: float) -> Moments:
    """The moments with the column `delivered`, the same for all these customers."""
    return Moments(
        n=moments.n,
        columns=(*moments.columns, DELIVERED),
        sums=(*moments.sums, value * moments.n),
        central=(*((*row, 0.0) for row in moments.central), (0.0,) * (len(moments.columns) + 1)),
        cubes=(*moments.cubes, 0.0) if moments.cubes else (),
    )


def _add_counts(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for arm, n in part.items():
            total[arm] = total.get(arm, 0) + n
    return total


def _add_tallies(parts: Iterable[Mapping[str, ArmTally]]) -> dict[str, ArmTally]:
    total: dict[str, ArmTally] = {}
    for part in parts:
        for arm, counted in part.items():
            total[arm] = total.get(arm, ArmTally()) + counted
    return total


_NOT_REACHED: Final = "\x1fnot reached"
"""Marks an arm's customers whom no message reached; no arm's name can hold it."""
