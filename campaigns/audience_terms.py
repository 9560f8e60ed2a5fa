"""Whom a campaign is for, how often it may write to them and what it may use up."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from campaigns.journey_terms import Trigger
from campaigns.units import CAP_PATTERN, DURATION_PATTERN, Amount, Cap, PositiveDuration
from campaigns.words import CapScope, Part, Slug, either, for_all, one_or_more

EVERYBODY: Final = "True"
"""The segment of an audience that names none."""


class Audience(Part):
    """Whom the campaign is for."""

    segment: str = Field(default=EVERYBODY, examples=["lapsing", "recency_days >= 90 and orders >= 2"], min_length=1)
    """A named segment of segments.yaml, or an expression over the features (`retain features` lists them). Beside a
    trigger it may be left out."""
    trigger: Trigger | None = None
    """The moment that brings a customer in: each run takes those whose moment has come since the run before. Without
    it a run takes everybody of the segment."""
    limit: int | None = Field(default=None, ge=1)
    """Largest number of customers who take part in one run; above it customers are drawn by hash."""
    reentry_after: PositiveDuration | None = None
    """A customer may take part again this long after the last time. Without it: once only."""
    exclusive: Slug | None = None
    """A layer: a customer is in one campaign of a layer at a time."""
    cool_off: PositiveDuration | None = None
    """How long a customer is left alone after the outcome window of another campaign of the layer has ended."""
    allow_open_complaint: bool = False
    """Whether customers with an open complaint take part. Usually they are left in peace."""


class Caps(Part):
    """How often one customer may be written to, counted across all campaigns."""

    per_customer: Annotated[
        dict[CapScope, Annotated[tuple[Cap, ...], BeforeValidator(one_or_more), Field(min_length=1)]],
        BeforeValidator(for_all),
        either(CAP_PATTERN, "2 per 7 days", {"sms": ["1 per day", "2 per 7 days"], "all": "3 per week"}, several=True),
    ] = Field(default_factory=dict)
    """At most so many messages within any such time ("2 per 7 days", "1 per 24 hours"), or in a calendar day or week of
    the customer's own zone ("1 per day", "3 per week", from Monday). One cap or a list; for all messages together, per
    channel, or for those of the campaign's topic. All of them hold, and those of retain.toml too."""
    min_gap: Annotated[
        dict[CapScope, PositiveDuration],
        BeforeValidator(for_all),
        either(DURATION_PATTERN, "20 hours", {"sms": "3 days", "all": "20 hours"}),
    ] = Field(default_factory=dict)
    """The shortest time between two messages: of all channels together, of one channel, or of the campaign's topic."""


class Budget(Part):
    """What the campaign may use up at most, all its runs together. Customers beyond it do not take part."""

    messages: int | None = Field(default=None, ge=0)
    """Messages."""
    cost: Amount | None = None
    """Cost of sending."""
    discounts: Amount | None = None
    """Expected cost of the offers."""
