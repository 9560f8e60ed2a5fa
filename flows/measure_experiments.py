"""Flow measure-experiments: results of every running experiment, or of one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from prefect import flow, task

from flows.result_page import artifact_key, publish_table
from flows.run_context import may_pass, named_by, one_by_one, scheduled_at, workspace_of
from flows.steps.measure_experiment import measurable_campaigns, measure_experiment

COLUMNS: Final[Mapping[str, str]] = {
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
"""Column of the result page -> field of a result."""


@task(retries=2, retry_delay_seconds=60, retry_condition_fn=may_pass, persist_result=False)  # reads only
def find_measurable(workspace: str | None) -> list[str]:
    """The campaigns with an experiment that still runs."""
    with workspace_of(workspace) as ws:
        return measurable_campaigns(ws)


@task(
    task_run_name="measure {campaign}",
    retries=2,  # safe: the same data give the same results
    retry_delay_seconds=60,
    retry_condition_fn=may_pass,
    persist_result=False,
)
def measure(campaign: str, workspace: str | None, now: datetime) -> dict[str, Any]:
    """Measure one campaign's experiment. Gives counts and results by arm."""
    with workspace_of(workspace) as ws:
        return measure_experiment(ws, campaign, now=now).to_json()


@flow(
    name="measure-experiments",
    flow_run_name=lambda: f"measure {named_by('campaign')}",
    persist_result=False,
)
def measure_experiments(
    campaign: str | None = None, workspace: str | None = None, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Measure `campaign`, or every campaign with a running experiment; publish a table of results for each.

    Raises ExceptionGroup after the others were measured, where campaigns failed.
    """
    moment = scheduled_at(now)

    def run(name: str) -> dict[str, Any]:
        outcome = measure(name, workspace, moment)
        rows = [[result[field] for field in COLUMNS.values()] for result in outcome["results"]]
        title = f"{outcome['experiment']} as of {outcome['as_of']}"
        publish_table(artifact_key("results", name), title=title, columns=list(COLUMNS), rows=rows)
        return outcome

    return one_by_one(run, [campaign] if campaign else find_measurable(workspace))
