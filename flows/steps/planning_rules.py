"""From a campaign file and the settings to the rules of a plan and the design of its experiment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from campaigns.arm_terms import Step
from campaigns.eligibility import HoldoutRule
from campaigns.model import Campaign
from campaigns.offers import AnyOffer, Offer, TieredOffer, expected_cost, offer_ends_at
from campaigns.plan import ArmRule, Limits, PlanRules, StepRule
from campaigns.send_times import StepTiming
from campaigns.tiers import TierRule
from campaigns.words import CONTROL, DEFAULT_TOPIC
from experiments.design import Design, Effect, Guardrail

if TYPE_CHECKING:
    import campaigns.experiment_terms
    from campaigns.book import CampaignFile
    from campaigns.units import Difference
    from flows.settings import Settings
    from flows.wiring import Workspace


def experiment_name(campaign: str, epoch: int) -> str:
    """The id of an experiment: the campaign and its epoch."""
    return f"{campaign}:{epoch}"


def arm_salt(settings: Settings, campaign: str, epoch: int) -> str:
    """The salt of the draw: another one for each workspace seed, campaign and epoch."""
    return f"{settings.seed}.arm.{campaign}.{epoch}"


def holdout_rule(settings: Settings, *, at: datetime) -> HoldoutRule:
    """The global holdout at an instant, with a salt of its own that every day of rotation changes."""
    base = f"{settings.seed}.{settings.holdout.salt}"
    day = settings.holdout.rotated_on(at)
    return HoldoutRule(settings.holdout.share, base if day is None else f"{base}.{day.date().isoformat()}")


def freeze_design(
    file: CampaignFile,
    settings: Settings,
    *,
    epoch: int,
    planned_n: int | None = None,
    guardrail_n: Mapping[str, int] | None = None,
) -> Design:
    """The design of the campaign's experiment in `epoch`, fixed before the first outcome."""
    campaign = file.campaign
    experiment = campaign.experiment
    return Design(
        experiment_id=experiment_name(campaign.name, epoch),
        campaign=campaign.name,
        epoch=epoch,
        salt=arm_salt(settings, campaign.name, epoch),
        unit=experiment.unit,
        weights=campaign.weights,
        control=CONTROL,
        horizon_days=experiment.horizon.total_seconds() / 86_400,
        lateness_days=settings.measurement.lateness.total_seconds() / 86_400,
        primary=experiment.primary,
        metrics=experiment.metrics,
        guardrails=tuple(_guardrail(name, rail) for name, rail in experiment.guardrails.items()),
        minimum_effect=Effect(experiment.minimum_effect.value, experiment.minimum_effect.kind),
        looks=experiment.looks,
        alpha=experiment.alpha,
        power=experiment.power,
        hypothesis=experiment.hypothesis,
        planned_n=planned_n,
        guardrail_n=tuple((guardrail_n or {}).items()),
        treatment=treatment_hash(file),
        segments=experiment.segments,
        allocation=experiment.allocation,
        winsorise=experiment.winsorise,
    )


