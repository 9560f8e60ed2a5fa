"""Measures an experiment: outcomes of everybody assigned and mature, compared with control. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from experiments.aggregates import Moments
from experiments.compare import compare_all
from experiments.design import Design
from experiments.errors import ExperimentError
from experiments.health import balance, contamination, delivery_gap, srm
from experiments.results import Result
from warehouse.facts.outcomes import COVARIATES, OUTCOMES, wave_moments
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.experiments import ExperimentRow, current_experiment, experiments
from warehouse.ledger.results import record_measurement
from warehouse.ledger.tallies import ArmTally, LedgerMetric, tally
from warehouse.ledger.waves import WaveRow, waves

if TYPE_CHECKING:
    from flows.wiring import Workspace

PRE_PERIOD: Final = timedelta(days=365)
"""How far before the assignment a customer's own spending is looked at, to take out its noise (CUPED)."""
LEDGER_METRICS: Final[tuple[LedgerMetric, ...]] = ("unsubscribed", "complained", "message_cost")


@dataclass(frozen=True)
class Collected:
    """What was counted, by arm: everybody assigned, everybody mature, and the mature ones' outcomes."""

    assigned: Mapping[str, int]
    mature: Mapping[str, int]
    outcomes: Mapping[str, Moments]
    tallies: Mapping[str, ArmTally]
    """Of the mature waves."""
    running: Mapping[str, ArmTally]
    """Of all waves, for harm that may be seen any day."""
    open_waves: int


@dataclass(frozen=True)
class Measurement:
    """One measurement of one experiment as of an instant."""

    design: Design
    as_of: datetime
    collected: Collected
    results: tuple[Result, ...]
    margin: tuple[Result, ...] | None
    """Margin less the cost of messages; None where orders carry no margin."""
    health: Mapping[str, float | None]
    matures_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """The measurement as `retain measure --json` prints it."""
        arms = [name for name, _ in self.design.weights]
        return {
            "campaign": self.design.campaign,
            "experiment": self.design.experiment_id,
            "as_of": self.as_of.isoformat(),
            "hypothesis": self.design.hypothesis,
            "primary": self.design.primary,
            "arms": {
                arm: {
                    "assigned": self.collected.assigned.get(arm, 0),
                    "mature": self.collected.mature.get(arm, 0),
                    "reached": self.collected.running.get(arm, ArmTally()).reached,
                }
                for arm in arms
            },
            "matures_at": None if self.matures_at is None else self.matures_at.isoformat(),
            "health": dict(self.health),
            "results": [result.to_json() for result in self.results],
            "totals": _totals(self.collected),
            "margin": None if self.margin is None else [result.to_json() for result in self.margin],
        }


def _totals(collected: Collected) -> dict[str, dict[str, float]]:
    """Plain sums over the mature customers of each arm, before any adjustment: metric -> arm -> sum."""
    return {
        column: {arm: moments.sum(column) for arm, moments in sorted(collected.outcomes.items())} for column in OUTCOMES
    }


def measurable_campaigns(ws: Workspace) -> list[str]:
    """The campaigns with an experiment that still runs and whose file is still there."""
    with ws.ledger.read() as tx:
        return [
            row.campaign for row in experiments(tx) if row.status == "running" and row.campaign in ws.book.campaigns
        ]


def measure_experiment(ws: Workspace, campaign: str, *, now: datetime) -> Measurement:
    """Measure the campaign's running (else its latest) experiment as of `now`, and record the measurement.

    Intention to treat: everybody assigned counts, whether or not a message arrived. Only assignments whose horizon and
    lateness have passed are compared. Raises ExperimentError where the campaign has no experiment yet.
    """
    row = find_experiment(ws, campaign)
    design = Design.from_json(row.design)
    collected = _collect(ws, row, design, now)
    results = compare_all(design, collected.outcomes, more=_ledger_moments(collected.tallies))
    measurement = Measurement(
        design=design,
        as_of=now,
        collected=collected,
        results=tuple(results),
        margin=_net_margin(design, collected),
        health=_health(design, collected),
        matures_at=_matures_at(ws, row, design),
    )
    with ws.ledger.begin() as tx:
        record_measurement(tx, row.experiment_id, measurement.to_json(), measured_at=now)
    return measurement


def find_experiment(ws: Workspace, campaign: str) -> ExperimentRow:
    """The campaign's running experiment, else its latest. Raises ExperimentError where there is none."""
    with ws.ledger.read() as tx:
        row = current_experiment(tx, campaign)
        known = experiments(tx, campaign)
    if row is not None:
        return row
    if not known:
        raise ExperimentError(
            f"{campaign}: nothing to measure: no run was applied yet; start with `retain plan {campaign}`"
        )
    return known[-1]


