"""Flow measure-experiments: results of every running experiment, or of one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from flows.run_context import artifact_key, named_by, publish_table, scheduled_at, workspace_of
from flows.steps.measure_experiment import measurable_campaigns, measure_experiment

FIELDS = {
    "metric": "metric",
    "arm": "arm",
    "n": "n_arm",
    "n control": "n_control",
    "value": "arm_value",
    "control": "control_value",
    "difference": "difference",
    "low": "low",
    "high": "high",
    "p adjusted": "p_adjusted",
    "method": "method",
    "status": "status",
}
"""Column of the artifact -> field of a result."""


@task(retries=2, retry_delay_seconds=60)
def find_measurable(workspace: str | None) -> list[str]:
    """The campaigns with an experiment that still runs. Reads only."""
    with workspace_of(workspace) as ws:
        return measurable_campaigns(ws)


@task(retries=2, retry_delay_seconds=60)
def measure(campaign: str, workspace: str | None, now: datetime) -> dict[str, Any]:
    """Measure one campaign's experiment. Safe to retry: the same data give the same results."""
    with workspace_of(workspace) as ws:
        return measure_experiment(ws, campaign, now=now).to_json()


@flow(name="measure-experiments", flow_run_name=lambda: f"measure {named_by('campaign')}", log_prints=False)
def measure_experiments(
    campaign: str | None = None, workspace: str | None = None, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Measure `campaign`, or every campaign with a running experiment; publish a table of results for each."""
    moment = scheduled_at(now)
    measured = [measure(name, workspace, moment) for name in ([campaign] if campaign else find_measurable(workspace))]
    for outcome in measured:
        rows = [[result[field] for field in FIELDS.values()] for result in outcome["results"]]
        title = f"{outcome['experiment']} as of {outcome['as_of']}"
        publish_table(artifact_key("results", outcome["campaign"]), title=title, columns=list(FIELDS), rows=rows)
    return measured
