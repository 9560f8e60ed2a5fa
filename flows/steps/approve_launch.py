"""Launches above the workspace's limits wait for a second person; what moved since the approval is not launched."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from campaigns.audience_sketch import moved_share, sketch_audience
from campaigns.errors import CampaignError
from flows.steps.known_campaign import require_campaign
from warehouse.ledger.launches import Launch, LaunchAnswer, LaunchRequest, answer_launch, launches, request_launch

if TYPE_CHECKING:
    from campaigns.plan import Plan
    from flows.steps.plan_campaign import PlannedCampaign
    from flows.wiring import Workspace

LaunchState = Literal["free", "approved", "awaiting_approval", "refused"]
"""free: below every limit; the others say what the second person said, or that nobody has yet."""

_TOKEN_BYTES: Final = 15


@dataclass(frozen=True, slots=True)
class Clearance:
    """Whether a run may be launched, and why not; `state` is awaiting_approval or refused where it may not."""

    state: LaunchState
    reasons: tuple[str, ...] = ()

    @property
    def is_clear(self) -> bool:
        """Whether the run may be recorded."""
        return self.state in ("free", "approved")


def clear_launch(ws: Workspace, planned: PlannedCampaign, *, by: str, now: datetime) -> Clearance:
    """Ask for approval where a limit is passed, and tell what was answered. A second call asks nothing again.

    Raises CampaignError where more of the audience than `measurement.drift` moved since it was approved.
    """
    reasons = tuple(limits_passed(ws, planned.plan))
    if not reasons:
        return Clearance("free")
    audience = sketch_audience(planned.plan.assignments, salt=planned.design.salt)
    launch = request_launch(
        ws.ledger,
        LaunchRequest(
            experiment_id=planned.epoch.experiment_id,
            as_of=planned.as_of,
            config_hash=planned.summary["hashes"]["config"],
            campaign=planned.file.campaign.name,
            requested_at=now,
            requested_by=by,
            extent=_extent(planned),
            audience=audience,
            reasons=reasons,
        ),
    )
    if launch.answer is None:
        return Clearance("awaiting_approval", reasons)
    if not launch.answer.approved:
        note = f": {launch.answer.note}" if launch.answer.note else ""
        return Clearance("refused", (f"{launch.answer.answered_by} refused it{note}",))
    _refuse_drift(ws, planned, moved_share(launch.request.audience, audience))
    return Clearance("approved", reasons)


def answer(ws: Workspace, campaign: str, as_of: datetime | None, answered: LaunchAnswer) -> LaunchRequest:
    """Approve or refuse the launch of a campaign that waits; `as_of` where several wait.

    Raises CampaignError where none waits or several do, or the person may not approve; LedgerError for the person who
    asked, and where it was answered already.
    """
    _refuse_strangers(ws, answered.answered_by)
    request = _find_request(ws, campaign, as_of)
    answer_launch(ws.ledger, request, answered)
    return request


def answer_by_code(ws: Workspace, campaign: str, as_of: datetime, code: str, answered: LaunchAnswer) -> LaunchRequest:
    """The same from a page or from Prefect, where a code proves who answers.

    `code` is the token of the approver, or the approver's code for this launch alone: that one may be stored.
    Raises CampaignError too where the code is not that of `answered.answered_by`, or nobody may approve by code.
    """
    if not ws.settings.approval.approvers:
        raise CampaignError(
            "nobody may approve by code: approval.approvers in retain.toml names no one; use the command"
        )
    request, name = _find_request(ws, campaign, as_of), answered.answered_by
    known = (approver_token(ws, name), launch_code(ws, name, request)) if name in ws.settings.approval.approvers else ()
    given = code.strip().upper().encode()
    if not any([hmac.compare_digest(one.encode(), given) for one in known]):  # noqa: C419  (all are compared: no timing)
        raise CampaignError("this code is not that of the approver named; nothing was changed")
    answer_launch(ws.ledger, request, answered)
    return request


def approver_token(ws: Workspace, name: str) -> str:
    """What an approver shows on the page, for every launch: made of the workspace's secret, the same every time."""
    return _code(ws.secret.encode(), f"approver.{name}")


def launch_code(ws: Workspace, name: str, request: LaunchRequest) -> str:
    """An approver's code for one launch, worth nothing once that was answered: Prefect stores what it is told."""
    launch = f"{request.experiment_id}.{request.as_of.isoformat()}.{request.config_hash}"
    return _code(approver_token(ws, name).encode(), launch)