def monitor_results(design: Design, collected: Collected) -> list[Result]:
    """The ledger's metrics over everybody assigned so far, mature or not: harm may be seen any day."""
    watched = [r.metric for r in design.guardrails]
    found = compare_all(design, {}, more=_ledger_moments(collected.running))
    return [result for result in found if result.metric in watched]


def _collect(ws: Workspace, row: ExperimentRow, design: Design, now: datetime) -> Collected:
    horizon, lateness = timedelta(days=design.horizon_days), timedelta(days=design.lateness_days)
    with ws.ledger.read() as tx:
        recorded = [wave for wave in waves(tx, row.experiment_id) if wave.assigned_at <= now]
        tallies = {wave.wave_id: tally(tx, wave.wave_id, horizon=horizon) for wave in recorded}
    mature = [wave for wave in recorded if wave.assigned_at + horizon + lateness <= now]
    outcomes: dict[str, Moments] = {}
    for wave in mature:
        for arm, moments in _wave_outcomes(ws, wave, horizon).items():
            outcomes[arm] = outcomes[arm] + moments if arm in outcomes else moments
    of_mature = _add([tallies[wave.wave_id] for wave in mature])
    of_all = _add(list(tallies.values()))
    return Collected(
        assigned={arm: counted.assigned for arm, counted in of_all.items()},
        mature={arm: counted.assigned for arm, counted in of_mature.items()},
        outcomes=outcomes,
        tallies=of_mature,
        running=of_all,
        open_waves=sum(wave.status == "open" for wave in recorded),
    )


def _wave_outcomes(ws: Workspace, wave: WaveRow, horizon: timedelta) -> dict[str, Moments]:
    with ws.ledger.read() as tx:
        cohort = assignments_frame(tx, wave.wave_id)
    return wave_moments(ws.facts, cohort, start=wave.assigned_at, horizon=horizon, pre_period=PRE_PERIOD)


def _add(parts: list[dict[str, ArmTally]]) -> dict[str, ArmTally]:
    total: dict[str, ArmTally] = {}
    for part in parts:
        for arm, counted in part.items():
            total[arm] = total.get(arm, ArmTally()) + counted
    return total


def _ledger_moments(tallies: Mapping[str, ArmTally]) -> list[dict[str, Moments]]:
    return [{arm: counted.moments(metric) for arm, counted in tallies.items()} for metric in LEDGER_METRICS]


def _net_margin(design: Design, collected: Collected) -> tuple[Result, ...] | None:
    """The margin metric less what each arm's messages cost; None where no order carries a margin."""
    if not collected.outcomes or all(
        not m.central[m.columns.index("margin")][m.columns.index("margin")] for m in collected.outcomes.values()
    ):
        return None
    net = {arm: _less_cost(moments, collected.tallies[arm]) for arm, moments in collected.outcomes.items()}
    only = compare_all(_margin_only(design), net)
    return tuple(only)


def _varies(moments: Moments, column: str) -> bool:
    return moments.n > 1 and moments.var(column) > 0


def _less_cost(moments: Moments, counted: ArmTally) -> Moments:
    """The cost of messages is known to the cent and hardly varies within an arm: it shifts the mean."""
    place = moments.columns.index("margin")
    sums = list(moments.sums)
    sums[place] -= counted.cost_micros / 1_000_000
    return replace(moments, sums=tuple(sums))


def _margin_only(design: Design) -> Design:
    return replace(design, primary="margin", metrics=(), guardrails=())


def _health(design: Design, collected: Collected) -> dict[str, float | None]:
    weights = dict(design.weights)
    control = collected.running.get(design.control, ArmTally())
    before = {arm: moments.select(COVARIATES) for arm, moments in collected.outcomes.items()}
    shares = {arm: counted.reached / counted.assigned for arm, counted in collected.running.items() if counted.assigned}
    analysed = {arm: moments.n for arm, moments in collected.outcomes.items()}
    return {
        "srm_p": srm(collected.assigned, weights).p_value,
        "srm_analysed_p": srm(analysed, weights).p_value,
        "balance_p": balance(before, control=design.control),
        "contamination": contamination(control_assigned=control.assigned, control_reached=control.contaminated),
        "delivery_gap": delivery_gap(shares, control=design.control),
    }


def _matures_at(ws: Workspace, row: ExperimentRow, design: Design) -> datetime | None:
    """When the last of the runs so far will be mature."""
    with ws.ledger.read() as tx:
        recorded = waves(tx, row.experiment_id)
    if not recorded:
        return None
    return max(w.assigned_at for w in recorded) + timedelta(days=design.horizon_days + design.lateness_days)