def treatment_hash(file: CampaignFile) -> str:
    """SHA-256 of what the arms do and to whom: segment, steps, offers, timing. Wording of templates is left out.

    A promoted campaign is another experiment than the test that promoted it, even where the shares are the same.
    """
    campaign = file.campaign
    content: dict[str, object] = {
        "segment": file.segment_text,
        "arms": {name: arm.model_dump(mode="json", exclude={"weight"}) for name, arm in campaign.arms.items()},
        "timing": campaign.timing.model_dump(mode="json"),
        "offers": {name: repr(offer.terms) for name, offer in sorted(file.offers.items())},
    }
    if campaign.audience.trigger is not None:
        content["trigger"] = campaign.audience.trigger.model_dump(mode="json", exclude={"look_back"})
    if file.conditions:
        content["conditions"] = dict(sorted(file.conditions.items()))
    if campaign.experiment.expected_lift is not None:
        content["promoted"] = True
    if campaign.topic != DEFAULT_TOPIC:
        content["topic"] = campaign.topic
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plan_rules(file: CampaignFile, settings: Settings, *, epoch: int, as_of: datetime, left: Limits) -> PlanRules:
    """What decides the plan of one run of the campaign; `left` is what its budget has left."""
    campaign = file.campaign
    return PlanRules(
        as_of=as_of,
        salt=arm_salt(settings, campaign.name, epoch),
        arms=tuple(_arm_rule(campaign, name, file.offers, as_of) for name in campaign.arms),
        control_share=campaign.experiment.control,
        holdout=holdout_rule(settings, at=as_of),
        limits=left,
        default_zone=settings.policy.default_time_zone,
        quiet=settings.policy.quiet_window,
        prices={
            "sms": float(settings.prices.sms.amount),
            "email": float(settings.prices.email.amount),
            "push": float(settings.prices.push.amount),
        },
        allow_open_complaint=campaign.audience.allow_open_complaint,
        unit=campaign.experiment.unit,
        holdback_salt=f"{settings.seed}.holdback.{campaign.name}",
    )


def config_hash(ws: Workspace, file: CampaignFile) -> str:
    """SHA-256 over everything the marketers wrote that decides a run: campaign, offers, segments, templates."""
    names = sorted(
        {(c, step.template) for arm in file.campaign.arms.values() for step in arm.steps for c in step.channels}
    )
    content = {
        "campaign": file.text_sha256,
        "offers": _file_hash(ws, "campaigns/book/offers.yaml"),
        "segments": _file_hash(ws, "campaigns/book/segments.yaml"),
        "templates": {
            str(path.relative_to(ws.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for channel, template in names
            for path in sorted((ws.root / "templates" / channel).glob(f"{template}.*"))
        },
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file_hash(ws: Workspace, relative: str) -> str | None:
    path = ws.root / relative
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _arm_rule(campaign: Campaign, name: str, offers: Mapping[str, AnyOffer], as_of: datetime) -> ArmRule:
    arm = campaign.arms[name]
    offer = offers[arm.offer] if arm.offer else None
    return ArmRule(
        name=name,
        share=arm.weight,
        steps=tuple(
            rule for number, step in enumerate(arm.steps, start=1) for rule in _turns(campaign, name, number, step)
        ),
        offer=arm.offer,
        offer_ends_at=offer_ends_at(offer, as_of=as_of) if offer else None,
        discount_cost=float(expected_cost(offer).amount) if isinstance(offer, Offer) else 0.0,
        tiers=TierRule.of(offer) if isinstance(offer, TieredOffer) else None,
    )


def _turns(campaign: Campaign, arm: str, number: int, step: Step) -> Iterator[StepRule]:
    """The messages of a step: one, or as many as come again at most, each so long after the one before."""
    timing = step_timing(campaign, arm, step)
    for turn in range(1, step.turns + 1):
        if step.repeat is not None and turn > 1:
            timing = replace(timing, after=step.repeat.every)
        yield StepRule(step.channels, step.template, timing, number, turn)


def step_timing(campaign: Campaign, arm: str, step: Step) -> StepTiming:
    """When a step of an arm may leave: its own timing, then the arm's, then the campaign's."""
    timing = campaign.timing_of(arm, step)
    return StepTiming(
        after=step.after,
        window=timing.window.window,
        if_late=timing.if_late,
        max_lateness=timing.max_lateness,
        at=timing.at,
        explore=timing.explore,
        spread=timing.spread,
        holidays_off=timing.on_holidays == "wait",
    )


def _guardrail(metric: str, rail: campaigns.experiment_terms.Guardrail) -> Guardrail:
    """The guardrail with its margin, which is absolute or a share of control's value."""
    margin = rail.max_increase or rail.max_decrease
    kind = "absolute" if margin is None else margin.kind
    return Guardrail(metric, _value(rail.max_increase), _value(rail.max_decrease), kind)


def _value(difference: Difference | None) -> float | None:
    return None if difference is None else difference.value
