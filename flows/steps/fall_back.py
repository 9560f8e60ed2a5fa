"""Messages that did not arrive: the next channel of their step is tried, where there still is a moment for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from campaigns.offers import offer_ends_at
from campaigns.send_times import Recipients, SendLimits, SendTime, plan_send_times
from campaigns.whereabouts import Whereabouts
from flows.steps.planning_rules import step_timing
from warehouse.facts.contacts import look_up_contacts
from warehouse.ledger.claim_rules import campaign_of
from warehouse.ledger.fallbacks import Successor, Undelivered, Unreported, add_fallbacks, skip_arrived, undelivered

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from flows.steps.sending_rules import Sending
    from flows.wiring import Workspace
    from warehouse.facts.contacts import Contact


def fall_back(ws: Workspace, sending: Sending, *, now: datetime) -> int:
    """Queue the next channel for every message that did not arrive; give how many were queued.

    A message did not arrive when its provider says so, when the customer cannot be reached on its channel any more, or,
    where the step says `fallback_after`, when nobody has reported it delivered for so long. What follows has its own
    key, and window, caps, consent, suppression and budget hold for it as for any message. A channel without an address
    is passed over. Campaigns that are held are left alone.
    """
    experiments = frozenset(sending.experiments)
    unreported = [step for experiment_id in sorted(experiments) for step in _unreported(sending, experiment_id, now)]
    if unreported:
        skip_arrived(ws.ledger, {step.experiment_id for step in unreported}, now)
    queued = 0
    while True:
        with ws.ledger.read() as tx:
            found = undelivered(tx, experiments, unreported)
        if not found:
            return queued
        contacts = look_up_contacts(ws.facts, sorted({message.customer_id for message in found}))
        successors = {
            message.message_key: _successor(ws, sending, message, contacts.get(message.customer_id), now)
            for message in found
        }
        queued += add_fallbacks(ws.ledger, successors, now)


def _unreported(sending: Sending, experiment_id: str, now: datetime) -> list[Unreported]:
    """The steps that do not wait for proof, as the file has them today."""
    campaign = sending.files[campaign_of(experiment_id)].campaign
    return [
        Unreported(experiment_id, name, number, now - step.fallback_after)
        for name, arm in campaign.arms.items()
        for number, step in enumerate(arm.steps, start=1)
        if step.fallback_after is not None
    ]


def _successor(
    ws: Workspace, sending: Sending, message: Undelivered, contact: Contact | None, now: datetime
) -> Successor | None:
    """What follows a message, None where no channel is left with a moment before the message would be given up."""
    file = sending.files[campaign_of(message.experiment_id)]
    channel = _first_reachable(message.left, contact)
    found = None if channel is None else _send_time(ws, file, message, channel, now)
    if channel is None or found is None or found.not_before >= message.expires_at:
        return None
    price = getattr(ws.settings.prices, channel).amount
    # not later than the first message could have left: its code may end before the offer does
    ends_at = min(found.expires_at, message.expires_at)
    return Successor(channel, found.not_before, min(found.closes_at, ends_at), ends_at, round(price * 1_000_000))


def _first_reachable(channels: Collection[str], contact: Contact | None) -> str | None:
    """The first of the channels with an address; consent is asked for when the message leaves."""
    return next((channel for channel in channels if contact is not None and contact.address(channel)), None)


def _send_time(ws: Workspace, file: CampaignFile, message: Undelivered, channel: str, now: datetime) -> SendTime | None:
    arm = file.campaign.arms.get(message.arm)
    if arm is None or message.step > len(arm.steps):
        return None
    timing = step_timing(file.campaign, message.arm, arm.steps[message.step - 1])
    offer = file.offers.get((message.offer or "").partition("/")[0])
    ends_at = offer_ends_at(offer, as_of=message.assigned_at) if offer else None
    recipients = Recipients(Whereabouts(message.zones, message.place), (channel,))
    times = plan_send_times(
        [replace(timing, after=timedelta(0))], recipients, SendLimits(now, ws.settings.policy.quiet_window, ends_at)
    )
    return None if times is None else times[0]
