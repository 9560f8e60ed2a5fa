"""From claimed messages to what leaves: addresses looked up, consent asked once more, words rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from campaigns.offers import find_promise, offer_facts
from channels.addresses import sendable_address
from channels.errors import RenderError
from channels.message import CHANNELS, Address, Channel, Outgoing
from channels.variables import ADDRESS_FIELDS, sample_context
from flows.steps.address_checks import Addressed, check_addresses
from flows.steps.offer_codes import code_ends
from flows.steps.short_links import shorten_links
from flows.steps.unsubscribe import unsubscribe_urls
from warehouse.facts.contacts import Contact, filled_columns, look_up_contacts
from warehouse.facts.schema import AttributeKind
from warehouse.ledger.outbox import ClaimedMessage

if TYPE_CHECKING:
    from flows.settings import Company
    from flows.steps.sending_rules import Sending
    from flows.wiring import Workspace

_EXAMPLES: Final[Mapping[AttributeKind, object]] = {
    "number": 1,
    "text": "x",
    "boolean": True,
    "instant": datetime(2026, 1, 1, tzinfo=UTC),
}


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Why a message cannot leave. `failed`: its values do not fit the template; `hold`: the template is broken."""

    reason: str
    failed: bool = False
    hold: bool = False


class ContentMaker:
    """Makes the content of claimed messages; addresses live no longer than one call."""

    def __init__(self, ws: Workspace, sending: Sending) -> None:
        """`sending` holds the campaign files whose offers the messages make."""
        self._ws = ws
        self._sending = sending
        self._typical: Mapping[str, object] | None = None
        self.addressed: Mapping[str, Addressed] = {}
        """Where the messages made last go, by key: an intent asks about these once more."""

    def make(self, claimed: Sequence[ClaimedMessage]) -> tuple[list[Outgoing], list[tuple[ClaimedMessage, Unsendable]]]:
        """Split claimed messages into those ready to leave and those that cannot, each with its reason."""
        contacts = look_up_contacts(self._ws.facts, sorted({message.customer_id for message in claimed}))
        ends = code_ends(self._ws, claimed, self._sending.files)
        links = self._links([message for message in claimed if message.customer_id in contacts])
        check = check_addresses(self._ws, claimed, contacts, self._sending.topics)
        self.addressed = check.addressed
        ready: list[Outgoing] = []
        unsendable: list[tuple[ClaimedMessage, Unsendable]] = []
        for message in claimed:
            link = links.get(message.message_key, "")
            facts = self._offer_facts(message, contacts.get(message.customer_id), ends.get(message.message_key))
            reason = check.refused.get(message.message_key)
            contact = contacts.get(message.customer_id)
            made = Unsendable(reason) if reason else self._make_one(message, contact, facts, link)
            if isinstance(made, Outgoing):
                ready.append(made)
            else:
                unsendable.append((message, made))
        addresses = {name: [c.address(channel) or "" for channel in CHANNELS] for name, c in contacts.items()}
        return shorten_links(self._ws, ready, addresses), unsendable

    def _links(self, claimed: Sequence[ClaimedMessage]) -> dict[str, str]:
        """The unsubscribe link of each message by key: it knows what the message is about."""
        by_topic: dict[str, list[ClaimedMessage]] = {}
        for message in claimed:
            by_topic.setdefault(self._sending.topics[message.experiment_id], []).append(message)
        found: dict[str, str] = {}
        for topic, messages in by_topic.items():
            links = unsubscribe_urls(self._ws, [(m.customer_id, m.channel) for m in messages], topic=topic)
            found |= {m.message_key: links[m.customer_id, m.channel] for m in messages}
        return found

    def _offer_facts(
        self, message: ClaimedMessage, contact: Contact | None, code_ends_at: datetime | None
    ) -> Mapping[str, str]:
        """What may be said of the offer: the customer's own tier of it, the same in every message."""
        offer = find_promise(self._sending.files[message.campaign].offers, message.offer)
        if offer is None or contact is None:
            return {}
        return offer_facts(
            offer,
            locale=contact.locale,
            as_of=message.assigned_at,
            code=message.code,
            code_ends_at=code_ends_at,
        )

    def _make_one(
        self, message: ClaimedMessage, contact: Contact | None, facts: Mapping[str, str], link: str
    ) -> Outgoing | Unsendable:
        channel = cast(Channel, message.channel)  # the ledger's own check allows no other
        address = None if contact is None else contact.address(channel)
        if contact is None or not address:  # the address check has seen to it
            return Unsendable("no_address")
        context = message_context(message, contact, facts, company=self._ws.settings.company, link=link)
        try:
            content = self._ws.renderer.render(channel, message.template, context, locale=contact.locale)
        except RenderError as error:
            return self._blame(message, contact, context, error)
        return Outgoing(
            key=message.message_key,
            channel=channel,
            customer_id=message.customer_id,
            address=Address(channel, sendable_address(channel, address, country=contact.country)),
            content=content,
            headers=_headers(message.channel, link),
            expires_at=min(message.closes_at, message.expires_at),
        )

    def _blame(
        self, message: ClaimedMessage, contact: Contact, context: Mapping[str, Any], error: RenderError
    ) -> Unsendable:
        """Tell a broken template, which would burn every message, from values of one customer that do not fit it."""
        own = {name: value for name, value in context["customer"].items() if not isinstance(value, str)}
        sample = {**context, "customer": {**self._typical_customer(), **own}}
        try:
            self._ws.renderer.render(cast(Channel, message.channel), message.template, sample, locale=contact.locale)
        except RenderError:
            return Unsendable(str(error), hold=True)
        return Unsendable("render_failed", failed=True)

    def _typical_customer(self) -> Mapping[str, object]:
        """A customer who has whatever at least one customer has: words that ask for more fit nobody."""
        if self._typical is None:
            documented = cast(dict[str, object], sample_context()["customer"])
            examples = {name: _EXAMPLES[kind] for name, kind in self._ws.facts.attributes().items()} | documented
            filled = filled_columns(self._ws.facts)
            self._typical = {name: value for name, value in examples.items() if name in filled}
        return self._typical


def message_context(
    message: ClaimedMessage, contact: Contact, facts: Mapping[str, str], *, company: Company, link: str
) -> dict[str, Any]:
    """What the template of a message may use (channels/variables.py lists it); no address is among it."""
    return {
        "customer": customer_fields(contact),
        "offer": dict(facts),
        "company": {"name": company.name, "postal_address": company.postal_address, "website": company.website},
        "campaign": {"name": message.campaign, "arm": message.arm},
        "unsubscribe_url": link,
    }


def customer_fields(contact: Contact) -> dict[str, Any]:
    """What a template may say of a customer: columns and attributes, no addresses; missing ones left out."""
    fields = {
        **{name: value for name, value in contact.attributes.items() if name not in ADDRESS_FIELDS},
        "customer_id": contact.customer_id,
        "time_zone": contact.time_zone,
        "locale": contact.locale,
        "country": contact.country,
        **{f"consent_{channel}": allowed for channel, allowed in contact.consents.items()},
    }
    return {name: value for name, value in fields.items() if value is not None}


def _headers(channel: str, link: str) -> dict[str, str]:
    if channel != "email":
        return {}
    return {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
