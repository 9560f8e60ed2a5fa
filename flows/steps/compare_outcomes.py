"""Compares what was collected: all waves together where the shares were fixed, within waves where they were learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from experiments.aggregates import Moments
from experiments.clusters import MEMBERS
from experiments.compare import compare_all
from experiments.compare_waves import compare_waves, usable_waves
from experiments.metrics import METRICS, Metric
from experiments.results import Result
from warehouse.ledger.tallies import ArmTally, LedgerMetric

if TYPE_CHECKING:
    from experiments.design import Design
    from flows.steps.collect_outcomes import Collected, WaveOutcomes

LEDGER_METRICS: Final[tuple[LedgerMetric, ...]] = ("unsubscribed", "complained", "message_cost")


def compare_outcomes(design: Design, collected: Collected) -> list[Result]:
    """Every metric of the design over the mature waves, arms against control."""
    if design.unit == "household":
        return compare_all(design, collected.outcomes, metrics=_metrics(collected))
    if design.allocation == "fixed":
        ledger = _ledger_moments(collected.tallies)
        return compare_all(design, collected.outcomes, more=ledger, metrics=_metrics(collected))
    mature = collected.mature_waves
    return compare_waves(design, _outcomes(mature), more=_ledger_strata(mature))


def monitor_results(design: Design, collected: Collected) -> list[Result]:
    """What harm is watched by on any day: the ledger's guardrails over everybody assigned so far, mature or not, and
    the primary and the facts' guardrails over the mature."""
    watched = {design.primary, *(guard.metric for guard in design.guardrails)}
    if design.unit == "household":
        counted = {arm: moments.select((*LEDGER_METRICS, MEMBERS)) for arm, moments in collected.ledger.items()}
        of_facts = {arm: _without(moments, LEDGER_METRICS) for arm, moments in collected.outcomes.items()}
        found = compare_all(design, of_facts, more=[counted], metrics=_metrics(collected))
    elif design.allocation == "fixed":
        ledger = _ledger_moments(collected.running)
        found = compare_all(design, collected.outcomes, more=ledger, metrics=_metrics(collected))
    else:
        found = compare_waves(design, _outcomes(collected.mature_waves), more=_ledger_strata(collected.waves))
    return [result for result in found if result.metric in watched]


def compare_net_margin(
    design: Design, collected: Collected, charged: Mapping[str, Mapping[str, Moments]]
) -> tuple[Result, ...] | None:
    """The margin less what each arm's messages and offers cost; None where no order carries a margin.

    `charged`: wave -> arm -> moments whose margin has paid for the offers already.
    """
    if not collected.outcomes or all(
        not m.central[m.columns.index("margin")][m.columns.index("margin")] for m in collected.outcomes.values()
    ):
        return None
    only = replace(design, primary="margin", metrics=(), guardrails=())
    strata = {
        wave.wave.as_of.isoformat(): {
            arm: _less_cost(part, wave.tally[arm]) for arm, part in charged[wave.wave.wave_id].items()
        }
        for wave in collected.mature_waves
    }
    if design.allocation == "fixed":
        return tuple(compare_all(only, _merged(strata.values()), metrics=_metrics(collected)))
    return tuple(compare_waves(only, strata))


def _merged(parts: Iterable[Mapping[str, Moments]]) -> dict[str, Moments]:
    """The arms' moments of several waves together, with the columns that all of them have."""
    known = list(parts)
    common = set.intersection(*(set(m.columns) for part in known for m in part.values()))
    total: dict[str, Moments] = {}
    for part in known:
        for arm, moments in part.items():
            own = moments.select([name for name in moments.columns if name in common])
            total[arm] = total[arm] + own if arm in total else own
    return total


def describe_strata(design: Design, collected: Collected) -> dict[str, Any] | None:
    """How the waves were put together where the shares were learnt; None where they were fixed.

    `left_out`: mature waves in which control or an arm has too few customers to be a stratum, with their customers.
    """
    if design.allocation == "fixed":
        return None
    sizes = {
        wave.wave.as_of.isoformat(): {arm: counted.assigned for arm, counted in wave.tally.items()}
        for wave in collected.mature_waves
    }
    usable, left_out = usable_waves(design, sizes)
    return {"by": "wave", "strata": len(usable), "left_out": {name: sum(sizes[name].values()) for name in left_out}}


def _metrics(collected: Collected) -> Mapping[str, Metric]:
    """The metrics; without pre-period covariates where an earlier epoch's arms go on: it changed that very period."""
    if collected.drawn == collected.units:
        return METRICS
    return {name: replace(metric, covariate=None) for name, metric in METRICS.items()}


def _outcomes(waves: Iterable[WaveOutcomes]) -> dict[str, Mapping[str, Moments]]:
    return {wave.wave.as_of.isoformat(): wave.outcomes for wave in waves if wave.outcomes is not None}


def _ledger_strata(waves: Iterable[WaveOutcomes]) -> list[dict[str, dict[str, Moments]]]:
    known = list(waves)
    return [
        {
            wave.wave.as_of.isoformat(): {arm: counted.moments(metric) for arm, counted in wave.tally.items()}
            for wave in known
        }
        for metric in LEDGER_METRICS
    ]


def _without(moments: Moments, columns: Sequence[str]) -> Moments:
    return moments.select([name for name in moments.columns if name not in columns])


def _ledger_moments(tallies: Mapping[str, ArmTally]) -> list[dict[str, Moments]]:
    return [{arm: counted.moments(metric) for arm, counted in tallies.items()} for metric in LEDGER_METRICS]


def _less_cost(moments: Moments, counted: ArmTally) -> Moments:
    """The cost of messages is known to the cent and hardly varies within an arm: it shifts the mean."""
    place = moments.columns.index("margin")
    sums = list(moments.sums)
    sums[place] -= counted.cost_micros / 1_000_000
    return replace(moments, sums=tuple(sums))
