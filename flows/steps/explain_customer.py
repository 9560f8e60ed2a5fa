"""Tells why a customer did or did not get which message: rule, value, time and version of the files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from campaigns.eligibility import REASONS
from campaigns.offer_terms import GeneratedCode, PoolCode, SharedCode
from campaigns.offers import Offer, find_promise
from campaigns.packs import packs_of
from flows.steps.explain_journey import exits_told, message_label, trigger_told, why_no_moment
from flows.steps.plan_campaign import plan_campaign
from warehouse.facts.contacts import look_up_contacts
from warehouse.ledger.history import CustomerHistory, customer_history
from warehouse.ledger.waves import waves

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from flows.wiring import Workspace


def explain_customer(ws: Workspace, campaign: str, customer_id: str, *, now: datetime) -> dict[str, Any]:
    """The customer's story in the campaign: one sentence, then every event with its reason.

    For a customer without an arm the last run is planned again as of its instant, to name the reason.
    """
    file = ws.campaign(campaign)
    with ws.ledger.read() as tx:
        history = customer_history(tx, customer_id, campaign=campaign)
    events = [*_assignments(history), *_promises(file, history), *_moments(history)]
    events += [*_messages(history), *_wishes(history), *exits_told(history), *trigger_told(ws, file, history)]
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
    fates = ", ".join(f"{message_label(m)}: {_fate(m)}" for m in history.messages)
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
    moment = why_no_moment(ws, ws.campaign(campaign), customer_id, as_of)
    return f"{customer_id} has no arm in {campaign}: {moment or f'not in the segment {when}'}{known}"


def _experiments(tx: Any, campaign: str) -> list[str]:
    from warehouse.ledger.experiments import experiments

    return [row.experiment_id for row in experiments(tx, campaign)]


def _assignments(history: CustomerHistory) -> list[dict[str, Any]]:
    return [
        {
            "at": row["assigned_at"].isoformat(),
            "what": f"assigned to {row['arm']} in {row['experiment_id']}",
            "why": f"run as of {row['as_of'].isoformat()}, files {row['config_hash'][:12]}{_shares(row)}{_rules(row)}",
        }
        for row in history.assignments
    ]


def _shares(row: Mapping[str, Any]) -> str:
    """The shares that the run drew by, in the order of their size."""
    weights = sorted(row["weights"].items(), key=lambda item: (-item[1], item[0] == "control"))
    return ", shares " + ", ".join(f"{arm} {weight:.0%}" for arm, weight in weights) if weights else ""


def _promises(file: CampaignFile, history: CustomerHistory) -> list[dict[str, Any]]:
    """What the customer was promised, by which tier and with what kind of code; never the code itself."""
    assigned = {row["experiment_id"]: row["assigned_at"] for row in history.assignments}
    made = {(row["experiment_id"], row["offer"]): row for row in history.messages if row["offer"]}
    events = []
    for (experiment_id, name), message in sorted(made.items(), key=lambda item: item[0]):
        code = message["code"]
        offer, _, tier = name.partition("/")
        promise = find_promise(file.offers, name)
        kind = "without a code" if code is None else "with a code" if promise is None else _code_kind(promise)
        events.append(
            {
                "at": assigned[experiment_id].isoformat(),
                "what": f"promised offer {offer}" + (f", tier {tier}" if tier else "") + f", {kind}",
                "why": f"what arm {message['arm']} of {experiment_id} offers",
            }
        )
    return events


def _code_kind(promise: Offer) -> str:
    match promise.terms.code:
        case PoolCode(pool=pool):
            return f"with a code of its own of pool {pool}"
        case GeneratedCode():
            return "with a generated code of its own"
        case SharedCode():
            return "with the code that all share"
        case None:
            return "without a code"


def _rules(row: Mapping[str, Any]) -> str:
    return f", time-zone rules {row['tzdata']}" if row["tzdata"] else ""


def _moments(history: CustomerHistory) -> list[dict[str, Any]]:
    """When each message may leave, and which zones and legal hours decided it."""
    assigned = {row["experiment_id"]: row["assigned_at"] for row in history.assignments}
    lines = []
    for row in history.messages:
        zones = tuple(zone for zone in row["zones"].split(",") if zone)
        packs = packs_of(row["place"], zones, row["channel"])
        legal = f"; legal hours of {', '.join(packs)}" if packs else ""
        lines.append(
            {
                "at": assigned[row["experiment_id"]].isoformat(),
                "what": f"{row['message_key']}: its slot is {_utc(row['not_before'])} to {_utc(row['closes_at'])}",
                "why": f"clocks of {', '.join(zones) or 'no known zone'}{legal}; given up {_utc(row['expires_at'])}",
            }
        )
    return lines


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _messages(history: CustomerHistory) -> list[dict[str, Any]]:
    return [
        {
            "at": row["at"].isoformat(),
            "what": f"{row['message_key']}: {row['event']}",
            "why": _in_words(row["reason"]) or row["provider_code"] or "",
        }
        for row in history.events
    ]


def _in_words(reason: str | None) -> str | None:
    """A reason of the claim, in words where it is one that planning has too."""
    told = {"capped", "outranked", "global_holdout"}
    return f"{reason}: {REASONS[reason]}" if reason in told and reason is not None else reason


def _wishes(history: CustomerHistory) -> list[dict[str, Any]]:
    return [
        {"at": row["at"].isoformat(), "what": f"suppressed on {row['channel']}", "why": row["reason"]}
        for row in history.suppressions
    ]
