"""Provider webhooks: Twilio's status callbacks and inbound SMS, SendGrid's events."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from channels.receipts import (
    BadSignature,
    WebhookRequest,
    reply_twiml,
    sendgrid_receipts,
    twilio_inbound,
    twilio_receipt,
    verify_sendgrid,
    verify_twilio,
)
from flows.provider_wiring import twilio_token
from flows.steps.receive_receipts import Answered, Received, receive_inbound, receive_receipts
from flows.wiring import Workspace
from web.desk import Desk, Problem, read_body

FORM_LIMIT: Final = 64 * 1024
EVENTS_LIMIT: Final = 4 * 1024 * 1024

_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "rightly signed, but not what the provider describes"},
    403: {"model": Problem, "description": "not signed by the provider, or too long ago; nothing was changed"},
    413: {"model": Problem, "description": "the body is too large"},
    503: {"model": Problem, "description": "cannot be recorded now; send it again later"},
}
_FORM: Final = {"requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}}}
_EVENTS: Final = {
    "requestBody": {"content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}}}
}


class Recorded(BaseModel):
    """What became of the receipts of one request."""

    applied: int = Field(description="changed a message's state")
    known: int = Field(description="changed nothing: repeated, or overtaken by better news")
    unknown: int = Field(description="named no message of this ledger")
    suppressed: int = Field(description="customers who are not written to any more")
    silent: int = Field(description="events that say nothing about a message's fate")


def receipt_routes(desk: Desk) -> APIRouter:
    """The routes under /receipts."""
    router = APIRouter(prefix="/receipts", tags=["receipts"], responses=_REFUSALS)

    @router.post("/twilio/status", status_code=204, response_class=Response, openapi_extra=_FORM)
    async def twilio_status(request: Request, m: str | None = None) -> Response:
        """Status callback of one SMS; the query parameter m is our message key."""
        fields = await _twilio_fields(desk, request)
        receipt = twilio_receipt(fields, message_key=m)
        if receipt is not None:
            await desk.work(lambda ws: receive_receipts(ws, [receipt], now=desk.clock()))
        return Response(status_code=204)

    @router.post(
        "/twilio/inbound",
        response_class=Response,
        responses={200: {"content": {"application/xml": {}}, "description": "TwiML: the answer to the SMS, or none"}},
        openapi_extra=_FORM,
    )
    async def twilio_inbound_sms(request: Request) -> Response:
        """An SMS that a customer sent: STOP, START or HELP in many languages; anything else is ignored."""
        inbound = twilio_inbound(await _twilio_fields(desk, request))

        def obey(ws: Workspace) -> Answered:
            with desk.facts_lock:
                return receive_inbound(ws, inbound, now=desk.clock())

        answered = await desk.work(obey)
        return Response(reply_twiml(answered.reply), media_type="application/xml")

    @router.post("/sendgrid/events", openapi_extra=_EVENTS)
    async def sendgrid_events(request: Request) -> Recorded:
        """Signed event webhook: up to thousands of events about e-mails, in any order, as often as it comes."""
        webhook = await _webhook(desk, request, limit=EVENTS_LIMIT)
        key = desk.settings.providers.sendgrid.webhook_public_key
        events = await run_in_threadpool(verify_sendgrid, webhook, public_key=key, now=desk.clock())
        receipts, silent = sendgrid_receipts(events)
        received: Received = await desk.work(lambda ws: receive_receipts(ws, receipts, now=desk.clock()))
        return Recorded(**received.to_json(), silent=silent)

    return router


async def _twilio_fields(desk: Desk, request: Request) -> dict[str, str]:
    webhook = await _webhook(desk, request, limit=FORM_LIMIT)
    shared = desk.settings.providers.twilio.webhook_key.get_secret_value()
    return verify_twilio(webhook, auth_token=twilio_token(desk.settings), shared_key=shared)


async def _webhook(desk: Desk, request: Request, *, limit: int) -> WebhookRequest:
    """The request as its sender saw it: signatures cover the public address, whatever a proxy made of it."""
    public = desk.settings.public_url
    if not public:
        raise BadSignature("public_url is not set in retain.toml: no signature can be checked without it")
    path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
    query = request.scope["query_string"].decode("latin-1")
    body = await read_body(request, limit=limit)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return WebhookRequest(f"{public}{path}{'?' if query else ''}{query}", headers, body)
