"""The page of launches that wait for a second person: anybody on this machine may look, an approver's code answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from campaigns.errors import CampaignError
from flows.settings import Settings
from flows.steps.approve_launch import answer_by_code, list_launches
from flows.wiring import open_workspace
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.launches import LaunchAnswer
from web import numbers
from web.desk import Clock, TooLarge, read_body
from web.pages import render_page

PATH: Final = "/approvals"
BODY_LIMIT: Final = 16 * 1024
_STATES: Final[Mapping[str, str]] = {
    "awaiting_approval": "waits for approval",
    "approved": "approved",
    "refused": "refused",
}


def approval_routes(settings: Settings, *, clock: Clock = lambda: datetime.now(UTC)) -> APIRouter:
    """The page and its form."""
    router = APIRouter(default_response_class=HTMLResponse)

    @router.get(PATH)
    def show() -> str:
        return _page(settings)

    @router.post(PATH)
    async def change(request: Request) -> HTMLResponse:
        try:
            body = await read_body(request, limit=BODY_LIMIT)
        except TooLarge:
            raise HTTPException(413, "The form is too large.") from None
        fields = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        return await run_in_threadpool(_answer, settings, fields, clock())

    return router


def _answer(settings: Settings, fields: Mapping[str, str], now: datetime) -> HTMLResponse:
    try:
        as_of = datetime.fromisoformat(fields["as_of"])
        answered = LaunchAnswer(
            fields["answer"] == "approve", fields["by"].strip(), now, fields.get("note", "").strip()
        )
        with open_workspace(settings) as ws:
            request = answer_by_code(ws, fields["campaign"], as_of, fields["code"], answered)
    except (KeyError, ValueError):
        return HTMLResponse(_page(settings, problem="Please fill in who you are and your code."), status_code=400)
    except (CampaignError, LedgerError) as error:
        return HTMLResponse(_page(settings, problem=str(error)), status_code=403)
    said = "approved" if answered.approved else "refused"
    return HTMLResponse(_page(settings, done=f"The launch of {request.campaign} is {said}."))


def _page(settings: Settings, *, done: str | None = None, problem: str | None = None) -> str:
    with open_workspace(settings) as ws:
        found = list_launches(ws)
    launches = [
        {
            **launch,
            "state": _STATES[launch["state"]],
            "waits": launch["state"] == "awaiting_approval",
            "moment": numbers.instant(launch["as_of"]),
            "recipients": numbers.count(launch["recipients"]),
        }
        for launch in found
    ]
    return render_page(
        "approvals.html.j2",
        company=settings.company.name,
        launches=launches,
        by_code=bool(settings.approval.approvers),
        done=done,
        problem=problem,
    )
