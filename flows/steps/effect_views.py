"""Other readings of the same outcomes: put together over the waves, and per customer whom a message reached."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from experiments.aggregates import Moments
from experiments.cace import cace
from experiments.metrics import METRICS, Metric
from experiments.proportions import Counts
from experiments.strata import cochran_mantel_haenszel, post_stratify
from flows.steps.collect_outcomes import DELIVERED

if TYPE_CHECKING:
    from experiments.design import Design
    from flows.steps.collect_outcomes import Collected

EVERYBODY_REACHED: Final = 0.999
"""From this share on the effect on the reached is the effect of intent."""


def describe_waves(collected: Collected) -> list[dict[str, Any]]:
    """The waves: when, how many of each arm, at which shares, whether they are mature."""
    return [
        {
            "as_of": wave.wave.as_of.isoformat(),
            "assigned": {arm: counted.assigned for arm, counted in wave.tally.items()},
            "weights": dict(wave.wave.weights),
            "mature": wave.is_mature,
        }
        for wave in collected.waves
    ]


def stratify_by_wave(design: Design, collected: Collected) -> list[dict[str, Any]]:
    """Each effect put together over the strata of wave, beside the plain one; empty below two mature waves.

    A wave's customers are alike in when they were asked, so that the post-stratified estimate is steadier, and is not
    moved by arms whose shares changed between waves. Difference and limits are None where a wave lacks an arm.
    """
    strata = [wave.outcomes for wave in collected.mature_waves if wave.outcomes is not None]
    if len(strata) < 2 or design.allocation != "fixed":
        return []  # learnt shares: the results themselves are by wave, and the plain difference would mislead
    views = []
    for metric in _measured(design):
        empty = Moments.empty(next(iter(strata[0].values())).columns)  # a small wave may lack an arm
        for arm in _filled_arms(design, collected):
            pairs = [(stratum.get(arm, empty), stratum.get(design.control, empty)) for stratum in strata]
            views.append({"metric": metric.name, "arm": arm, **_put_together(design, metric, pairs)})
    return views


def effects_on_reached(design: Design, collected: Collected) -> list[dict[str, Any]]:
    """The effect on the customers whom messages reached (CACE), beside the effect of intent; empty where all were.

    Empty too where the shares were learnt: it is taken from all waves together.
    """
    arms = {arm: moments for arm, moments in collected.outcomes.items() if moments.n}
    control = arms.get(design.control)
    treated = [arm for arm in _filled_arms(design, collected) if arm in arms]
    everybody = all(arms[arm].mean(DELIVERED) >= EVERYBODY_REACHED for arm in treated)
    if design.allocation != "fixed" or control is None or everybody:
        return []
    return [
        {
            "metric": metric.name,
            "arm": arm,
            "reached": arms[arm].mean(DELIVERED),
            **asdict(
                cace(arms[arm], control, outcome=metric.column, delivered=DELIVERED, confidence=1.0 - design.alpha)
            ),
        }
        for metric in _measured(design)
        for arm in treated
    ]


def _measured(design: Design) -> list[Metric]:
    """The design's metrics that are one number per customer and come from the facts."""
    metrics = [METRICS[name] for name in design.all_metrics()]
    return [m for m in metrics if m.source == "facts" and m.kind in ("proportion", "mean")]


def _filled_arms(design: Design, collected: Collected) -> list[str]:
    return [arm for arm in design.arms if collected.mature.get(arm, 0)]


def _put_together(design: Design, metric: Metric, pairs: list[tuple[Moments, Moments]]) -> dict[str, Any]:
    whole = [sum((side[k] for side in pairs[1:]), start=pairs[0][k]) for k in (0, 1)]
    found = post_stratify(pairs, column=metric.column, confidence=1.0 - design.alpha)
    view: dict[str, Any] = {
        "strata": len(pairs),
        "plain_difference": None
        if min(side.n for side in whole) == 0
        else whole[0].mean(metric.column) - whole[1].mean(metric.column),
        **dict.fromkeys(("difference", "se", "low", "high", "p_value")),
    }
    if found is not None:
        view |= {key: getattr(found, key) for key in ("difference", "se", "low", "high", "p_value")}
    if metric.kind == "proportion":
        counts = [tuple(Counts(round(side.sum(metric.column)), side.n) for side in pair) for pair in pairs]
        view["cmh_p_value"] = cochran_mantel_haenszel([(arm, control) for arm, control in counts]).p_value
    return view
