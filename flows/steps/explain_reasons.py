"""The rule behind a reason, and the value that it met, as `retain explain` prints them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from campaigns.segment import names
from flows.steps.cap_rules import caps_of
from flows.steps.consent_standing import channels_of
from flows.steps.planning_rules import holdout_rule
from warehouse.facts.segment_sql import compute_features

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from flows.wiring import Workspace
    from warehouse.ledger.history import CustomerHistory

_HOURS: Final = frozenset({"outside_hours", "next_window", "step_before", "too_late", "expired"})


def plan_rule(ws: Workspace, file: CampaignFile, reason: str, *, as_of: datetime) -> str:
    """The rule by which a plan left a customer out, as files and settings have it; empty where the reason says all."""
    rules: Mapping[str, Callable[[], str]] = {
        "global_holdout": lambda: f"holdout.share {holdout_rule(ws.settings, at=as_of).share:.0%}",
        "reentry_too_soon": lambda: f"audience.reentry_after {_length(file.campaign.audience.reentry_after)}",
        "rival_campaign": lambda: f"audience.exclusive {file.campaign.audience.exclusive}",
        "cooling_off": lambda: (
            f"audience.cool_off {_length(file.campaign.audience.cool_off)}, "
            f"policy.cool_off {_length(ws.settings.policy.cool_off)}"
        ),
        "outranked": lambda: f"priority {file.campaign.priority}",
        "capped": lambda: f"caps: {caps_told(ws, file)}",
        "open_complaint": lambda: "audience.allow_open_complaint is false",
        "over_limit": lambda: f"audience.limit {file.campaign.audience.limit}",
        "over_budget": lambda: f"budget: {_budget(file)}",
        **dict.fromkeys(
            ("no_address", "no_consent", "suppressed", "suppressed_address", "shared_address"),
            lambda: f"channels {', '.join(channels_of(file.campaign))}; topic {file.campaign.topic}",
        ),
    }
    return rules[reason]() if reason in rules else ""


def message_rule(
    ws: Workspace, file: CampaignFile, history: CustomerHistory, message: Mapping[str, Any], event: Mapping[str, Any]
) -> str:
    """The rule and the value behind a line of a message's history; empty where the reason says all."""
    reason, at = event["reason"], event["at"]
    if reason is None:
        return ""
    if reason in (message["unless"] or "").split("\n"):
        return f"condition of step {message['step']}"
    if reason in _HOURS:
        slot = f"slot {_instant(message['not_before'])} to {_instant(message['closes_at'])}"
        return f"{slot}; given up {_instant(message['expires_at'])}; clocks of {message['zones'] or 'no known zone'}"
    if reason == "suppressed":
        return _suppressions(history, message["channel"], at)
    if reason in ("no_address", "no_consent", "suppressed_address"):
        return f"channel {message['channel']}; topic {file.campaign.topic}"
    return plan_rule(ws, file, reason, as_of=at) if reason in _SHARED else ""


_SHARED: Final = frozenset({"global_holdout", "capped", "outranked", "over_budget"})
"""Reasons of messages whose rule is that of the plan."""


def segment_rule(ws: Workspace, file: CampaignFile, customer_id: str, *, as_of: datetime) -> str:
    """The segment and what the customer's features were as of an instant: why he or she is not in it."""
    wanted = sorted(names(file.segment))
    frame = compute_features(
        ws.facts, as_of=as_of, names=wanted, customer_ids=[customer_id], options=ws.feature_options
    )
    if frame.empty or not wanted:
        return f"audience.segment {file.segment_text}"
    row = frame.iloc[0]
    values = ", ".join(f"{name} {_value(row[name])}" for name in wanted)
    return f"audience.segment {file.segment_text}; {values}"


def caps_told(ws: Workspace, file: CampaignFile) -> str:
    """Every cap that holds for the campaign's messages, in words."""
    told = []
    for cap in caps_of(file.campaign, ws.settings):
        of = f" by {cap.channel}" if cap.channel else f" about {cap.topic}" if cap.topic else ""
        per = f"a {cap.period}" if cap.period else f"within {_length(cap.window)}"
        told.append(f"{cap.messages}{of} {per}")
    return "; ".join(told) or "none by now"


def _suppressions(history: CustomerHistory, channel: str, at: datetime) -> str:
    found = [
        f"{row['channel']}/{row['topic']} since {_instant(row['at'])}: {row['reason']}"
        for row in history.suppressions
        if row["channel"] in (channel, "all") and row["at"] <= at and (row["released_at"] or at) >= at
    ]
    return "; ".join(found)


def _budget(file: CampaignFile) -> str:
    budget = file.campaign.budget
    named = (("messages", budget.messages), ("cost", budget.cost), ("discounts", budget.discounts))
    return ", ".join(f"{name} {value}" for name, value in named if value is not None) or "none by now"


def _length(length: timedelta | None) -> str:
    if length is None:
        return "none"
    hours = length / timedelta(hours=1)
    return f"{hours / 24:g} days" if hours % 24 == 0 else f"{hours:g} hours"


def _value(value: object) -> str:
    if value is None or value != value:  # what is not a number is not equal to itself
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