def waiting_codes(ws: Workspace, name: str) -> list[dict[str, str]]:
    """An approver's codes for the launches that wait. Raises CampaignError for somebody who may not approve."""
    _refuse_strangers(ws, name)
    with ws.ledger.read() as tx:
        waiting = [launch.request for launch in newest(launches(tx)) if launch.answer is None]
    return [
        {"campaign": request.campaign, "as_of": request.as_of.isoformat(), "code": launch_code(ws, name, request)}
        for request in waiting
    ]


def list_launches(ws: Workspace, campaign: str | None = None) -> list[dict[str, Any]]:
    """Launches that were asked for, newest first, as plain JSON types; of runs asked for again only the newest.

    Raises CampaignError for a campaign that neither the ledger nor the book knows.
    """
    with ws.ledger.read() as tx:
        found = launches(tx, campaign)
    if campaign is not None and not found:
        require_campaign(ws, campaign)
    return [_to_json(launch) for launch in newest(found)]


def newest(found: Sequence[Launch]) -> list[Launch]:
    """Of each run the launch that was asked for last: what was changed since is not launched any more."""
    last: dict[tuple[str, datetime], Launch] = {}
    for launch in found:
        last.setdefault((launch.request.experiment_id, launch.request.as_of), launch)
    return list(last.values())


def limits_passed(ws: Workspace, plan: Plan) -> Iterator[str]:
    """Every limit of `approval` in retain.toml that a plan passes, in words; none: no second person is needed."""
    limits, recipients = ws.settings.approval, int(plan.messages["customer_id"].nunique())
    if limits.recipients is not None and recipients > limits.recipients:
        yield f"{recipients:,} recipients are more than approval.recipients ({limits.recipients:,})"
    currency = ws.settings.prices.sms.currency
    for key, limit, value in (
        ("cost", limits.cost, plan.message_cost),
        ("discounts", limits.discounts, plan.discount_liability),
    ):
        if limit is None or value <= 0:
            continue
        amount = f"{key} of {value:,.2f} {currency}"
        if currency != limit.currency:  # so a person looks at it
            yield f"{amount} cannot be compared with approval.{key} ({limit}): it is in another currency"
        elif Decimal(str(value)) > limit.amount:
            yield f"{amount} is more than approval.{key} ({limit})"


def _refuse_strangers(ws: Workspace, name: str) -> None:
    approvers = ws.settings.approval.approvers
    if approvers and name not in approvers:
        raise CampaignError(
            f"{name} may not approve launches; approval.approvers in retain.toml names {', '.join(approvers)}"
        )


def _find_request(ws: Workspace, campaign: str, as_of: datetime | None) -> LaunchRequest:
    with ws.ledger.read() as tx:
        asked = [launch for launch in newest(launches(tx, campaign)) if as_of in (None, launch.request.as_of)]
    found = [launch for launch in asked if launch.answer is None] or asked[:1]
    if not found:
        require_campaign(ws, campaign)
        raise CampaignError(f"no launch of {campaign} waits for approval; `retain approvals` lists those that do")
    if len(found) > 1:
        instants = ", ".join(sorted({launch.request.as_of.isoformat() for launch in found}))
        raise CampaignError(f"several launches of {campaign} wait; name one with --as-of: {instants}")
    return found[0].request


def _code(key: bytes, text: str) -> str:
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return base64.b32encode(digest[:_TOKEN_BYTES]).decode()


def _extent(planned: PlannedCampaign) -> dict[str, Any]:
    plan, cost = planned.plan, planned.summary["cost"]
    return {
        "recipients": int(plan.messages["customer_id"].nunique()),
        "messages": len(plan.messages),
        "cost": cost["messages"],
        "discounts": cost["discounts"],
    }


def _refuse_drift(ws: Workspace, planned: PlannedCampaign, moved: float) -> None:
    allowed = ws.settings.measurement.drift
    if moved > allowed:
        raise CampaignError(
            f"{planned.file.path}: {moved:.1%} of the audience moved since the launch was approved, more than "
            f"measurement.drift allows ({allowed:.1%}); nothing was recorded; make a new plan as of a later instant "
            f"and have that approved: retain plan {planned.file.campaign.name}"
        )


def _to_json(launch: Launch) -> dict[str, Any]:
    request, answered = launch.request, launch.answer
    state: LaunchState = "awaiting_approval" if answered is None else "approved" if answered.approved else "refused"
    return {
        "campaign": request.campaign,
        "experiment": request.experiment_id,
        "as_of": request.as_of.isoformat(),
        "config": request.config_hash,
        "state": state,
        "requested_by": request.requested_by,
        "requested_at": request.requested_at.isoformat(),
        **request.extent,
        "reasons": list(request.reasons),
        "answered_by": None if answered is None else answered.answered_by,
        "answered_at": None if answered is None else answered.answered_at.isoformat(),
        "note": None if answered is None else answered.note,
    }
