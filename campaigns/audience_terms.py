"""Whom a campaign is for, how often it may write to them and what it may use up."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from campaigns.units import CAP_PATTERN, DURATION_PATTERN, Amount, Cap, PositiveDuration
from campaigns.words import CapScope, Part, Slug, either, for_all


class Audience(Part):
    """Whom the campaign is for."""

    segment: str = Field(examples=["lapsing", "recency_days >= 90 and orders >= 2"], min_length=1)
    """A named segment of segments.yaml, or an expression over the features (`retain features` lists them)."""
    limit: int | None = Field(default=None, ge=1)
    """Largest number of customers who take part in one run; above it customers are drawn by hash."""
    reentry_after: PositiveDuration | None = None
    """A customer may take part again this long after the last time. Without it: once only."""
    exclusive: Slug | None = None
    """A layer: a customer is in one campaign of a layer at a time."""
    allow_open_complaint: bool = False
    """Whether customers with an open complaint take part. Usually they are left in peace."""


class Caps(Part):
    """How often one customer may be written to, counted across all campaigns."""

    per_customer: Annotated[
        dict[CapScope, Cap],
        BeforeValidator(for_all),
        either(CAP_PATTERN, "2 per 7 days", {"sms": "1 per 7 days", "all": "3 per 7 days"}),
    ] = Field(default_factory=dict)
    """At most so many messages within any such time; one cap for all channels together, or one per channel."""
    min_gap: Annotated[
        dict[CapScope, PositiveDuration],
        BeforeValidator(for_all),
        either(DURATION_PATTERN, "20 hours", {"sms": "3 days", "all": "20 hours"}),
    ] = Field(default_factory=dict)
    """The shortest time between two messages; one gap for all channels together, or one per channel."""


class Budget(Part):
    """What the campaign may use up at most, all its runs together. Customers beyond it do not take part."""

    messages: int | None = Field(default=None, ge=0)
    """Messages."""
    cost: Amount | None = None
    """Cost of sending."""
    discounts: Amount | None = None
    """Expected cost of the offers."""
