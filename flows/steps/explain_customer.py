"""Tells why a customer did or did not get which message: rule, value, time and version of the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from campaigns.eligibility import REASONS
from campaigns.offer_terms import GeneratedCode, PoolCode, SharedCode
from campaigns.offers import Offer, find_promise
from campaigns.packs import packs_of
from campaigns.words import EVERY_TOPIC
from flows.steps.approve_launch import list_launches
from flows.steps.explain_journey import exits_told, message_label, trigger_told, why_no_moment
from flows.steps.explain_reasons import message_rule, plan_rule, segment_rule
from flows.steps.plan_campaign import plan_campaign
from flows.steps.reason_codes import LAUNCH, SUPPRESSION, say_reason
from warehouse.facts.contacts import look_up_contacts
from warehouse.ledger.history import CustomerHistory, customer_history
from warehouse.ledger.waves import waves

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from flows.wiring import Workspace


def explain_customer(ws: Workspace, campaign: str, customer_id: str, *, now: datetime) -> dict[str, Any]:
    """The customer's story in the campaign: one sentence, then every event with its reason, rule and files.

    Every event has `at`, `what`, `why`, `code` (see reason_codes; None where nothing was decided), `rule` (with the
    value that met it) and `config` (the hash of the files that the customer's run was planned by). For a customer
    without an arm the last run is planned again as of its instant, with what is known now, to name the reason.
    """
    file = ws.campaign(campaign)
    with ws.ledger.read() as tx:
        history = customer_history(tx, customer_id, campaign=campaign)
    events = [*_assignments(history), *_promises(file, history), *_moments(history)]
    events += [*_messages(ws, file, history), *_wishes(history)]
    events += [*exits_told(history), *trigger_told(ws, file, history), *_launches(ws, history, campaign)]
    told = _Told(_answer(history)) if history.assignments else _why_not(ws, campaign, customer_id, now)
    return {
        "campaign": campaign,
        "customer_id": customer_id,
        "answer": told.answer,
        "code": told.code,
        "rule": told.rule,
        "config": told.config or (history.assignments[-1]["config_hash"] if history.assignments else None),
        "events": [_complete(event) for event in sorted(events, key=lambda event: event["at"])],
    }


@dataclass(frozen=True, slots=True)
class _Told:
    """The answer; where the customer has no arm, the code, the rule with its value, and the files it was planned by."""

    answer: str
    code: str | None = None
    rule: str = ""
    config: str | None = None


def _complete(event: dict[str, Any]) -> dict[str, Any]:
    """Every event has the same keys."""
    return {"code": None, "rule": "", "config": None, **event}


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


def _why_not(ws: Workspace, campaign: str, customer_id: str, now: datetime) -> _Told:
    waiting = _waiting(ws, campaign)
    with ws.ledger.read() as tx:
        runs = [wave for row in _experiments(tx, campaign) for wave in waves(tx, row)]
    as_of = max([wave.as_of for wave in runs] + ([waiting[0]] if waiting else []), default=now)
    planned = plan_campaign(ws, campaign, as_of=as_of, may_refuse=False)
    reasons = planned.plan.reasons.set_index("customer_id")
    again = ", planned again with what is known now" if runs else ""
    when, config = f"as of {as_of:%Y-%m-%d %H:%M} UTC{again}", planned.summary["hashes"]["config"]
    begin, files = f"{customer_id} has no arm in {campaign}: ", f", files {config[:12]}"
    if customer_id in reasons.index:
        reason, detail = map(str, reasons.loc[customer_id, ["reason", "detail"]])
        rule = detail or plan_rule(ws, planned.file, reason, as_of=as_of)
        text = f"{begin}{reason}: {REASONS[reason]} ({when}{files}{f'; {rule}' if rule else ''})"
        return _Told(text, reason, rule, config)
    would_take_part = customer_id in set(planned.plan.assignments["customer_id"])
    if waiting and would_take_part:
        state, because = waiting[1], "; ".join(waiting[2])
        return _Told(f"{begin}{state}: {LAUNCH[state]} ({when}{files}; {because})", state, because, config)
    known = "" if look_up_contacts(ws.facts, [customer_id]) else "; no such customer is loaded, check the id"
    if not runs and not waiting:
        return _Told(f"{begin}it has not run yet{known}")
    if would_take_part:
        return _Told(
            f"{begin}nothing would keep the customer out ({when}{files}), but the run knew less", config=config
        )
    moment = why_no_moment(ws, planned.file, customer_id, as_of)
    if known or moment:
        return _Told(f"{begin}{moment or f'not in the segment {when}'}{known}", config=config)
    rule = segment_rule(ws, planned.file, customer_id, as_of=as_of)
    return _Told(f"{begin}not in the segment {when}{files}; {rule}", "not_in_segment", rule, config)


def _waiting(ws: Workspace, campaign: str) -> tuple[datetime, str, list[str]] | None:
    """The newest launch that was not carried out: its instant, where it stands, why it needs a second person."""
    newest = next(iter(list_launches(ws, campaign)), None)
    if newest is None or newest["state"] == "approved":
        return None
    return datetime.fromisoformat(newest["as_of"]), newest["state"], newest["reasons"]


def _launches(ws: Workspace, history: CustomerHistory, campaign: str) -> list[dict[str, Any]]:
    """Launches that a second person had to approve for this customer's runs, and the one that is not carried out."""
    runs = {row["as_of"].isoformat() for row in history.assignments}
    events = []
    for place, row in enumerate(list_launches(ws, campaign)):
        if row["as_of"] not in runs and (place > 0 or row["state"] == "approved"):
            continue
        by = row["answered_by"] or f"asked for by {row['requested_by']}"
        events.append(
            {
                "at": row["answered_at"] or row["requested_at"],
                "what": f"launch of {row['experiment']} as of {row['as_of']}: {row['state']}",
                "why": f"{LAUNCH[row['state']]} ({by}{', ' + row['note'] if row['note'] else ''})",
                "code": row["state"],
                "rule": "; ".join(row["reasons"]),
                "config": row["config"],
            }
        )
    return events


def _experiments(tx: Any, campaign: str) -> list[str]:
    from warehouse.ledger.experiments import experiments

    return [row.experiment_id for row in experiments(tx, campaign)]


def _assignments(history: CustomerHistory) -> list[dict[str, Any]]:
    return [
        {
            "at": row["assigned_at"].isoformat(),
            "what": f"assigned to {row['arm']} in {row['experiment_id']}",
            "why": f"run as of {row['as_of'].isoformat()}, files {row['config_hash'][:12]}{_shares(row)}{_rules(row)}",
            "config": row["config_hash"],
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


def _messages(ws: Workspace, file: CampaignFile, history: CustomerHistory) -> list[dict[str, Any]]:
    """Every line of every message: what happened, its code in words, the rule, and the files of the run."""
    configs = {row["experiment_id"]: row["config_hash"] for row in history.assignments}
    messages = {row["message_key"]: row for row in history.messages}
    events = []
    for row in history.events:
        message = messages[row["message_key"]]
        config = configs[message["experiment_id"]]
        rule = message_rule(ws, file, history, message, row)
        said = _in_words(row, message) or row["provider_code"] or ""
        parts = [part for part in (said, rule, f"files {config[:12]}") if part]
        events.append(
            {
                "at": row["at"].isoformat(),
                "what": f"{row['message_key']}: {row['event']}",
                "why": "; ".join(parts),
                "code": row["reason"],
                "rule": rule,
                "config": config,
            }
        )
    return events


def _in_words(row: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    """The reason of a line with its sentence."""
    reason = row["reason"]
    if reason is None:
        return None
    named = reason in (message["unless"] or "").split("\n")
    return f"{reason}: {say_reason(reason, event=row['event'], condition=named)}"


def _wishes(history: CustomerHistory) -> list[dict[str, Any]]:
    events = []
    for row in history.suppressions:
        about = "" if row["topic"] == EVERY_TOPIC else f" about {row['topic']}"
        events.append(
            {
                "at": row["at"].isoformat(),
                "what": f"suppressed on {row['channel']}{about}",
                "why": row["reason"],
                "code": row["reason"],
                "rule": f"{SUPPRESSION[row['reason']]}; told by {row['source']}",
            }
        )
    return events
