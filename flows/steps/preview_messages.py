"""Shows every message of a campaign as it would be read: nothing is sent, nothing is used up."""

from __future__ import annotations

from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from campaigns.offers import Offer, offer_code, offer_facts, promises_of
from channels.message import Email, Push, Sms
from channels.sms_length import measure_sms
from channels.tokens import TOKEN_CHARACTERS
from channels.variables import sample_context
from flows.steps.describe_journey import describe_step
from flows.steps.message_content import customer_fields
from flows.steps.planning_rules import experiment_name
from flows.steps.unsubscribe import unsubscribe_url
from warehouse.facts.contacts import look_up_contacts
from warehouse.facts.errors import FactsError

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from channels.message import Channel, Content
    from flows.wiring import Workspace

_SAMPLE_TOKEN: Final = "A" * TOKEN_CHARACTERS
"""As long as a real one, and nobody's."""


def preview_messages(ws: Workspace, campaign: str, *, customer_id: str | None, as_of: datetime) -> list[dict[str, Any]]:
    """Every step of every arm on every channel it may take, rendered for one customer, or with sample values.

    Raises RenderError for a broken template, FactsError for an unknown customer.
    """
    file = ws.campaign(campaign)
    fields, locale = _customer(ws, customer_id)
    shown = []
    for name, arm in file.campaign.arms.items():
        promises: tuple[Offer | None, ...] = promises_of(file.offers.get(arm.offer or "")) or (None,)
        for number, step in enumerate(arm.steps, start=1):
            for channel, offer in product(step.channels, promises):
                context = _context(ws, file, name, fields)
                context["offer"] = _offer(ws, file, offer, fields["customer_id"], locale, as_of)
                about = {"arm": name, "step": number, "journey": describe_step(step, number)} | _tier(offer)
                shown.append(_render(ws, channel, step.template, context, locale) | about)
    return shown


def _customer(ws: Workspace, customer_id: str | None) -> tuple[dict[str, Any], str | None]:
    sample = sample_context()["customer"]
    assert isinstance(sample, dict)  # the catalogue has a group of that name
    if customer_id is None:
        attributes = {name: f"<{name}>" for name in ws.facts.attributes()}
        return {**attributes, **sample}, None
    contact = look_up_contacts(ws.facts, [customer_id]).get(customer_id)
    if contact is None:
        raise FactsError(f"no customer {customer_id}; expected the id of a loaded customer")
    return customer_fields(contact), contact.locale


def _context(ws: Workspace, file: CampaignFile, arm: str, fields: dict[str, Any]) -> dict[str, Any]:
    company = ws.settings.company
    return {
        "customer": fields,
        "company": {"name": company.name, "postal_address": company.postal_address, "website": company.website},
        "campaign": {"name": file.campaign.name, "arm": arm},
        "unsubscribe_url": unsubscribe_url(ws.settings, _SAMPLE_TOKEN),
    }


def _tier(offer: Offer | None) -> dict[str, str]:
    """The tier a preview is of, where the offer has tiers: each of them is shown."""
    tier = offer.name.partition("/")[2] if offer else ""
    return {"tier": tier} if tier else {}


def _offer(
    ws: Workspace, file: CampaignFile, offer: Offer | None, customer_id: str, locale: str | None, as_of: datetime
) -> dict[str, str]:
    """The offer's words; its code is the one this customer would get in the campaign's first experiment.

    In place of a code out of a pool stands a placeholder: looking uses none up.
    """
    if offer is None:
        return {}
    code = offer_code(
        offer, secret=ws.secret, experiment_id=experiment_name(file.campaign.name, 1), customer_id=customer_id
    )
    return dict(offer_facts(offer, locale=locale, as_of=as_of, code=code))


def _render(
    ws: Workspace, channel: Channel, template: str, context: dict[str, Any], locale: str | None
) -> dict[str, Any]:
    content = ws.renderer.render(channel, template, context, locale=locale)
    shown: dict[str, Any] = {"channel": channel, "template": template, "content": _parts(content)}
    if isinstance(content, Sms):
        length = measure_sms(content.body)
        shown |= {"segments": length.segments, "encoding": length.encoding}
    return shown


def _parts(content: Content) -> dict[str, Any]:
    match content:
        case Sms():
            return {"body": content.body}
        case Email():
            return {"subject": content.subject, "html": content.html, "text": content.text}
        case Push():
            return {"title": content.title, "body": content.body, "data": dict(content.data)}
