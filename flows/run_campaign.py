"""Flow run-campaign: plan and apply one campaign as of an instant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow, pause_flow_run, task
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput

from flows.result_page import artifact_key, publish_table
from flows.run_context import may_pass, named_by, scheduled_at, workspace_of
from flows.steps.approve_launch import answer, answer_by_code
from flows.steps.run_campaign import run_campaign as run_step
from warehouse.ledger.launches import LaunchAnswer


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


class LaunchApproval(RunInput):
    """What a second person says of a launch that waits."""

    by: str
    """Who answers; never the one who asked."""
    approve: bool = True
    """Whether it may be launched."""
    code: str = ""
    """The code for this launch (`retain approvals --codes-of NAME`); not needed where approval.approvers is empty."""
    note: str = ""
    """Why; it is recorded."""


@task(persist_result=False)
def answer_launch(campaign: str, workspace: str | None, as_of: datetime, said: LaunchApproval) -> None:
    """Record what the second person said."""
    answered = LaunchAnswer(said.approve, said.by, datetime.now(UTC), said.note)
    with workspace_of(workspace) as ws:
        if ws.settings.approval.approvers:
            answer_by_code(ws, campaign, as_of, said.code, answered)
        else:
            answer(ws, campaign, as_of, answered)


@flow(name="run-campaign", flow_run_name=lambda: f"run {named_by('campaign')}", persist_result=False)
def run_campaign(
    campaign: str, workspace: str | None = None, as_of: datetime | None = None, approval_timeout_s: int = 3600
) -> dict[str, Any]:
    """Select, randomise and queue the messages of `campaign` as of an instant; publish who takes part.

    A launch above the limits of `approval` pauses the run for a second person's word, for `approval_timeout_s` seconds
    at most; after that it still waits in the ledger, for `retain approve` and the next run as of the same instant.
    """
    moment = scheduled_at(as_of)
    outcome = plan_and_apply(campaign, workspace, moment)
    publish_run(outcome)
    if outcome["launch"]["state"] == "awaiting_approval" and approval_timeout_s > 0:
        try:
            said = pause_flow_run(wait_for_input=LaunchApproval, timeout=approval_timeout_s)
        except FlowPauseTimeout:
            return outcome
        answer_launch(campaign, workspace, moment, said)
        outcome = plan_and_apply(campaign, workspace, moment)
        publish_run(outcome)
    return outcome


def publish_run(outcome: dict[str, Any]) -> None:
    """Publish one run's counts: arms first, then the reasons of those left out, then what to look at."""
    rows: list[tuple[str, object]] = [("audience", outcome["audience"]), ("eligible", outcome["eligible"])]
    rows += [(f"arm {arm}", n) for arm, n in outcome["assigned"].items()]
    rows += [(f"left out: {reason}", n) for reason, n in outcome["skipped"].items()]
    rows += [(f"launch: {outcome['launch']['state']}", text) for text in outcome["launch"]["reasons"]]
    rows += [("warning", text) for text in outcome["warnings"]]
    title = f"{outcome['campaign']} as of {outcome['as_of']}"
    publish_table(artifact_key("run", outcome["campaign"]), title=title, columns=("", "customers"), rows=rows)
