"""Flow deliver-messages: send what may leave now."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, task

from flows.run_context import named_by, publish_table, scheduled_at, workspace_of
from flows.steps.deliver_messages import deliver_messages as deliver_step
from flows.wiring import worker_name


@task  # no retries: the ledger resumes at the next run, message by message
def deliver(workspace: str | None, now: datetime, limit: int | None) -> dict[str, int]:
    """Claim, send and settle until nothing more may leave at `now`."""
    with workspace_of(workspace) as ws:
        return deliver_step(ws, now=now, worker=worker_name(), limit=limit).counts()


@flow(name="deliver-messages", flow_run_name=lambda: f"deliver {named_by()}", log_prints=False)
def deliver_messages(
    workspace: str | None = None, now: datetime | None = None, limit: int | None = None
) -> dict[str, int]:
    """Send every message whose window is open, and publish the counts."""
    counts = deliver(workspace, scheduled_at(now), limit)
    publish_table("delivery", title="Delivery", columns=("state", "messages"), rows=list(counts.items()))
    return counts
