"""Flow decide-experiments: a verdict for every running experiment, or for one, and the feedback it calls for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from flows.measure_experiments import find_measurable
from flows.result_page import artifact_key, publish_table
from flows.run_context import named_by, one_by_one, scheduled_at, workspace_of
from flows.steps.decide_experiment import decide_experiment


@task(task_run_name="decide {campaign}", persist_result=False)  # no retries: a decision is appended, never edited
def decide(campaign: str, workspace: str | None, now: datetime) -> dict[str, Any]:
    """Decide one campaign's experiment and act as its feedback mode says. Gives the verdict with its reasons."""
    with workspace_of(workspace) as ws:
        outcome = decide_experiment(ws, campaign, now=now).to_json()
    return {name: outcome[name] for name in ("campaign", "experiment", "as_of", "decision", "changed_files")}


@flow(name="decide-experiments", flow_run_name=lambda: f"decide {named_by('campaign')}", persist_result=False)
def decide_experiments(
    campaign: str | None = None, workspace: str | None = None, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Decide `campaign`, or every campaign with a running experiment; publish each verdict with its gates.

    Raises ExceptionGroup after the others were decided, where campaigns failed.
    """
    moment = scheduled_at(now)

    def run(name: str) -> dict[str, Any]:
        outcome = decide(name, workspace, moment)
        publish_verdict(outcome)
        return outcome

    return one_by_one(run, [campaign] if campaign else find_measurable(workspace))


def publish_verdict(outcome: dict[str, Any]) -> None:
    """Publish one verdict with the gates it went through."""
    decision = outcome["decision"]
    rows = [(r["gate"], r["code"], r["value"], r["threshold"], r["passed"], r["text"]) for r in decision["reasons"]]
    title = f"{outcome['campaign']}: {decision['verdict']} {decision['arm'] or ''}".strip()
    columns = ("gate", "code", "value", "threshold", "passed", "in words")
    publish_table(artifact_key("decision", outcome["campaign"]), title=title, columns=columns, rows=rows)
