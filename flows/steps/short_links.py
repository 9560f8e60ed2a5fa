"""Short links: put into texts before they leave, opened by whoever clicks, each first click a receipt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from campaigns.content_rules import company_hosts
from channels.message import Channel, Outgoing, Sms
from channels.receipts import Receipt
from channels.short_links import (
    find_links,
    is_link_signed,
    leads_home,
    link_of_token,
    make_link_token,
    names_somebody,
    replace_links,
)
from flows.steps.receive_receipts import receive_receipts
from warehouse.ledger.short_links import Target, number_targets, target_of

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.wiring import Workspace


def shorten_links(
    ws: Workspace, messages: Sequence[Outgoing], addresses: Mapping[str, Collection[str]]
) -> list[Outgoing]:
    """The messages, with the links of SMS short where `content.short_links` says so; the same every time.

    Only links to the company's own hosts become short, and only where that makes them shorter. A link that names the
    customer (`addresses`: customer -> his or her addresses) stays as it is: its target would stand in the ledger.
    """
    settings = ws.settings
    if not (settings.content.short_links and settings.public_url):
        return list(messages)
    wanted = [
        (message.key, link.position, link.url)
        for message in messages
        if isinstance(message.content, Sms)
        for link in find_links(message.content.body)
        if _is_worth_it(settings, link.url) and not names_somebody(link.url, addresses.get(message.customer_id, ()))
    ]
    short: dict[str, dict[int, str]] = {}
    for (key, position), number in number_targets(ws.ledger, wanted).items():
        token = make_link_token(ws.secret, link_id=number, message_key=key, position=position)
        short.setdefault(key, {})[position] = f"{settings.public_url}/l/{token}"
    return [_with_links(message, short.get(message.key)) for message in messages]


def follow_link(ws: Workspace, token: str) -> tuple[int, Target] | None:
    """The number and target of a token; None where none of our keys signed it, or where it leads to is not ours."""
    number = link_of_token(token)
    if number is None:
        return None
    with ws.ledger.read() as tx:
        target = target_of(tx, number)
    if target is None or not leads_home(target.url, _hosts(ws.settings)):
        return None
    signed = is_link_signed(token, ws.link_keys, message_key=target.message_key, position=target.position)
    return (number, target) if signed else None


def record_click(ws: Workspace, number: int, target: Target, *, now: datetime) -> None:
    """Record that a link was followed, as a receipt like a provider's own click event; once for each link."""
    channel: Channel = "sms"
    receipt = Receipt(
        provider=target.provider or "local",
        channel=channel,
        event="click",
        event_key=f"retain:click:{number}",
        state="delivered",
        message_key=target.message_key,
        at=now,
    )
    receive_receipts(ws, [receipt], now=now)


def _is_worth_it(settings: Settings, url: str) -> bool:
    is_ours = url.startswith((f"{settings.public_url}/u/", settings.company.unsubscribe_url))
    return not is_ours and len(url) > len(settings.public_url) + 23 and leads_home(url, _hosts(settings))


def _hosts(settings: Settings) -> frozenset[str]:
    """The company's own hosts and those that content.link_hosts names, as they are now."""
    company = settings.company
    return company_hosts(company.website, company.unsubscribe_url, "") | frozenset(settings.content.link_hosts)


def _with_links(message: Outgoing, short: Mapping[int, str] | None) -> Outgoing:
    if not short or not isinstance(message.content, Sms):
        return message
    return replace(message, content=Sms(replace_links(message.content.body, short)))
