"""Caps as the ledger counts them: the campaign's own and the company's; all of them hold, so the strictest decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaigns.units import FrequencyCap
from warehouse.ledger.claim_rules import Cap

if TYPE_CHECKING:
    from campaigns.audience_terms import Caps
    from campaigns.model import Campaign
    from flows.settings import Settings


def caps_of(campaign: Campaign, settings: Settings) -> tuple[Cap, ...]:
    """Every cap that holds for the campaign's messages, each once; those on topics only where they can count it."""
    topic = campaign.topic
    policy = settings.caps
    of_topics = [_cap(cap, "topic", name) for name, several in policy.topics.items() for cap in several]
    found = [*_caps(campaign.caps, topic), *_caps(policy, None), *of_topics]
    return tuple(dict.fromkeys(cap for cap in found if cap.topic in (None, topic)))


def _caps(caps: Caps, topic: str | None) -> list[Cap]:
    """The caps of one file; those on its topic are left out where it has none."""
    every = [(scope, cap) for scope, several in caps.per_customer.items() for cap in several]
    every += [(scope, FrequencyCap(1, gap)) for scope, gap in caps.min_gap.items()]
    return [_cap(cap, scope, topic) for scope, cap in every if scope != "topic" or topic is not None]


def _cap(cap: FrequencyCap, scope: str, topic: str | None) -> Cap:
    return Cap(
        cap.messages,
        cap.within,
        channel=None if scope in ("all", "topic") else scope,
        topic=topic if scope == "topic" else None,
        period=cap.period,
    )
