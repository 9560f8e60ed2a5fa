"""Plans one run of a campaign: reads facts and ledger, changes nothing, and writes plan.json when asked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.errors import CampaignError
from campaigns.model import Campaign
from campaigns.plan import Plan, PlanRules, make_plan
from campaigns.tiers import tier_features
from campaigns.words import CONTROL
from flows.steps.allocate_wave import Allocation, allocate_wave
from flows.steps.approve_launch import limits_passed
from flows.steps.competition import yield_to_higher
from flows.steps.consent_standing import add_consent
from flows.steps.describe_journey import describe_journey
from flows.steps.expected_power import ExpectedPower, expect_power, find_past
from flows.steps.ledger_standing import Epoch, budget_left, find_epoch, read_standing
from flows.steps.offer_codes import describe_codes
from flows.steps.planning_rules import config_hash, freeze_design, plan_rules
from flows.steps.power_forecast import Forecast, forecast, supply_of
from flows.steps.select_audience import select_audience
from flows.steps.timing_facts import describe_rules, timing_features, with_best_hours
from flows.steps.validate_book import refuse_broken_words
from warehouse.ledger.waves import wave_id_of

if TYPE_CHECKING:
    import pandas as pd

    from campaigns.book import CampaignFile
    from experiments.design import Design
    from flows.wiring import Workspace

PLAN_FORMAT: Final = 1


@dataclass(frozen=True)
class PlannedCampaign:
    """A plan with everything it was made from; `summary` is what `retain plan --json` prints."""

    file: CampaignFile
    design: Design
    epoch: Epoch
    plan: Plan
    allocation: Allocation
    summary: dict[str, Any]

    @property
    def as_of(self) -> datetime:
        """The instant as of which customers were selected."""
        return datetime.fromisoformat(self.summary["as_of"])

    @property
    def plan_hash(self) -> str:
        """SHA-256 of what the plan would do: experiment, instant, arms and messages."""
        return str(self.summary["hashes"]["plan"])

    @property
    def wave_id(self) -> str:
        """The id of the wave that applying the plan records."""
        return wave_id_of(self.epoch.experiment_id, self.as_of)

    @property
    def stamp(self) -> str:
        """The as-of instant as part of a file name."""
        return stamp_of(self.as_of)

    def write(self, folder: Path) -> Path:
        """Write plan.json and assignments.csv into `folder`; the same plan gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        self.plan.assignments[["customer_id", "arm"]].to_csv(
            folder / "assignments.csv", index=False, lineterminator="\n"
        )
        path = folder / "plan.json"
        text = json.dumps(self.summary, ensure_ascii=False, sort_keys=True, allow_nan=False, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def stamp_of(moment: datetime) -> str:
    """An instant as part of a file name: 20260301T090000Z."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def plan_campaign(
    ws: Workspace, name: str, *, as_of: datetime, may_refuse: bool = True, known: dict[str, Plan] | None = None
) -> PlannedCampaign:
    """Plan a run of the campaign `name` as of an instant: who takes part, in which arm, with which messages.

    Without `may_refuse` an underpowered experiment is only warned of, whatever the settings say. `known`: plans of
    competing campaigns that were made for the same question.
    Raises CampaignError where the book has no such campaign, BookErrors where its files are wrong, FactsError and
    LedgerError where these cannot be read.
    """
    file = ws.campaign(name)
    campaign = file.campaign
    notes = refuse_broken_words(ws, file)
    epoch = find_epoch(ws, file)
    standing = read_standing(ws, campaign, epoch, as_of=as_of)
    extra = tier_features(file.offers.values())
    extra = (*extra, *timing_features(campaign))
    candidates = select_audience(ws, file, as_of=as_of, extra=extra, phone_origins=True)
    candidates = with_best_hours(ws, campaign, candidates, as_of=as_of)
    standing = add_consent(ws, campaign, standing, candidates)
    planner = partial(_plan_once, ws, {} if known is None else known, may_refuse)
    standing = yield_to_higher(ws, file, epoch, standing, as_of=as_of, plan=planner)
    left = budget_left(ws, file, epoch, as_of=as_of)
    rules = plan_rules(file, ws.settings, epoch=epoch.number, as_of=as_of, left=left)
    design = freeze_design(file, ws.settings, epoch=epoch.number)
    allocation = allocate_wave(ws, design, epoch, as_of=as_of)
    plan = make_plan(candidates, standing, _share_out(rules, allocation))
    units = _count_units(plan, campaign)
    notes += _say_households(file, candidates)
    treated = [units[arm] for arm, weight in campaign.weights if arm != CONTROL and weight > 0]
    past = find_past(ws, file, design, as_of=as_of, members=candidates["customer_id"])
    power = expect_power(past.moments, design, n_arm=min(treated, default=0), n_control=units[CONTROL])
    supply = supply_of(campaign, plan, past, assigned=len(standing.already_assigned), as_of=as_of)
    outlook = forecast(ws, campaign, design, power, past, supply)
    if epoch.is_new and plan.eligible:
        notes += _check_power(ws, file, outlook, may_refuse=may_refuse)
    if epoch.is_new:
        planned_n, guardrail_n = outlook.planned_sizes(power)
        design = freeze_design(file, ws.settings, epoch=epoch.number, planned_n=planned_n, guardrail_n=guardrail_n)
    summary = _summarise(ws, file, plan, power, epoch, as_of)
    _say_shares(summary, allocation)
    summary["power"] |= outlook.to_json()
    summary["codes"], short = describe_codes(ws, file, plan.messages, epoch, as_of=as_of)
    passed = [f"the launch needs a second person's approval: {reason}" for reason in limits_passed(ws, plan)]
    summary["warnings"] += [*notes, *short, *passed]
    summary["hashes"]["content"] = content_hash(summary)
    return PlannedCampaign(file=file, design=design, epoch=epoch, plan=plan, allocation=allocation, summary=summary)


def _plan_once(ws: Workspace, known: dict[str, Plan], may_refuse: bool, name: str, as_of: datetime) -> Plan:
    """A competing campaign's plan, made once for each question."""
    if name not in known:
        known[name] = plan_campaign(ws, name, as_of=as_of, may_refuse=may_refuse, known=known).plan
    return known[name]


def _share_out(rules: PlanRules, allocation: Allocation) -> PlanRules:
    """The rules with the wave's own shares."""
    shares = dict(allocation.weights)
    arms = tuple(replace(arm, share=shares[arm.name]) for arm in rules.arms)
    return replace(rules, arms=arms, control_share=shares[CONTROL])


def _say_shares(summary: dict[str, Any], allocation: Allocation) -> None:
    summary["allocation"] = allocation.to_json()
    for arm, share in allocation.weights:
        summary["arms"][arm]["weight"] = share


def _check_power(ws: Workspace, file: CampaignFile, outlook: Forecast, *, may_refuse: bool) -> list[str]:
    """What there is to say about an experiment that is out of reach. Raises CampaignError where settings refuse it."""
    if outlook.problem is None:
        return []
    promoted = file.campaign.experiment.expected_lift is not None  # what a holdback measures is decided already
    if ws.settings.measurement.underpowered == "refuse" and may_refuse and not promoted:
        raise CampaignError(
            f"{file.path}: {file.campaign.name} is underpowered: {outlook.problem}; nothing is planned, as "
            'measurement.underpowered = "refuse" in retain.toml says'
        )
    return [f"underpowered: {outlook.problem}"]


def _summarise(
    ws: Workspace, file: CampaignFile, plan: Plan, power: ExpectedPower, epoch: Epoch, as_of: datetime
) -> dict[str, Any]:
    campaign = file.campaign
    counts = _count_arms(plan, campaign)
    wait = campaign.experiment.horizon + ws.settings.measurement.lateness
    currency = ws.settings.prices.sms.currency
    summary: dict[str, Any] = {
        "format": PLAN_FORMAT,
        "campaign": campaign.name,
        "experiment": epoch.experiment_id,
        "new_epoch": epoch.is_new,
        "as_of": as_of.isoformat(),
        "audience": plan.audience,
        "eligible": plan.eligible,
        "skipped": dict(plan.skipped),
        "arms": {arm: _arm_summary(plan, arm, n, dict(campaign.weights)[arm]) for arm, n in counts.items()},
        "journey": describe_journey(ws, file, as_of=as_of),
        **describe_rules(plan),
        "cost": {
            "messages": f"{plan.message_cost:.2f} {currency}",
            "fallbacks": f"{plan.fallback_cost:.2f} {currency}",
            "discounts": f"{plan.discount_liability:.2f} {currency}",
        },
        "offers": [
            {"arm": str(arm), "offer": str(offer), "customers": int(n), "cost": f"{cost:.2f} {currency}"}
            for arm, offer, n, cost in plan.promised[["arm", "offer", "customers", "cost"]].itertuples(index=False)
        ],
        "power": power.to_json(),
        "decision_on": (as_of + wait).date().isoformat(),
        "warnings": _warnings(file, plan, power, as_of=as_of),
        "hashes": {
            "config": config_hash(ws, file),
            "facts": ws.facts.fingerprint(),
            "assignments": _digest(plan.assignments),
        },
    }
    summary["hashes"]["plan"] = plan_hash(summary, plan.messages)
    return summary


def content_hash(summary: dict[str, Any]) -> str:
    """SHA-256 of all that a plan.json says, so that a file that was edited by hand is noticed."""
    hashes = {name: value for name, value in summary["hashes"].items() if name != "content"}
    return hashlib.sha256(json.dumps({**summary, "hashes": hashes}, sort_keys=True).encode()).hexdigest()


def plan_hash(summary: dict[str, Any], messages: pd.DataFrame) -> str:
    """SHA-256 of what a plan would do; facts that moved without changing anything leave it as it is."""
    kinds = ["arm", "offer", "step", "turn", "channel", "zones", "place", "not_before", "closes_at", "expires_at"]
    # by the hour: where messages are spread every one has a moment of its own, which the rest of the plan decides
    messages = messages.fillna({"offer": ""}).assign(not_before=messages["not_before"].dt.floor("h"))
    groups = messages.groupby(kinds, sort=True).size().reset_index(name="n")
    content = {
        "experiment": summary["experiment"],
        "as_of": summary["as_of"],
        "config": summary["hashes"]["config"],
        "assignments": summary["hashes"]["assignments"],
        "messages": [[str(value) for value in row] for row in groups.itertuples(index=False)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _count_arms(plan: Plan, campaign: Campaign) -> dict[str, int]:
    found = plan.assignments["arm"].value_counts()
    return {arm: int(found.get(arm, 0)) for arm, _ in campaign.weights}


def _say_households(file: CampaignFile, candidates: pd.DataFrame) -> list[str]:
    """What to say where households are drawn and nobody has one."""
    if file.campaign.experiment.unit != "household" or candidates.empty or candidates["household_id"].notna().any():
        return []
    return [
        "nobody of the audience has a household_id, so everybody is a household alone; load the column household_id"
    ]


def _count_units(plan: Plan, campaign: Campaign) -> dict[str, int]:
    """Customers by arm, or households where these are drawn."""
    found = plan.assignments.assign(unit=plan.assignments["unit"].fillna(plan.assignments["customer_id"]))
    units = found.groupby("arm")["unit"].nunique()
    return {arm: int(units.get(arm, 0)) for arm, _ in campaign.weights}


def _arm_summary(plan: Plan, arm: str, n: int, weight: float) -> dict[str, Any]:
    messages = plan.messages[plan.messages["arm"] == arm]
    by_channel = messages["channel"].value_counts().sort_index()
    return {
        "planned": n,
        "share": n / plan.eligible if plan.eligible else 0.0,
        "weight": weight,
        "messages": len(messages),
        "channels": {str(channel): int(count) for channel, count in by_channel.items()},
        "first_send": None if messages.empty else messages["not_before"].min().isoformat(),
        "last_send": None if messages.empty else messages["not_before"].max().isoformat(),
    }


def _warnings(file: CampaignFile, plan: Plan, power: ExpectedPower, *, as_of: datetime) -> list[str]:
    campaign = file.campaign
    texts = []
    if plan.audience == 0:
        texts.append(
            f"{file.segment_place}: the segment of {campaign.name} is empty as of {as_of.date()}; "
            "check its expression and the data (retain features)"
        )
    elif plan.eligible == 0:
        texts.append("nobody of the audience may take part; the reasons are counted above")
    if campaign.status in ("paused", "archived"):
        texts.append(f"{campaign.name} is {campaign.status}: the plan cannot be applied; set status: active to run it")
    if campaign.status == "draft":
        texts.append(f"{campaign.name} is a draft: it runs only by hand; set status: active to have it scheduled")
    trigger, again = campaign.audience.trigger, plan.skipped.get("already_assigned", 0)
    if trigger is not None and again:
        known = "after" if campaign.audience.reentry_after else "if the file names"
        texts.append(
            f"{again:,} customers whose moment has come again have an arm in this experiment already and stay out; "
            f"a later experiment takes them in again, {known} audience.reentry_after"
        )
    if campaign.experiment.control == 0:
        texts.append("without a control share nothing can be measured; give experiment.control a share")
    if plan.zone_sources.get("default"):
        texts.append(
            f"{plan.zone_sources['default']:,} customers have no zone and no country; policy.default_time_zone is used"
        )
    if plan.eligible and power.power is not None and power.power < campaign.experiment.power:
        texts.append(
            f"this run alone finds the minimum effect with a chance of {power.power:.0%} only; it needs "
            f"{power.needed_per_arm:,} customers in the smallest arm (later runs add to it)"
        )
    return texts


def _digest(assignments: pd.DataFrame) -> str:
    lines = (assignments["customer_id"] + "," + assignments["arm"]).tolist()
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
