"""The journey of a campaign in words: what brings customers in, and for each message when, unless what, how often."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.steps.select_audience import trigger_window

if TYPE_CHECKING:
    from campaigns.arm_terms import Step
    from campaigns.book import CampaignFile
    from campaigns.journey_terms import Trigger
    from flows.wiring import Workspace


def describe_journey(ws: Workspace, file: CampaignFile, *, as_of: datetime) -> dict[str, Any]:
    """What plan.json says of the journey: the trigger with the time in which this run looks for moments, the steps."""
    campaign = file.campaign
    window = trigger_window(ws, file, as_of=as_of)
    trigger = campaign.audience.trigger
    return {
        "trigger": None
        if trigger is None or window is None
        else {"moment": describe_trigger(trigger), "since": window[0].isoformat(), "until": window[1].isoformat()},
        "arms": {
            name: [describe_step(step, number) for number, step in enumerate(arm.steps, start=1)]
            for name, arm in campaign.arms.items()
        },
    }


def describe_trigger(trigger: Trigger) -> str:
    """The trigger in words: complaint_resolved + 48 hours, birthday - 3 days."""
    if trigger.before:
        return f"{trigger.event} - {in_words(trigger.before)}"
    return f"{trigger.event} + {in_words(trigger.after)}" if trigger.after else trigger.event


def describe_step(step: Step, number: int) -> str:
    """A step in words: "2: email winback_reminder, 4 days later, unless purchased; else sms"."""
    said = [f"{number}: {step.channel} {step.template}"]
    if step.after:
        said.append(f"after {in_words(step.after)}")
    if step.repeat is not None:
        every, until = in_words(step.repeat.every), " or ".join(step.repeat.until)
        said.append(f"every {every} until {until}, at most {step.repeat.at_most} times")
    if step.unless:
        said.append(f"unless {' or '.join(step.unless)}")
    if step.fallback:
        waits = f" or unreported for {in_words(step.fallback_after)}" if step.fallback_after else ""
        said.append(f"where undelivered{waits} {', then '.join(step.fallback)}")
    return ", ".join(said)


def in_words(gap: timedelta) -> str:
    """A duration as a file writes it: 4 days, 48 hours, 90 minutes."""
    minutes = gap // timedelta(minutes=1)
    for unit, length in (("day", 1440), ("hour", 60)):
        n, rest = divmod(minutes, length)
        if n and not rest:
            return f"{n} {unit}{'' if n == 1 else 's'}"
    return f"{minutes} minutes"
