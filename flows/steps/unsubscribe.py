"""Unsubscribe links: making them, finding whose they are, and doing what the customer asks there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

from channels.message import CHANNELS, Channel
from channels.tokens import is_signed, make_token, parse_token
from warehouse.ledger.addressees import customer_of_link, number_links
from warehouse.ledger.audit import record_audit
from warehouse.ledger.suppressions import Suppression, release_suppression, suppress_many, suppressions_of

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.wiring import Workspace

SOURCE: Final = "unsubscribe page"
_REASON: Final = "unsubscribe"


@dataclass(frozen=True, slots=True)
class Link:
    """Whose link it is, and for which channel it was made."""

    customer_id: str
    channel: Channel


def unsubscribe_urls(ws: Workspace, customers: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The links of (customer, channel) pairs, to end the messages of that channel; the same every time."""
    numbers = number_links(ws.ledger, [customer for customer, _ in customers])
    return {
        (customer, channel): unsubscribe_url(
            ws.settings,
            make_token(ws.secret, link_id=numbers[customer], customer_id=customer, channel=cast(Channel, channel)),
        )
        for customer, channel in customers
    }


def unsubscribe_url(settings: Settings, token: str) -> str:
    """The address of a token's page: ours at public_url, else the one the company names."""
    base = f"{settings.public_url}/u" if settings.public_url else settings.company.unsubscribe_url.rstrip("/")
    return f"{base}/{token}"


def find_link(ws: Workspace, token: str) -> Link | None:
    """Whose link a token is; None for one that none of our keys has signed."""
    parsed = parse_token(token)
    if parsed is None:
        return None
    with ws.ledger.read() as tx:
        customer_id = customer_of_link(tx, parsed.link_id)
    if customer_id is None or not is_signed(parsed, ws.link_keys, customer_id=customer_id):
        return None
    return Link(customer_id, parsed.channel)


def stopped_channels(ws: Workspace, customer_id: str) -> dict[str, set[str]]:
    """Channel -> why the customer is not written to on it; channels on which nothing stands in the way are empty."""
    with ws.ledger.read() as tx:
        rows = [row for row in suppressions_of(tx, customer_id) if row["released_at"] is None]
    return {channel: {str(row["reason"]) for row in rows if row["channel"] in (channel, "all")} for channel in CHANNELS}


def unsubscribe(ws: Workspace, link: Link, *, at: datetime) -> bool:
    """End the messages of the link's channel; False where they had ended by such a wish already."""
    return _stop(ws, link.customer_id, [link.channel], at) > 0


def set_preferences(ws: Workspace, link: Link, *, wanted: Collection[str], at: datetime) -> Mapping[str, set[str]]:
    """Write to the customer on the `wanted` channels only; gives what then stands in the way of each.

    Only an earlier wish of this page is taken back: a channel ended by a complaint, a bounce or a STOP stays as it is.
    """
    before = stopped_channels(ws, link.customer_id)
    offered = [channel for channel in CHANNELS if before[channel] <= {_REASON}]
    _stop(ws, link.customer_id, [channel for channel in offered if channel not in wanted], at)
    for channel in CHANNELS:
        if channel in wanted and _REASON in before[channel]:
            for scope in (channel, "all"):
                _resume(ws, link.customer_id, scope, at)
    return stopped_channels(ws, link.customer_id)


def _stop(ws: Workspace, customer_id: str, channels: Sequence[str], at: datetime) -> int:
    new = suppress_many(ws.ledger, [Suppression(customer_id, channel, _REASON, SOURCE, at) for channel in channels])
    if new:
        _note(ws, customer_id, "unsubscribe", sorted(channels), at)
    return new


def _resume(ws: Workspace, customer_id: str, channel: str, at: datetime) -> None:
    if release_suppression(ws.ledger, customer_id, channel, source=SOURCE, at=at, reason=_REASON):
        _note(ws, customer_id, "resubscribe", [channel], at)


def _note(ws: Workspace, customer_id: str, action: str, channels: Sequence[str], at: datetime) -> None:
    with ws.ledger.begin() as tx:
        record_audit(tx, at=at, actor=SOURCE, action=action, subject=customer_id, detail={"channels": list(channels)})
