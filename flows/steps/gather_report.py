"""Gathers everything a report of an experiment shows: campaign, funnel, results, decision."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.steps.decide_experiment import Decided, read_verdict
from flows.steps.measure_experiment import Measurement, measure_experiment
from warehouse.ledger.counts import MessageCounts, counts
from warehouse.ledger.programme import latest_programme
from warehouse.ledger.results import decisions
from warehouse.ledger.switches import EVERYTHING, switches

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from flows.wiring import Workspace


def gather_report(ws: Workspace, campaign: str, *, now: datetime, decided: Decided | None = None) -> dict[str, Any]:
    """The data of `web.report.render_report` for a campaign's running (else latest) experiment.

    Without `decided` it is measured as of `now`, and the last recorded decision is shown where there is one.
    """
    file = ws.campaign(campaign)
    measurement = decided.measurement if decided is not None else measure_experiment(ws, campaign, now=now)
    experiment = measurement.design.experiment_id
    with ws.ledger.read() as tx:
        funnel = counts(tx, experiment)
        taken = decisions(tx, experiment)
        programme = latest_programme(tx)
        stopped = [switch for switch in switches(tx) if switch.paused]
    data = measurement.to_json()
    for arm, described in describe_arms(file).items():
        data["arms"].setdefault(arm, {"assigned": 0, "mature": 0}).update(described)
    data |= {
        "campaign": campaign,
        "description": file.campaign.description,
        "owner": file.campaign.owner,
        "currency": ws.settings.prices.sms.currency,
        "design": measurement.design.to_json(),
        "funnel": _funnel(funnel),
        "paused": {s.scope: s.reason for s in stopped if s.scope.partition("/")[0] in (campaign, EVERYTHING)},
    }
    if programme is not None:
        data["programme"] = dict(programme.measurement)
    if taken:
        data["decision"] = {
            **asdict(read_verdict(dict(taken[-1].evidence["verdict"]))),
            "decision_id": taken[-1].decision_id,
        }
    if decided is not None:
        data |= {"diff": decided.feedback.diff, "changed_files": [p.name for p in decided.feedback.changed_files]}
    return data


def describe_arms(file: CampaignFile) -> dict[str, dict[str, Any]]:
    """The arms of a campaign's file: what each offers and sends."""
    return {
        name: {
            "offer": arm.offer or "",
            "steps": [f"{step.channel}: {step.template}" for step in arm.steps],
        }
        for name, arm in file.campaign.arms.items()
    }


def _funnel(counted: MessageCounts) -> dict[str, dict[str, int]]:
    return {arm: dict(fates) for arm, fates in counted.by_arm.items()}


__all__ = ["Measurement", "describe_arms", "gather_report"]
