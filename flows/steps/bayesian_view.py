"""The Bayesian view of the primary metric: chance to beat control and expected losses, beside the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from campaigns.errors import CampaignError
from experiments.bayes import beta_chance, gaussian_lift
from experiments.metrics import METRICS
from experiments.proportions import Counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.design import Design
    from experiments.results import Result
    from flows.steps.collect_outcomes import Collected
    from flows.steps.past_effects import Prior
    from flows.wiring import Workspace


def wants_bayesian(ws: Workspace, campaign: str) -> bool:
    """Whether the campaign's file asks for the view; a file that is gone or broken asks for nothing."""
    try:
        return ws.campaign(campaign).campaign.experiment.bayesian
    except CampaignError:
        return False


def describe_posteriors(
    design: Design, collected: Collected, results: Sequence[Result], prior: Prior | None
) -> list[dict[str, Any]]:
    """Posteriors of every arm's effect on the primary: with a flat prior, and with the one from past campaigns.

    A share has Beta-Binomial posteriors from Beta(1, 1), everything else a normal one from a flat prior (so has a share
    of waves whose shares were learnt: it has no one count of successes). Losses are in the metric's unit: what choosing
    the arm (or control) is expected to cost where it is the worse one.
    """
    views: list[dict[str, Any]] = []
    for result in results:
        if result.metric != design.primary or not result.usable or result.difference is None or not result.se:
            continue
        views.append({"metric": result.metric, "arm": result.arm, **_flat(design, collected, result)})
        if prior is not None:
            text = f"normal, mean 0, sd {prior.sd:.4g} ({prior.past_effects} past effects)"
            views.append({"metric": result.metric, "arm": result.arm, **_gaussian(design, result, prior.sd, text)})
    return views


def _flat(design: Design, collected: Collected, result: Result) -> dict[str, Any]:
    metric = METRICS[result.metric]
    view = _gaussian(design, result, None, "flat")
    if metric.kind == "proportion" and design.allocation == "fixed":
        arm, control = (collected.outcomes[name] for name in (result.arm, design.control))
        chance = beta_chance(
            Counts(round(arm.sum(metric.column)), arm.n), Counts(round(control.sum(metric.column)), control.n)
        )
        view |= {
            "prior": "Beta(1, 1) for both shares",
            "chance_to_beat_control": chance.arm_beats_control,
            "loss_of_arm": chance.loss_of_arm,
            "loss_of_control": chance.loss_of_control,
        }
    return view


def _gaussian(design: Design, result: Result, prior_sd: float | None, text: str) -> dict[str, Any]:
    lift = gaussian_lift(result.difference or 0.0, result.se or 0.0, prior_sd=prior_sd)
    low, high = lift.posterior.interval(1.0 - design.alpha)
    return {
        "prior": text,
        "mean": lift.posterior.mean,
        "low": low,
        "high": high,
        "chance_to_beat_control": lift.chance_to_beat_control,
        "loss_of_arm": lift.loss_of_arm,
        "loss_of_control": lift.loss_of_control,
    }
