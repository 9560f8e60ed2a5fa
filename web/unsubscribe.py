"""The page behind an unsubscribe link: one click ends a channel's messages, a form sets every channel."""

from __future__ import annotations

from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from campaigns.words import EVERY_TOPIC
from channels.message import CHANNELS
from flows.steps.unsubscribe import (
    Link,
    find_link,
    locale_of,
    offered_topics,
    set_preferences,
    stopped_channels,
    unsubscribe,
)
from flows.wiring import Workspace
from web.desk import Desk, read_body
from web.languages import Words, choose_words
from web.pages import render_page

BODY_LIMIT: Final = 16 * 1024

_PAGES: Final[dict[int | str, dict[str, Any]]] = {
    403: {"content": {"text/html": {}}, "description": "no such link; nothing was changed"},
    413: {"description": "the body is too large"},
}
_FORM: Final = {
    "requestBody": {
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "properties": {"List-Unsubscribe": {"const": "One-Click"}}}
            }
        }
    }
}


def unsubscribe_routes(desk: Desk) -> APIRouter:
    """The routes under /u."""
    router = APIRouter(prefix="/u", tags=["unsubscribe"], default_response_class=HTMLResponse, responses=_PAGES)

    @router.get("/{token}")
    async def show(token: str, request: Request) -> HTMLResponse:
        """The page with its forms; whoever follows a link, a person or a scanner, changes nothing by it.

        It speaks the customer's own language where there are words in it, else one that Accept-Language names.
        """
        accepted = request.headers.get("accept-language", "")

        def look(ws: Workspace) -> HTMLResponse:
            link = find_link(ws, token)
            words = _words(desk, ws, link, accepted)
            return _no_link(desk, words) if link is None else _page(desk, ws, link, words)

        return await desk.work(look)

    @router.post("/{token}", openapi_extra=_FORM)
    async def change(token: str, request: Request) -> HTMLResponse:
        """One-click unsubscription (RFC 8058; no cookie, no login), or the preferences of the page's form."""
        body = await read_body(request, limit=BODY_LIMIT)
        fields = await run_in_threadpool(_fields, request.headers.get("content-type", ""), body)
        accepted = request.headers.get("accept-language", "")

        def obey(ws: Workspace) -> HTMLResponse:
            link = find_link(ws, token)
            words = _words(desk, ws, link, accepted)
            return _no_link(desk, words) if link is None else _change(desk, ws, link, fields, words)

        return await desk.work(obey)

    return router


def _words(desk: Desk, ws: Workspace, link: Link | None, accepted: str) -> Words:
    """The language to answer in; a link that is none of ours says nothing of anybody's locale."""
    if link is None:
        return choose_words(locale=None, accept_language=accepted)
    with desk.facts_lock:
        locale = locale_of(ws, link.customer_id)
    return choose_words(locale=locale, accept_language=accepted)


def _change(desk: Desk, ws: Workspace, link: Link, fields: Mapping[str, list[str]], words: Words) -> HTMLResponse:
    now = desk.clock()
    if fields.get("List-Unsubscribe") == ["One-Click"]:
        channel, topic = unsubscribe(ws, link, at=now)
        key = "done" if topic == EVERY_TOPIC else "done_about"
        done = words.say(key, name=words.names[channel], topic=topic.replace("-", " "))
        return _page(desk, ws, link, words, done=done)
    if "preferences" in fields:
        wanted = [channel for channel in CHANNELS if channel in fields.get("channel", [])]
        topics = fields.get("topic", []) if "topics" in fields else None
        set_preferences(ws, link, wanted=wanted, at=now, topics=topics)
        return _page(desk, ws, link, words, done=words.say("saved"))
    return HTMLResponse(_problem(desk, words, "cannot"), status_code=400)


def _page(desk: Desk, ws: Workspace, link: Link, words: Words, *, done: str | None = None) -> HTMLResponse:
    stopped = stopped_channels(ws, link.customer_id)
    topics = offered_topics(ws, link.customer_id)
    channels = [
        {
            "key": channel,
            "name": words.names[channel],
            "is_on": not stopped[channel],
            "because": next((text for reason, text in words.because.items() if reason in stopped[channel]), None),
        }
        for channel in CHANNELS
    ]
    name = words.names[link.channel]
    is_on = not stopped[link.channel]
    company = desk.settings.company.name
    shown = [{"key": topic, "name": topic.replace("-", " "), "is_on": wanted} for topic, wanted in topics.items()]
    return HTMLResponse(
        render_page(
            "unsubscribe.html.j2",
            words=words,
            company=company,
            name=name,
            is_on=is_on,
            channels=channels,
            topics=shown if len(shown) > 1 else [],  # of one topic there is nothing to choose
            done=done,
        )
    )


def _no_link(desk: Desk, words: Words) -> HTMLResponse:
    return HTMLResponse(_problem(desk, words, "no_link"), status_code=403)


def _problem(desk: Desk, words: Words, key: str) -> str:
    title, text = words.say(f"{key}_title"), words.say(key)
    company = desk.settings.company.name
    return render_page("unsubscribe_problem.html.j2", language=words.language, company=company, title=title, text=text)


def _fields(content_type: str, body: bytes) -> dict[str, list[str]]:
    """The fields of a form in either of the two encodings RFC 8058 allows; none where it is no form."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    fields: dict[str, list[str]] = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + body).walk():
        name, value = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(value, bytes):
            fields.setdefault(name, []).append(value.decode("utf-8", "replace").strip())
    return fields
