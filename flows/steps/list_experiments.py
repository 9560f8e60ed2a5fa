"""What the ledger knows of every experiment: the list, and the recorded report of each. Nothing is measured anew."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from campaigns.errors import CampaignError
from experiments.design import Design
from flows.steps.decide_experiment import read_verdict
from flows.steps.gather_report import describe_arms
from flows.steps.ledger_standing import find_epoch
from warehouse.ledger.counts import counts
from warehouse.ledger.experiments import ExperimentRow, experiments
from warehouse.ledger.results import decisions, latest_measurement
from warehouse.ledger.waves import waves

if TYPE_CHECKING:
    from flows.wiring import Workspace


def list_experiments(ws: Workspace) -> list[dict[str, Any]]:
    """Every experiment, the latest first: its state, size, last measurement and last verdict."""
    listed = []
    with ws.ledger.read() as tx:
        for row in sorted(experiments(tx), key=lambda row: (row.started_at, row.experiment_id), reverse=True):
            measured = latest_measurement(tx, row.experiment_id)
            taken = decisions(tx, row.experiment_id)
            listed.append(
                {
                    "experiment": row.experiment_id,
                    "campaign": row.campaign,
                    "status": row.status,
                    "started_at": row.started_at.isoformat(),
                    "assigned": sum(_assigned(tx, row).values()),
                    "messages": counts(tx, row.experiment_id).total,
                    "measured_at": None if measured is None else measured.measured_at.isoformat(),
                    "verdict": taken[-1].verdict if taken else None,
                    "arm": taken[-1].arm if taken else None,
                    "decided_at": taken[-1].decided_at.isoformat() if taken else None,
                }
            )
    return listed


def recorded_report(ws: Workspace, experiment_id: str) -> dict[str, Any] | None:
    """The data of `web.report.report_html` for one experiment: its last recorded measurement and decision.

    None where there is no such experiment.
    """
    with ws.ledger.read() as tx:
        row = next((row for row in experiments(tx) if row.experiment_id == experiment_id), None)
        if row is None:
            return None
        measured = latest_measurement(tx, experiment_id)
        taken = decisions(tx, experiment_id)
        assigned = _assigned(tx, row)
        funnel = counts(tx, experiment_id).by_arm
    design = Design.from_json(row.design)
    arms = {arm: {"assigned": assigned[arm], "mature": 0} for arm, _ in design.weights}
    data: dict[str, Any] = {
        "experiment": experiment_id,
        "arms": arms,
        "results": [],
        "as_of": row.started_at.isoformat(),
    }
    if measured is not None:
        data |= dict(measured.measurement)
    data |= {
        "campaign": row.campaign,
        "currency": ws.settings.prices.sms.currency,
        "design": design.to_json(),
        "funnel": {arm: dict(fates) for arm, fates in funnel.items()},
    }
    if taken:
        data["decision"] = asdict(read_verdict(dict(taken[-1].evidence["verdict"])))
        data["decision"]["decision_id"] = taken[-1].decision_id
    return data | _described(ws, row, data["arms"])


def _assigned(tx: Any, row: ExperimentRow) -> Counter[str]:
    total: Counter[str] = Counter()
    for wave in waves(tx, row.experiment_id):
        if wave.recorded is not None:
            total.update(wave.recorded["assigned"])
    return total


def _described(ws: Workspace, row: ExperimentRow, arms: dict[str, Any]) -> dict[str, Any]:
    """What the campaign's file says, as long as it is still the file of this experiment."""
    try:
        file = ws.campaign(row.campaign)
    except CampaignError:
        return {}
    if find_epoch(ws, file).experiment_id != row.experiment_id:
        return {"description": file.campaign.description, "owner": file.campaign.owner}
    described = describe_arms(file)
    return {
        "description": file.campaign.description,
        "owner": file.campaign.owner,
        "arms": {arm: {**counted, **described.get(arm, {})} for arm, counted in arms.items()},
    }
