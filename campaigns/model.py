"""The campaign file as a model: every key, its type, its default and what it means."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from campaigns.arm_terms import Arm, Step
from campaigns.audience_terms import Audience, Budget, Caps
from campaigns.experiment_terms import Experiment, Feedback
from campaigns.timing_terms import Timing
from campaigns.words import CONTROL, DEFAULT_TOPIC, Cron, Part, Slug, Status, TimeZone, Topic


class Schedule(Part):
    """When the campaign runs by itself."""

    cron: Cron
    """Minute, hour, day of the month, month, weekday."""
    timezone: TimeZone
    """The zone the cron line is read in. When a customer gets the message is decided by `timing`, not here."""


class Campaign(Part):
    """A retention campaign: what is said to whom, when and why, and how it is measured."""

    name: Slug = Field(alias="campaign")
    """The campaign's name for ever: its history hangs on it."""
    description: str = ""
    """One line for people."""
    owner: str = ""
    """Who answers for it."""
    topic: Topic = DEFAULT_TOPIC
    """What it is about. Customers consent to topics, and may opt out of one topic without losing the others."""
    version: str = ""
    """A note on the state of the file; retain writes one when a decision changes the file."""
    status: Status = "draft"
    """Only an active campaign runs by itself."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Who comes first when several campaigns want one customer or the last place of a cap: the larger number."""
    schedule: Schedule | None = None
    """Without it the campaign runs only when somebody runs it."""
    audience: Audience
    """Whom it is for."""
    experiment: Experiment
    """How it is measured."""
    arms: dict[Slug, Arm] = Field(min_length=1, max_length=20)
    """The branches, by name, in the order in which they share out the customers."""
    timing: Timing = Timing()
    """When messages may leave; an arm or a step may differ."""
    caps: Caps = Caps()
    """How often one customer may be written to."""
    budget: Budget = Budget()
    """What the campaign may use up, all its runs together."""
    feedback: Feedback = Feedback()
    """What happens to this file when there is a winner."""

    @property
    def weights(self) -> tuple[tuple[str, float], ...]:
        """The draw: the arms in the order of the file, control last; sums to 1."""
        return (*((name, arm.weight) for name, arm in self.arms.items()), (CONTROL, self.experiment.control))

    def timing_of(self, arm: str, step: Step) -> Timing:
        """The timing of a step: the campaign's, changed by its arm's, changed by its own."""
        changed: dict[str, Any] = {}
        for change in (self.arms[arm].timing, step.timing):
            if change is not None:
                changed |= {key: getattr(change, key) for key in change.model_fields_set}
        return self.timing.model_copy(update=changed)
