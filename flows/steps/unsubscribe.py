"""Unsubscribe links: making them, finding whose they are, and doing what the customer asks there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

from campaigns.words import EVERY_TOPIC
from channels.message import CHANNELS, Channel
from channels.tokens import is_signed, make_token, parse_token
from flows.steps.kept_addresses import Why, release_addresses_of, suppress_addresses_of
from warehouse.facts.contacts import look_up_contacts
from warehouse.facts.errors import FactsError
from warehouse.ledger.addressees import customer_of_link, number_links, topic_of_link
from warehouse.ledger.audit import record_audit
from warehouse.ledger.consents import WITHDRAWN, Statement, record_consents
from warehouse.ledger.experiments import experiments
from warehouse.ledger.suppressions import Suppression, release_suppression, suppress_many, suppressions_of

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.wiring import Workspace

SOURCE: Final = "unsubscribe page"
WORDING: Final = "preference page 1"
"""The version of the words of our page: counted up whenever they change, and kept with every consent given there."""
_REASON: Final = "unsubscribe"
_OURS: Final = frozenset({_REASON, WITHDRAWN})


@dataclass(frozen=True, slots=True)
class Link:
    """Whose link it is, for which channel it was made, and what the message it stands in is about."""

    customer_id: str
    channel: Channel
    topic: str = EVERY_TOPIC


def unsubscribe_urls(
    ws: Workspace, customers: Sequence[tuple[str, str]], *, topic: str = EVERY_TOPIC
) -> dict[tuple[str, str], str]:
    """The links of (customer, channel) pairs in messages about a topic; the same every time."""
    numbers = number_links(ws.ledger, [customer for customer, _ in customers], topic)
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
        topic = topic_of_link(tx, parsed.link_id)
    if customer_id is None or not is_signed(parsed, ws.link_keys, customer_id=customer_id):
        return None
    return Link(customer_id, parsed.channel, topic)


def stopped_channels(ws: Workspace, customer_id: str) -> dict[str, set[str]]:
    """Channel -> why the customer is not written to on it; channels on which nothing stands in the way are empty."""
    rows = _active(ws, customer_id)
    return {
        channel: {
            str(row["reason"]) for row in rows if row["channel"] in (channel, "all") and row["topic"] == EVERY_TOPIC
        }
        for channel in CHANNELS
    }


def offered_topics(ws: Workspace, customer_id: str) -> dict[str, bool]:
    """Every topic that campaigns of the book or the ledger are about, sorted -> whether the customer gets it."""
    topics = known_topics(ws)
    ended = {str(row["topic"]) for row in _active(ws, customer_id) if row["channel"] == "all"}
    return {topic: topic not in ended for topic in sorted(topics)}


def known_topics(ws: Workspace) -> set[str]:
    """Every topic that campaigns of the book or the ledger are about."""
    with ws.ledger.read() as tx:
        topics = {row.topic for row in experiments(tx)}
    return topics | {file.campaign.topic for file in ws.usable_book[0].campaigns.values()}


def locale_of(ws: Workspace, customer_id: str) -> str | None:
    """The customer's own locale as the facts have it now; None where they have none, or cannot be asked."""
    try:
        contact = look_up_contacts(ws.facts, [customer_id]).get(customer_id)
    except FactsError:
        return None  # the page matters more than its language
    return None if contact is None else contact.locale


def unsubscribe(ws: Workspace, link: Link, *, at: datetime) -> tuple[str, str]:
    """End what one click ends by policy.opt_out_scope; gives channel and topic of what ended, each possibly "all"."""
    scopes: dict[str, tuple[str, str]] = {
        "topic": (link.channel, link.topic),
        "channel": (link.channel, EVERY_TOPIC),
        "all": ("all", EVERY_TOPIC),
    }
    scope = scopes[ws.settings.policy.opt_out_scope]
    _stop(ws, link.customer_id, [scope], at)
    return scope


def set_preferences(
    ws: Workspace, link: Link, *, wanted: Collection[str], at: datetime, topics: Collection[str] | None = None
) -> Mapping[str, set[str]]:
    """Write to the customer on the `wanted` channels only, and only about `topics` (None: as before).

    Gives what then stands in the way of each channel. Only an earlier wish of this page, or a withdrawal, is taken
    back: a channel ended by a complaint, a bounce or a STOP stays as it is.
    """
    before = stopped_channels(ws, link.customer_id)
    offered = [channel for channel in CHANNELS if before[channel] <= _OURS]
    ending: list[tuple[str, str]] = [(channel, EVERY_TOPIC) for channel in offered if channel not in wanted]
    if topics is not None:
        known = offered_topics(ws, link.customer_id)
        ending += [("all", topic) for topic in known if topic not in topics]
        for topic in [topic for topic in known if topic in topics and not known[topic]]:
            _resume(ws, link.customer_id, [("all", topic), *((channel, topic) for channel in CHANNELS)], at)
    _stop(ws, link.customer_id, ending, at)
    for channel in CHANNELS:
        if channel in wanted and before[channel] & _OURS:
            _resume(ws, link.customer_id, [(channel, EVERY_TOPIC), ("all", EVERY_TOPIC)], at)
    return stopped_channels(ws, link.customer_id)


def _active(ws: Workspace, customer_id: str) -> list[dict[str, object]]:
    with ws.ledger.read() as tx:
        return [row for row in suppressions_of(tx, customer_id) if row["released_at"] is None]


def _stop(ws: Workspace, customer_id: str, scopes: Sequence[tuple[str, str]], at: datetime) -> None:
    """Suppress, and keep the statement and the addresses: what the customer said here survives the customer's row."""
    wishes = [Suppression(customer_id, channel, _REASON, SOURCE, at, topic) for channel, topic in scopes]
    if suppress_many(ws.ledger, wishes):
        _note(ws, customer_id, "unsubscribe", scopes, at)
        _say(ws, customer_id, scopes, at, given=False)
        suppress_addresses_of(ws, wishes)


def _resume(ws: Workspace, customer_id: str, scopes: Sequence[tuple[str, str]], at: datetime) -> None:
    released = []
    for channel, topic in scopes:
        for reason in sorted(_OURS):
            if release_suppression(ws.ledger, customer_id, channel, source=SOURCE, at=at, reason=reason, topic=topic):
                released.append((channel, topic))
                release_addresses_of(ws, customer_id, channel, Why(reason, SOURCE, at, topic))
    if released:
        _note(ws, customer_id, "resubscribe", released, at)
        _say(ws, customer_id, released, at, given=True)


def _say(ws: Workspace, customer_id: str, scopes: Sequence[tuple[str, str]], at: datetime, *, given: bool) -> None:
    said = [Statement(customer_id, channel, given, at, SOURCE, WORDING, topic) for channel, topic in scopes]
    # the suppression of this page is in force already, and only this page takes it back
    record_consents(ws.ledger, said, takes_effect=False)


def _note(ws: Workspace, customer_id: str, action: str, scopes: Sequence[tuple[str, str]], at: datetime) -> None:
    detail = {"channels": sorted({channel for channel, _ in scopes}), "topics": sorted({topic for _, topic in scopes})}
    with ws.ledger.begin() as tx:
        record_audit(tx, at=at, actor=SOURCE, action=action, subject=customer_id, detail=detail)
