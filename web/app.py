"""The analyst's pages, on this machine only: experiments, the report of each, launches that wait for approval."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from flows.settings import Settings, SettingsError
from flows.steps.list_experiments import list_experiments, recorded_report
from flows.wiring import open_workspace
from web import numbers, report_words
from web.approvals import PATH as APPROVALS
from web.approvals import approval_routes
from web.pages import page_policy, render_page
from web.receiving import WithReceiving
from web.report import report_html

HOST: Final = "127.0.0.1"
COLUMNS: Final = ("Experiment", "State", "Started", "Customers", "Sent", "Measured", "Verdict")
_NUMERIC: Final = frozenset({3, 4})


def serve(settings: Settings, *, port: int, ready: Callable[[str], None]) -> None:
    """Show the workspace's experiments at 127.0.0.1 until interrupted; `ready` gets the address once it listens.

    Port 0 takes a free one. Raises SettingsError where the port cannot be had.
    """
    app = WithReceiving(create_app(settings), settings)
    with _listening(port) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False))
        ready(f"http://{HOST}:{listener.getsockname()[1]}/")
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def create_app(settings: Settings) -> FastAPI:
    """The pages over one workspace, which every request opens and closes for itself."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    app.middleware("http")(_guarded)
    app.add_exception_handler(HTTPException, _problem)

    @app.get("/", response_class=HTMLResponse)
    def index() -> str:
        with open_workspace(settings) as ws:
            return index_html(list_experiments(ws), company=settings.company.name)

    @app.get("/experiments/{experiment_id}", response_class=HTMLResponse)
    def report(experiment_id: str) -> str:
        with open_workspace(settings) as ws:
            data = recorded_report(ws, experiment_id)
        if data is None:
            raise HTTPException(404, "There is no experiment of that name in the ledger.")
        return report_html(data)

    app.include_router(approval_routes(settings))
    return app


def index_html(listed: list[dict[str, Any]], *, company: str) -> str:
    """The list of experiments, as `list_experiments` gives it, as a page."""
    rows = [
        {"name": e["experiment"], "link": f"/experiments/{quote(e['experiment'])}", "cells": _cells(e)} for e in listed
    ]
    return render_page("experiments.html.j2", columns=COLUMNS, numeric=_NUMERIC, rows=rows, company=company)


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    verdict = report_words.VERDICTS.get(entry["verdict"], report_words.NO_VERDICT)
    return (
        entry["status"],
        numbers.instant(entry["started_at"]),
        numbers.count(entry["assigned"]),
        numbers.count(entry["messages"]["sent"]),
        numbers.NOTHING if entry["measured_at"] is None else numbers.instant(entry["measured_at"]),
        verdict.headline.format(arm=entry["arm"] or "an arm"),
    )


async def _guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    policy = page_policy()
    if request.url.path == APPROVALS:  # the only page with a form
        policy = policy.replace("form-action 'none'", "form-action 'self'")
    response.headers["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


async def _problem(request: Request, error: Exception) -> Response:  # noqa: ARG001  (the signature of a handler)
    code, text = (error.status_code, str(error.detail)) if isinstance(error, HTTPException) else (500, "")
    title = "There is no such page" if code == 404 else f"This cannot be shown ({code})"
    return HTMLResponse(render_page("problem.html.j2", title=title, text=text), status_code=code)


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise SettingsError(
                f"port {port} of {HOST} cannot be had ({error.strerror}); choose another one with --port"
            ) from None
        yield listener
