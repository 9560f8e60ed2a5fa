"""Flow run-due-campaigns: every active campaign whose schedule has come round since yesterday."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from flows.run_campaign import plan_and_apply, publish_run
from flows.run_context import named_by, publish_table, scheduled_at, workspace_of
from flows.steps.run_campaign import DueCampaign, due_campaigns


@task(retries=2, retry_delay_seconds=30)
def find_due(workspace: str | None, now: datetime) -> list[DueCampaign]:
    """The campaigns that are due at `now`. Reads only."""
    with workspace_of(workspace) as ws:
        return due_campaigns(ws, now=now)


@flow(name="run-due-campaigns", flow_run_name=lambda: f"due {named_by()}", log_prints=False)
def run_due_campaigns(workspace: str | None = None, now: datetime | None = None) -> list[dict[str, Any]]:
    """Run every due campaign as of the instant its own schedule names. A second run on the same day changes nothing."""
    moment = scheduled_at(now)
    outcomes = []
    for due in find_due(workspace, moment):
        outcome = plan_and_apply(due.campaign, workspace, due.as_of)
        publish_run(outcome)
        outcomes.append(outcome)
    rows = [(o["campaign"], o["as_of"], o["audience"], o["eligible"]) for o in outcomes]
    publish_table(
        "due-campaigns", title="Due campaigns", columns=("campaign", "as of", "audience", "eligible"), rows=rows
    )
    return outcomes
