"""What the world may reach of `retain serve`: webhooks, unsubscribe and short links, apart from the analyst's pages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from channels.errors import ChannelError
from channels.receipts import BadSignature, MalformedReceipt
from flows.settings import Settings
from warehouse.facts.errors import FactsError
from warehouse.ledger.errors import LedgerError
from web.desk import Clock, Desk, TooLarge
from web.links import link_routes
from web.pages import page_policy
from web.receipts import receipt_routes
from web.unsubscribe import unsubscribe_routes

PUBLIC_PATHS: Final = ("/u/", "/l/", "/receipts/")

_log = logging.getLogger(__name__)


class WithReceiving:
    """The analyst's pages with the public paths beside them; each refuses the other's hosts."""

    def __init__(self, pages: ASGIApp, settings: Settings, *, clock: Clock = lambda: datetime.now(UTC)) -> None:
        """`pages` answers every path that is not public."""
        self.pages = pages
        self.desk = Desk(settings, clock=clock)
        self.public = create_receiving_app(self.desk)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's life."""
        if scope["type"] == "lifespan":
            try:
                await self.pages(scope, receive, send)
            finally:
                self.desk.close()
        elif str(scope.get("path", "")).startswith(PUBLIC_PATHS):
            await self.public(scope, receive, send)
        else:
            await self.pages(scope, receive, send)


def create_receiving_app(desk: Desk) -> FastAPI:
    """The public paths over one workspace; described at /receipts/openapi.json."""
    app = FastAPI(title="retain: receiving", docs_url=None, redoc_url=None, openapi_url="/receipts/openapi.json")
    host = urlsplit(desk.settings.public_url).hostname
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", *([host] if host else [])])
    app.middleware("http")(_guarded)
    for kind, status in _STATUS.items():
        app.add_exception_handler(kind, _refusal(status))
    app.include_router(receipt_routes(desk))
    app.include_router(unsubscribe_routes(desk))
    app.include_router(link_routes(desk))
    return app


_STATUS: Final[dict[type[Exception], int]] = {
    BadSignature: 403,
    MalformedReceipt: 400,
    TooLarge: 413,
    ChannelError: 503,
    FactsError: 503,
    LedgerError: 503,
}
"""Refusals; after a 503 the provider comes again."""


def _refusal(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:  # noqa: ARG001  (the signature of a handler)
        if status == 503:
            _log.error("receipts cannot be recorded: %s", error)
            return JSONResponse({"detail": "cannot be recorded now; send it again later"}, status_code=status)
        return JSONResponse({"detail": str(error)}, status_code=status)

    return answer


async def _guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        response = await call_next(request)
    except Exception as error:  # noqa: BLE001  (its text may hold what a customer sent: only its kind is told)
        route = getattr(request.scope.get("route"), "path", "a public path")
        _log.error("%s %s: unexpected %s", request.method, route, type(error).__name__)
        response = JSONResponse({"detail": "an unexpected error"}, status_code=500)
    policy = page_policy().replace("form-action 'none'", "form-action 'self'")
    response.headers["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Robots-Tag"] = "noindex"
    return response
