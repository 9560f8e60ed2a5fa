"""Flow run-due-campaigns: every active campaign whose schedule has come round since yesterday."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from flows.result_page import publish_table
from flows.run_campaign import plan_and_apply, publish_run
from flows.run_context import may_pass, named_by, one_by_one, scheduled_at, workspace_of
from flows.steps.run_campaign import due_campaigns


@task(retries=2, retry_delay_seconds=30, retry_condition_fn=may_pass, persist_result=False)  # reads only
def find_due(workspace: str | None, now: datetime) -> dict[str, datetime]:
    """The campaigns that are due at `now`, each with the instant that its own schedule names."""
    with workspace_of(workspace) as ws:
        return {due.campaign: due.as_of for due in due_campaigns(ws, now=now)}


@flow(name="run-due-campaigns", flow_run_name=lambda: f"due {named_by()}", persist_result=False)
def run_due_campaigns(workspace: str | None = None, now: datetime | None = None) -> list[dict[str, Any]]:
    """Run every due campaign as of the instant its own schedule names. A second run on the same day changes nothing.

    Raises ExceptionGroup after the others have run, where campaigns failed.
    """
    instants = find_due(workspace, scheduled_at(now))
    publish_table("due-campaigns", title="Due campaigns", columns=("campaign", "as of"), rows=list(instants.items()))

    def run(campaign: str) -> dict[str, Any]:
        outcome = plan_and_apply(campaign, workspace, instants[campaign])
        publish_run(outcome)
        return outcome

    return one_by_one(run, list(instants))
