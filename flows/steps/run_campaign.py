"""Plans and applies in one go, and says which campaigns are due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from flows.steps.apply_plan import SCHEDULE, Applied, apply_plan, find_applied
from flows.steps.competition import DueCampaign, due_campaigns
from flows.steps.plan_campaign import plan_campaign

if TYPE_CHECKING:
    from flows.wiring import Workspace


def run_campaign(
    ws: Workspace,
    name: str,
    *,
    as_of: datetime,
    by: str = SCHEDULE,
    progress: Callable[[int, int], None] | None = None,
) -> Applied:
    """Plan and apply as of an instant. A second run as of the same instant changes nothing."""
    done = find_applied(ws, ws.campaign(name).campaign.name, as_of)
    if done is not None:
        return done
    return apply_plan(ws, plan_campaign(ws, name, as_of=as_of), now=as_of, by=by, progress=progress)


__all__ = ["DueCampaign", "due_campaigns", "run_campaign"]
