"""Flow run-campaign: plan and apply one campaign as of an instant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from flows.result_page import artifact_key, publish_table
from flows.run_context import may_pass, named_by, scheduled_at, workspace_of
from flows.steps.run_campaign import run_campaign as run_step


@task(
    task_run_name="run {campaign} as of {as_of:%Y-%m-%d %H:%M}",
    retries=2,  # safe: applied once for each as-of instant, resumed where it stopped
    retry_delay_seconds=60,
    retry_condition_fn=may_pass,
    persist_result=False,  # the ledger, not a cache of Prefect's, knows what was done
)
def plan_and_apply(campaign: str, workspace: str | None, as_of: datetime) -> dict[str, Any]:
    """Plan and apply; a second time as of the same instant changes nothing. Gives ids and counts."""
    with workspace_of(workspace) as ws:
        return run_step(ws, campaign, as_of=as_of).to_json()


@flow(name="run-campaign", flow_run_name=lambda: f"run {named_by('campaign')}", persist_result=False)
def run_campaign(campaign: str, workspace: str | None = None, as_of: datetime | None = None) -> dict[str, Any]:
    """Select, randomise and queue the messages of `campaign` as of an instant; publish who takes part."""
    outcome = plan_and_apply(campaign, workspace, scheduled_at(as_of))
    publish_run(outcome)
    return outcome


def publish_run(outcome: dict[str, Any]) -> None:
    """Publish one run's counts: arms first, then the reasons of those left out, then what to look at."""
    rows: list[tuple[str, object]] = [("audience", outcome["audience"]), ("eligible", outcome["eligible"])]
    rows += [(f"arm {arm}", n) for arm, n in outcome["assigned"].items()]
    rows += [(f"left out: {reason}", n) for reason, n in outcome["skipped"].items()]
    rows += [("warning", text) for text in outcome["warnings"]]
    title = f"{outcome['campaign']} as of {outcome['as_of']}"
    publish_table(artifact_key("run", outcome["campaign"]), title=title, columns=("", "customers"), rows=rows)
