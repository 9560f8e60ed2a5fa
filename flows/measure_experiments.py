"""Flow measure-experiments: results of every running experiment, or of one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from prefect import flow, task

from experiments.errors import ExperimentError
from flows.result_page import artifact_key, publish_table
from flows.run_context import may_pass, named_by, one_by_one, scheduled_at, workspace_of
from flows.steps.measure_experiment import measurable_campaigns, measure_experiment
from flows.steps.programme import measure_programme

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


@task(task_run_name="measure the programme", retries=2, retry_delay_seconds=60, retry_condition_fn=may_pass,
      persist_result=False)  # fmt: skip  # safe: the same data give the same results
def measure_whole(workspace: str | None, now: datetime) -> dict[str, Any] | None:
    """Measure all campaigns together against the global holdout; None where there is none, or too little is known."""
    with workspace_of(workspace) as ws:
        if ws.settings.holdout.share == 0.0:
            return None
        try:
            return measure_programme(ws, now=now).to_json()
        except ExperimentError:
            return None


@flow(
    name="measure-experiments",
    flow_run_name=lambda: f"measure {named_by('campaign')}",
    persist_result=False,
)
def measure_experiments(
    campaign: str | None = None, workspace: str | None = None, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Measure `campaign`, or every campaign with a running experiment; publish a table of results for each.

    Without `campaign` the whole programme is measured too, where there is a global holdout.

    Raises ExceptionGroup after the others were measured, where campaigns failed.
    """
    moment = scheduled_at(now)

    whole = measure_whole(workspace, moment) if campaign is None else None
    if whole is not None:
        title = f"the whole programme from {whole['from']} to {whole['to']}"
        publish_table("programme", title=title, columns=list(COLUMNS), rows=_rows(whole["results"]))

    def run(name: str) -> dict[str, Any]:
        outcome = measure(name, workspace, moment)
        rows = _rows(outcome["results"])
        title = f"{outcome['experiment']} as of {outcome['as_of']}"
        publish_table(artifact_key("results", name), title=title, columns=list(COLUMNS), rows=rows)
        return outcome

    return one_by_one(run, [campaign] if campaign else find_measurable(workspace))


def _rows(results: list[dict[str, Any]]) -> list[list[Any]]:
    return [[result[field] for field in COLUMNS.values()] for result in results]
