"""Flow decide-experiments: a verdict for every running experiment, or for one, and the feedback it calls for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from flows.measure_experiments import find_measurable
from flows.run_context import artifact_key, named_by, publish_table, scheduled_at, workspace_of
from flows.steps.decide_experiment import decide_experiment


@task  # no retries: a decision is appended once; the next night's run looks again
def decide(campaign: str, workspace: str | None, now: datetime) -> dict[str, Any]:
    """Decide one campaign's experiment and act as its feedback mode says."""
    with workspace_of(workspace) as ws:
        return decide_experiment(ws, campaign, now=now).to_json()


@flow(name="decide-experiments", flow_run_name=lambda: f"decide {named_by('campaign')}", log_prints=False)
def decide_experiments(
    campaign: str | None = None, workspace: str | None = None, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Decide `campaign`, or every campaign with a running experiment; publish each verdict with its gates."""
    moment = scheduled_at(now)
    decided = [decide(name, workspace, moment) for name in ([campaign] if campaign else find_measurable(workspace))]
    for outcome in decided:
        rows = [(r["gate"], r["code"], r["value"], r["threshold"], r["passed"]) for r in outcome["decision"]["reasons"]]
        title = f"{outcome['campaign']}: {outcome['decision']['verdict']} {outcome['decision']['arm'] or ''}".strip()
        key = artifact_key("decision", outcome["campaign"])
        publish_table(key, title=title, columns=("gate", "code", "value", "threshold", "passed"), rows=rows)
    return decided
