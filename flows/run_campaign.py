"""Flow run-campaign: plan and apply one campaign as of an instant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from flows.run_context import artifact_key, named_by, publish_table, scheduled_at, workspace_of
from flows.steps.run_campaign import run_campaign as run_step


@task(retries=2, retry_delay_seconds=60)
def plan_and_apply(campaign: str, workspace: str | None, as_of: datetime) -> dict[str, Any]:
    """Plan and apply. Safe to retry: applied once for each as-of instant, resumed where it stopped."""
    with workspace_of(workspace) as ws:
        return run_step(ws, campaign, as_of=as_of).to_json()


@flow(name="run-campaign", flow_run_name=lambda: f"run {named_by('campaign')}", log_prints=False)
def run_campaign(campaign: str, workspace: str | None = None, as_of: datetime | None = None) -> dict[str, Any]:
    """Select, randomise and queue the messages of `campaign` as of an instant; publish who takes part."""
    moment = scheduled_at(as_of)
    outcome = plan_and_apply(campaign, workspace, moment)
    publish_run(outcome)
    return outcome


def publish_run(outcome: dict[str, Any]) -> None:
    """Publish one run's counts: arms first, then the reasons of those left out."""
    rows: list[tuple[str, object]] = [("audience", outcome["audience"]), ("eligible", outcome["eligible"])]
    rows += [(f"arm {arm}", n) for arm, n in outcome["assigned"].items()]
    rows += [(f"left out: {reason}", n) for reason, n in outcome["skipped"].items()]
    title = f"{outcome['campaign']} as of {outcome['as_of']}"
    publish_table(artifact_key("run", outcome["campaign"]), title=title, columns=("", "customers"), rows=rows)
