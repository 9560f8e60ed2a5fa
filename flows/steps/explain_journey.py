"""What `retain explain` says of a journey: the moment that began it, what ended it, turns and fallbacks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from flows.steps.describe_journey import describe_trigger
from flows.steps.select_audience import TRIGGERED_AT, trigger_window
from warehouse.facts.triggers import trigger_moments

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from campaigns.journey_terms import Trigger
    from flows.wiring import Workspace
    from warehouse.ledger.history import CustomerHistory

EXITS: Final[Mapping[str, str]] = {
    "purchased": "bought since the assignment",
    "redeemed": "bought with the code of the offer since the assignment",
    "visited": "visited since the assignment",
    "opened": "opened an e-mail of this experiment",
    "clicked": "clicked in a message of this experiment",
    "replied": "answered by SMS after a message of this experiment",
}
"""What a signal means as the reason of a skipped message; any other reason of a step is a condition of its file."""


def message_label(message: Mapping[str, Any]) -> str:
    """Which message it is: step 2 by sms; step 1, turn 3 by sms; step 1 by email instead."""
    turn = f", turn {message['turn']}" if message["turn"] > 1 else ""
    instead = " instead" if message["hop"] > 0 else ""
    return f"step {message['step']}{turn} by {message['channel']}{instead}"


def exits_told(history: CustomerHistory) -> list[dict[str, Any]]:
    """What ended the customer's journey, for the messages that name it."""
    return [
        {
            "at": row["at"].isoformat(),
            "what": f"left {row['experiment_id']}: {row['reason']}",
            "why": f"{_meaning(row['reason'])}; messages that name it are left out from now on",
        }
        for row in history.exits
    ]


def trigger_told(ws: Workspace, file: CampaignFile, history: CustomerHistory) -> list[dict[str, Any]]:
    """The moment that brought the customer in, as the facts tell it now."""
    trigger = file.campaign.audience.trigger
    told = []
    for row in history.assignments if trigger is not None else ():
        assert trigger is not None
        at = _moment_of(ws, file, trigger, history.customer_id, row["as_of"])
        if at is not None:
            told.append(
                {"at": at.isoformat(), "what": f"moment of {describe_trigger(trigger)}", "why": "audience.trigger"}
            )
    return told


def why_no_moment(ws: Workspace, file: CampaignFile, customer_id: str, as_of: datetime) -> str | None:
    """Why the trigger did not bring the customer into the run as of an instant; None where it did, or there is none."""
    trigger, window = file.campaign.audience.trigger, trigger_window(ws, file, as_of=as_of)
    if trigger is None or window is None or _moment_of(ws, file, trigger, customer_id, as_of) is not None:
        return None
    return f"no moment of {describe_trigger(trigger)} from {window[0]:%Y-%m-%d %H:%M} to {window[1]:%Y-%m-%d %H:%M} UTC"


def _moment_of(
    ws: Workspace, file: CampaignFile, trigger: Trigger, customer_id: str, as_of: datetime
) -> datetime | None:
    window = trigger_window(ws, file, as_of=as_of)
    assert window is not None  # there is a trigger
    zone = ws.settings.policy.default_time_zone
    moments = trigger_moments(ws.facts, trigger, start=window[0], end=window[1], default_zone=zone)
    found = moments[moments["customer_id"] == customer_id][TRIGGERED_AT]
    return None if found.empty else found.iloc[0].to_pydatetime()


def _meaning(reason: str) -> str:
    return EXITS.get(reason, f"the condition of its step was true ({reason})")
