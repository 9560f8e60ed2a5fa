"""The arms of a campaign and the messages that make them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from campaigns.journey_terms import Conditions, Repeat
from campaigns.timing_terms import TimingChange
from campaigns.units import Duration, PositiveDuration, Share
from campaigns.words import Channel, Part, Slug, TemplateName, as_tuple


class Step(Part):
    """One message of an arm."""

    channel: Channel
    """How it is sent."""
    template: TemplateName
    """The words: templates/CHANNEL/NAME without its ending."""
    after: Duration = timedelta(0)
    """How long to wait after the step before (the first step: after the assignment)."""
    unless: Conditions = ()
    """Leave the message out for customers of whom this is true by then: purchased, redeemed, visited, opened, clicked,
    replied (each since the assignment), a named segment or an expression over the features; of a list, any."""
    repeat: Repeat | None = None
    """Send the message again and again until something is so."""
    fallback: Annotated[tuple[Channel, ...], BeforeValidator(as_tuple)] = ()
    """Channels to use, in this order, for customers who cannot be reached on the first, and when the provider says that
    a message could not be delivered; same template name."""
    fallback_after: PositiveDuration | None = None
    """Use the next channel also when nobody has reported the message delivered for so long. Reports get lost, so a
    customer may then get both messages; without it the next channel waits for proof that the message did not arrive."""
    timing: TimingChange | None = None
    """What this step does differently from the arm's timing."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that would do, in order of preference."""
        return (self.channel, *self.fallback)

    @property
    def turns(self) -> int:
        """How many messages the step makes at most on one channel."""
        return 1 if self.repeat is None else self.repeat.at_most


class Arm(Part):
    """One branch of the experiment: an offer and the messages that make it."""

    weight: Share
    """The share of customers it gets; all weights and control make 100%."""
    offer: Slug | None = None
    """The name of an offer in offers.yaml. Without it the arm only talks."""
    steps: Annotated[tuple[Step, ...], BeforeValidator(as_tuple)] = Field(min_length=1, max_length=20)
    """The messages, in order."""
    timing: TimingChange | None = None
    """What this arm does differently from the campaign's timing."""
