"""Comparing arms whose shares changed from wave to wave: every metric of a design within strata of wave.

Pooled over waves, an arm that had most customers in a good week looks good (Simpson). Within a wave the draw is random
at known shares, whatever they were learnt from; the waves are weighted by their sizes, which no arm's luck decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiments.aggregates import Moments
from experiments.compare import metrics_of
from experiments.compare_strata import compare_strata
from experiments.design import Design
from experiments.metrics import METRICS, Metric
from experiments.results import Result

LEAST_PER_ARM = 10
"""Customers of an arm below which a wave is no stratum of its own: its variance would be a guess."""

Strata = Mapping[str, Mapping[str, Moments]]


def usable_waves(design: Design, sizes: Mapping[str, Mapping[str, int]]) -> tuple[list[str], list[str]]:
    """The waves (by name) in which control and every arm with a share have customers enough, and the others.

    They are told apart by sizes alone, never by outcomes, so that leaving one out moves no effect.
    """
    competing = [arm for arm, weight in design.weights if weight > 0.0]
    usable = [name for name, arms in sizes.items() if all(arms.get(arm, 0) >= LEAST_PER_ARM for arm in competing)]
    return usable, [name for name in sizes if name not in usable]


def compare_waves(
    design: Design, strata: Strata, *, more: Sequence[Strata] = (), metrics: Mapping[str, Metric] = METRICS
) -> list[Result]:
    """`compare_all` within strata: wave -> arm -> moments, `more` from other sources (the ledger's counts).

    Waves that `usable_waves` leaves out count nowhere. Source: `compare_strata` (Miratrix, Sekhon and Yu 2013, eq. 8;
    shares tested by Cochran-Mantel-Haenszel). Raises: ExperimentError for a metric that `metrics` lacks.
    """
    found = [_compare(design, metric, [strata, *more]) for metric in metrics_of(design, metrics)]
    return [result for results in found for result in results]


def _compare(design: Design, metric: Metric, sources: Sequence[Strata]) -> list[Result]:
    arms = [arm for arm, weight in design.weights if weight > 0.0]
    found = next((source for source in sources if _has(source, metric)), {})
    sizes = {wave: {arm: part.n for arm, part in sides.items()} for wave, sides in found.items()}
    usable, _ = usable_waves(design, sizes)
    strata = {wave: {arm: found[wave][arm] for arm in arms} for wave in usable}
    if strata:
        return compare_strata(metric, strata, control=design.control, alpha=design.alpha)
    blank = Result(
        metric=metric.name,
        kind=metric.kind,
        arm="",
        control=design.control,
        n_arm=0,
        n_control=0,
        status="insufficient_data" if found else "not_measured",
    )
    return [replace(blank, arm=arm) for arm in arms if arm != design.control]


def _has(source: Strata, metric: Metric) -> bool:
    return any(part.has(*metric.columns) for sides in source.values() for part in sides.values())
