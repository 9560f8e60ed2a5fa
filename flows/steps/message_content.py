"""From claimed messages to what leaves: addresses looked up, consent asked once more, words rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from campaigns.offers import Offer, offer_facts
from channels.errors import RenderError
from channels.message import Address, Channel, Outgoing
from channels.variables import ADDRESS_FIELDS, sample_context
from flows.steps.unsubscribe import unsubscribe_urls
from warehouse.facts.contacts import Contact, look_up_contacts
from warehouse.ledger.outbox import ClaimedMessage

if TYPE_CHECKING:
    from flows.settings import Company
    from flows.steps.sending_rules import Sending
    from flows.wiring import Workspace


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

    def make(self, claimed: Sequence[ClaimedMessage]) -> tuple[list[Outgoing], list[tuple[ClaimedMessage, Unsendable]]]:
        """Split claimed messages into those ready to leave and those that cannot, each with its reason."""
        contacts = look_up_contacts(self._ws.facts, sorted({message.customer_id for message in claimed}))
        links = unsubscribe_urls(self._ws, [(m.customer_id, m.channel) for m in claimed if m.customer_id in contacts])
        ready: list[Outgoing] = []
        unsendable: list[tuple[ClaimedMessage, Unsendable]] = []
        for message in claimed:
            link = links.get((message.customer_id, message.channel), "")
            made = self._make_one(message, contacts.get(message.customer_id), link)
            if isinstance(made, Outgoing):
                ready.append(made)
            else:
                unsendable.append((message, made))
        return ready, unsendable

    def _make_one(self, message: ClaimedMessage, contact: Contact | None, link: str) -> Outgoing | Unsendable:
        if contact is None:
            return Unsendable("customer_gone")
        if not contact.consents.get(message.channel, False):
            return Unsendable("no_consent")
        channel = cast(Channel, message.channel)  # the ledger's own check allows no other
        address = contact.address(channel)
        if not address:
            return Unsendable("no_address")
        offer = self._sending.files[message.campaign].offers.get(message.offer or "")
        context = message_context(message, contact, offer, company=self._ws.settings.company, link=link)
        try:
            content = self._ws.renderer.render(channel, message.template, context, locale=contact.locale)
        except RenderError as error:
            return self._blame(message, contact, error)
        return Outgoing(
            key=message.message_key,
            channel=channel,
            customer_id=message.customer_id,
            address=Address(channel, address),
            content=content,
            headers=_headers(message.channel, link),
            expires_at=min(message.closes_at, message.expires_at),
        )

    def _blame(self, message: ClaimedMessage, contact: Contact, error: RenderError) -> Unsendable:
        """Tell a broken template, which would burn every message, from values of one customer that do not fit it."""
        plain = {name: "x" if isinstance(value, str) else value for name, value in contact.attributes.items()}
        sample = sample_context(plain)
        try:
            self._ws.renderer.render(cast(Channel, message.channel), message.template, sample, locale=contact.locale)
        except RenderError:
            return Unsendable(str(error), hold=True)
        return Unsendable("render_failed", failed=True)


def message_context(
    message: ClaimedMessage, contact: Contact, offer: Offer | None, *, company: Company, link: str
) -> dict[str, Any]:
    """What the template of a message may use (channels/variables.py lists it); no address is among it."""
    facts: Mapping[str, str] = (
        {} if offer is None else offer_facts(offer, locale=contact.locale, as_of=message.assigned_at, code=message.code)
    )
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
