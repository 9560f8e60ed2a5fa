"""The health of an experiment: the split, the arms before the start, who was reached, and what else went on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from experiments.health import (
    CalendarEvent,
    balance,
    contamination,
    crossover,
    delivery_gap,
    events_in_window,
    overlap,
    srm,
    srm_by_stratum,
    srm_within,
)
from experiments.multiplicity import bonferroni
from flows.steps.campaign_interactions import describe_interactions
from warehouse.facts.outcomes import COVARIATES
from warehouse.ledger.overlaps import late_share, overlapping
from warehouse.ledger.results import measurements
from warehouse.ledger.tallies import ArmTally

if TYPE_CHECKING:
    from experiments.design import Design
    from flows.steps.collect_outcomes import Collected
    from flows.wiring import Workspace


@dataclass(frozen=True, slots=True)
class Health:
    """Plain numbers by name, which the gates read, and what stands behind them, for people."""

    numbers: dict[str, float | None]
    circumstances: dict[str, Any]


def examine_health(ws: Workspace, design: Design, collected: Collected, *, now: datetime) -> Health:
    """Every check as of `now`.

    Numbers: srm_p, srm_analysed_p, srm_wave_p (smallest over the waves, adjusted), balance_p, contamination,
    crossover, delivery_gap, overlap_p (smallest over other experiments, adjusted), interaction_p (does the effect
    differ among those whom another experiment treated; smallest, adjusted), overlap_share (largest share of our
    customers whom another experiment treats), late_messages, late_orders, calendar_events. None: nothing to test.
    """
    shares = {arm: counted.reached / counted.assigned for arm, counted in collected.running.items() if counted.assigned}
    overlaps = _overlaps(ws, design, collected)
    crossed = describe_interactions(ws, design, collected, [found["experiment"] for found in overlaps])
    overlaps = [{**found, "interaction": crossed.get(found["experiment"], [])} for found in overlaps]
    calendar = _calendar(ws, design, collected)
    by_wave = _split_of_waves(design, collected)
    with ws.ledger.read() as tx:
        late_messages = late_share(tx, design.experiment_id)
    numbers = _split_numbers(design, collected) | {
        "srm_wave_p": min((p for p in by_wave.values() if p is not None), default=None),
        "delivery_gap": delivery_gap(shares, control=design.control),
        "overlap_p": _smallest(overlaps),
        "interaction_p": _smallest_interaction(crossed),
        "overlap_share": max((found["share"] for found in overlaps), default=0.0),
        "late_messages": late_messages,
        "late_orders": _late_orders(ws, design, collected, now=now),
        "calendar_events": float(len(calendar)),
    }
    return Health(
        numbers,
        {"reached": shares, "overlapping": overlaps, "calendar": calendar, "srm_by_wave": by_wave},
    )


def _split_numbers(design: Design, collected: Collected) -> dict[str, float | None]:
    control = collected.running.get(design.control, ArmTally())
    strayed = sum(counted.contaminated for arm, counted in collected.running.items() if arm != design.control)
    return {
        **_splits(design, collected),
        "balance_p": _balance(design, collected),
        "contamination": contamination(control_assigned=control.assigned, control_reached=control.contaminated),
        "crossover": crossover(assigned=sum(collected.assigned.values()), in_several_arms=strayed),
    }


def _splits(design: Design, collected: Collected) -> dict[str, float | None]:
    """Customers assigned and analysed against the shares that the draw aimed at, in every wave its own."""
    weights = dict(design.weights)
    analysed = {arm: moments.n for arm, moments in collected.outcomes.items()}
    if design.allocation == "fixed":
        # who stayed in control from an earlier epoch was not drawn: then only what was lost since can be told
        freely = collected.drawn == collected.units
        aimed = weights if freely or not analysed else {arm: float(n) for arm, n in collected.mature_units.items()}
        return {
            "srm_p": srm(collected.drawn, weights).p_value,
            "srm_analysed_p": srm(analysed, aimed).p_value,
        }
    assigned = [
        ({arm: counted.assigned for arm, counted in wave.tally.items()}, wave.wave.weights or weights)
        for wave in collected.waves
    ]
    measured = [
        ({arm: moments.n for arm, moments in wave.outcomes.items()}, wave.wave.weights or weights)
        for wave in collected.mature_waves
        if wave.outcomes is not None
    ]
    return {"srm_p": srm_within(assigned).p_value, "srm_analysed_p": srm_within(measured).p_value}


def _balance(design: Design, collected: Collected) -> float | None:
    """Were the arms alike before: over all waves, or within each where the shares were learnt (smallest, adjusted)."""
    if collected.drawn != collected.units:
        return None  # the year before holds what the earlier epoch did: its arms differ because they were treated
    if design.allocation == "fixed":
        waves = [collected.outcomes]
    else:
        waves = [wave.outcomes for wave in collected.mature_waves if wave.outcomes is not None]
    found = [
        balance({arm: moments.select(COVARIATES) for arm, moments in outcomes.items()}, control=design.control)
        for outcomes in waves
    ]
    return min(bonferroni([p for p in found if p is not None]), default=None)


def _split_of_waves(design: Design, collected: Collected) -> dict[str, float | None]:
    strata = {wave.wave.as_of.isoformat(): wave.drawn for wave in collected.waves if wave.drawn}
    own = {wave.wave.as_of.isoformat(): wave.wave.weights for wave in collected.waves}
    return {name: test.p_value for name, test in srm_by_stratum(strata, dict(design.weights), own=own).items()}


def _overlaps(ws: Workspace, design: Design, collected: Collected) -> list[dict[str, Any]]:
    """Other experiments that hold some of our customers at the same time: shares by arm, and whether they depend."""
    horizon = timedelta(days=design.horizon_days)
    crossed: dict[str, dict[str, Counter[str]]] = {}
    with ws.ledger.read() as tx:
        for wave in collected.waves:
            sizes = {arm: counted.assigned for arm, counted in wave.tally.items()}
            for other, arms in overlapping(tx, wave.wave, horizon=horizon, sizes=sizes).items():
                for arm, counts in arms.items():
                    crossed.setdefault(other, {}).setdefault(arm, Counter()).update(counts)
    found = []
    for other, table in sorted(crossed.items()):
        test = overlap(table)
        found.append(
            {
                "experiment": other,
                "treated_elsewhere": dict(test.treated_elsewhere),
                "share": test.overall or 0.0,
                "largest_gap": test.largest_gap,
                "p_value": test.p_value,
            }
        )
    return found


def _smallest_interaction(crossed: Mapping[str, list[dict[str, Any]]]) -> float | None:
    known = [row["p_adjusted"] for tests in crossed.values() for row in tests if row["p_adjusted"] is not None]
    return min(known, default=None)


def _smallest(overlaps: list[dict[str, Any]]) -> float | None:
    tested = [found["p_value"] for found in overlaps if found["p_value"] is not None]
    return min(bonferroni(tested), default=None)


def _calendar(ws: Workspace, design: Design, collected: Collected) -> list[dict[str, str]]:
    """The calendar's days that touch an outcome window, from the first assignment to the last horizon."""
    if not collected.waves:
        return []
    began = [wave.wave.assigned_at for wave in collected.waves]
    last = max(began) + timedelta(days=design.horizon_days)
    events = [CalendarEvent(day.name, day.starts_on, day.ends_on) for day in ws.settings.calendar]
    return [
        {"name": event.name, "from": event.starts_on.isoformat(), "to": event.last_on.isoformat()}
        for event in events_in_window(events, start=min(began).date(), end=last.date())
    ]


def _late_orders(ws: Workspace, design: Design, collected: Collected, *, now: datetime) -> float | None:
    """Share of the mature customers' orders that an earlier measurement of the same customers did not know yet.

    None where they were not measured before. Above 0 the lateness that retain waits for is too short.
    """
    with ws.ledger.read() as tx:
        earlier = [row.measurement for row in measurements(tx, design.experiment_id) if row.measured_at < now]
    same = [row for row in earlier if _mature_of(row) == {arm: n for arm, n in collected.mature.items() if n}]
    total = sum(moments.sum("orders") for moments in collected.outcomes.values())
    if not same or not total:
        return None
    known = float(sum(same[0]["totals"]["orders"].values()))
    return max(0.0, (total - known) / total)


def _mature_of(measurement: Any) -> dict[str, int]:
    return {arm: counted["mature"] for arm, counted in measurement["arms"].items() if counted["mature"]}
