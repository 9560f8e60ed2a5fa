"""Plans and applies in one go, and says which campaigns are due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from campaigns.schedule import due_at
from flows.steps.apply_plan import Applied, apply_plan, find_applied
from flows.steps.plan_campaign import plan_campaign

if TYPE_CHECKING:
    from flows.wiring import Workspace

LOOK_BACK = timedelta(hours=24)
"""How far back a daily run looks for schedules that have come round."""


@dataclass(frozen=True, slots=True)
class DueCampaign:
    """A campaign whose schedule has come round, and the instant it named."""

    campaign: str
    as_of: datetime


def run_campaign(
    ws: Workspace, name: str, *, as_of: datetime, progress: Callable[[int, int], None] | None = None
) -> Applied:
    """Plan and apply as of an instant. A second run as of the same instant changes nothing."""
    done = find_applied(ws, ws.campaign(name).campaign.name, as_of)
    if done is not None:
        return done
    return apply_plan(ws, plan_campaign(ws, name, as_of=as_of), now=as_of, progress=progress)


def due_campaigns(ws: Workspace, *, now: datetime) -> list[DueCampaign]:
    """The active campaigns whose schedule has come round in the 24 hours up to `now`, each with that instant."""
    due = []
    for name, file in sorted(ws.usable_book[0].campaigns.items()):
        schedule = file.campaign.schedule
        if file.campaign.status != "active" or schedule is None:
            continue
        as_of = due_at(schedule.cron, schedule.timezone, now=now, within=LOOK_BACK)
        if as_of is not None:
            due.append(DueCampaign(name, as_of))
    return due
