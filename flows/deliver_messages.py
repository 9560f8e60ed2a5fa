"""Flow deliver-messages: send what may leave now."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, Final

from prefect import flow, task

from channels.departure import running_clock
from flows.result_page import publish_table
from flows.run_context import clock, named_by, workspace_of
from flows.settings import SettingsError
from flows.steps.deliver_messages import deliver_messages as deliver_step
from flows.wiring import worker_name

MESSAGES_A_TASK: Final = 2_000
"""Small enough that every task looks at the clock anew before a window can close far behind it."""
TASKS_A_RUN: Final = 500
"""Prefect's server takes some 30 ms for each; the next run goes on with what is left."""


@task(persist_result=False)  # no retries: the next run takes up what is left, message by message
def deliver(workspace: str | None, now: datetime, limit: int, runs_by_clock: bool = False) -> dict[str, Any]:
    """Claim, send and settle at most `limit` messages that may leave at `now`, or as time goes on. Gives counts."""
    with workspace_of(workspace) as ws:
        going_on = running_clock(now) if runs_by_clock else None
        return deliver_step(ws, now=now, worker=worker_name(), limit=limit, clock=going_on).to_json()


@flow(name="deliver-messages", flow_run_name=lambda: f"deliver {named_by()}", persist_result=False)
def deliver_messages(
    workspace: str | None = None, now: datetime | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Send every message whose slot is open, `limit` at most, and publish the counts.

    Without `now` each task goes by the clock, so a run that starts late or takes long keeps to customers' windows.
    """
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    held: dict[str, str] = {}
    resting: dict[str, str] = {}
    paused: dict[str, str] = {}
    unusable: dict[str, str] = {}
    left = limit
    for _ in range(TASKS_A_RUN):
        room = MESSAGES_A_TASK if left is None else min(MESSAGES_A_TASK, left)
        done = deliver(workspace, clock(now), room, runs_by_clock=now is None)
        held.update(done.pop("held"))
        resting.update(done.pop("resting"))
        paused.update(done.pop("paused"))
        unusable.update(done.pop("unusable"))
        reasons.update(done.pop("skipped_because"))
        total.update(done)
        gone = done["sent"] + done["failed"] + done["skipped"]  # what will not come back in this run
        left = None if left is None else left - gone
        if not gone or (left is not None and left <= 0):
            break
    rows: list[tuple[str, object]] = list(total.items())
    rows += [(f"skipped: {reason}", n) for reason, n in sorted(reasons.items()) if n]
    rows += [(f"held: {campaign}", why) for campaign, why in sorted(held.items())]
    rows += [(f"resting: {channel}", why) for channel, why in sorted(resting.items())]
    rows += [(f"not set up: {channel}", why) for channel, why in sorted(unusable.items())]
    rows += [(f"paused: {scope}", why) for scope, why in sorted(paused.items())]
    publish_table("delivery", title="Delivery", columns=("state", "messages"), rows=rows)
    if unusable:  # everything else has left; somebody must mend the settings
        raise SettingsError("; ".join(f"{channel}: {why}" for channel, why in sorted(unusable.items())))
    return {**total, "held": sorted(held), "resting": sorted(resting), "paused": sorted(paused)}
