"""Tells why a customer did or did not get which message: rule, value, time and version of the files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from campaigns.eligibility import REASONS
from flows.steps.plan_campaign import plan_campaign
from warehouse.facts.contacts import look_up_contacts
from warehouse.ledger.history import CustomerHistory, customer_history
from warehouse.ledger.waves import waves

if TYPE_CHECKING:
    from flows.wiring import Workspace


def explain_customer(ws: Workspace, campaign: str, customer_id: str, *, now: datetime) -> dict[str, Any]:
    """The customer's story in the campaign: one sentence, then every event with its reason.

    For a customer without an arm the last run is planned again as of its instant, to name the reason.
    """
    ws.campaign(campaign)
    with ws.ledger.read() as tx:
        history = customer_history(tx, customer_id, campaign=campaign)
    events = [*_assignments(history), *_messages(history), *_wishes(history)]
    answer = _answer(history) if history.assignments else _why_not(ws, campaign, customer_id, now)
    return {
        "campaign": campaign,
        "customer_id": customer_id,
        "answer": answer,
        "events": sorted(events, key=lambda event: event["at"]),
    }


def _answer(history: CustomerHistory) -> str:
    last = history.assignments[-1]
    if not history.messages:
        return (
            f"{history.customer_id} is in arm {last['arm']} of {last['experiment_id']} since "
            f"{last['assigned_at']:%Y-%m-%d %H:%M} UTC and was planned no message"
        )
    fates = ", ".join(f"step {m['step']} by {m['channel']}: {_fate(m)}" for m in history.messages)
    return f"{history.customer_id} is in arm {last['arm']} of {last['experiment_id']}; {fates}"


def _fate(message: Mapping[str, Any]) -> str:
    reason = f" ({message['reason']})" if message["reason"] else ""
    waits = f", may leave from {message['not_before']:%Y-%m-%d %H:%M} UTC" if message["state"] == "pending" else ""
    return f"{message['state']}{reason}{waits}"


def _why_not(ws: Workspace, campaign: str, customer_id: str, now: datetime) -> str:
    with ws.ledger.read() as tx:
        runs = [wave for row in _experiments(tx, campaign) for wave in waves(tx, row)]
    as_of = max((wave.as_of for wave in runs), default=now)
    reasons = plan_campaign(ws, campaign, as_of=as_of).plan.reasons.set_index("customer_id")["reason"]
    when = f"as of {as_of:%Y-%m-%d %H:%M} UTC"
    if customer_id in reasons.index:
        reason = str(reasons[customer_id])
        return f"{customer_id} has no arm in {campaign}: {reason}: {REASONS[reason]} ({when})"
    known = "" if look_up_contacts(ws.facts, [customer_id]) else "; no such customer is loaded, check the id"
    if not runs:
        return f"{customer_id} has no arm in {campaign}: it has not run yet{known}"
    return f"{customer_id} has no arm in {campaign}: not in the segment {when}{known}"


def _experiments(tx: Any, campaign: str) -> list[str]:
    from warehouse.ledger.experiments import experiments

    return [row.experiment_id for row in experiments(tx, campaign)]


def _assignments(history: CustomerHistory) -> list[dict[str, Any]]:
    return [
        {
            "at": row["assigned_at"].isoformat(),
            "what": f"assigned to {row['arm']} in {row['experiment_id']}",
            "why": f"run as of {row['as_of'].isoformat()}, files {row['config_hash'][:12]}{_shares(row)}",
        }
        for row in history.assignments
    ]


def _shares(row: Mapping[str, Any]) -> str:
    """The shares that the run drew by, in the order of their size."""
    weights = sorted(row["weights"].items(), key=lambda item: (-item[1], item[0] == "control"))
    return ", shares " + ", ".join(f"{arm} {weight:.0%}" for arm, weight in weights) if weights else ""


def _messages(history: CustomerHistory) -> list[dict[str, Any]]:
    return [
        {
            "at": row["at"].isoformat(),
            "what": f"{row['message_key']}: {row['event']}",
            "why": row["reason"] or row["provider_code"] or "",
        }
        for row in history.events
    ]


def _wishes(history: CustomerHistory) -> list[dict[str, Any]]:
    return [
        {"at": row["at"].isoformat(), "what": f"suppressed on {row['channel']}", "why": row["reason"]}
        for row in history.suppressions
    ]
