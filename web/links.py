"""Short links of text messages: /l/TOKEN leads to a page of the company's own, and nowhere else."""

from __future__ import annotations

import logging
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from flows.steps.short_links import follow_link, record_click
from flows.wiring import Workspace
from warehouse.ledger.errors import LedgerError
from web.desk import Desk
from web.languages import choose_words
from web.pages import render_page

_log = logging.getLogger(__name__)
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    302: {"description": "to the page that the message meant"},
    404: {"content": {"text/html": {}}, "description": "no such link; nothing was recorded"},
}


def link_routes(desk: Desk) -> APIRouter:
    """The routes under /l."""
    router = APIRouter(prefix="/l", tags=["links"], responses=_ANSWERS)

    @router.get("/{token}", status_code=302, response_class=Response)
    async def follow(token: str, request: Request) -> Response:
        """Lead on to the target; the first time it is a click of its message's customer (or of a scanner before)."""
        accepted = request.headers.get("accept-language", "")

        def lead(ws: Workspace) -> Response:
            found = follow_link(ws, token)
            if found is None:
                return _no_link(desk, accepted)
            number, target = found
            try:
                record_click(ws, number, target, now=desk.clock())
            except LedgerError as error:  # the customer gets to the page all the same
                _log.error("a click cannot be recorded: %s", error)
            return Response(status_code=302, headers={"Location": target.url})

        return await desk.work(lead)

    return router


def _no_link(desk: Desk, accepted: str) -> HTMLResponse:
    words = choose_words(locale=None, accept_language=accepted)
    title, text, company = words.say("no_link_title"), words.say("no_link"), desk.settings.company.name
    page = render_page("unsubscribe_problem.html.j2", language=words.language, company=company, title=title, text=text)
    return HTMLResponse(page, status_code=404)
