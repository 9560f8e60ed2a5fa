"""The campaign file as a model: every key, its type, its default and what it means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from campaigns.nearest import did_you_mean
from campaigns.timing import Window
from campaigns.units import (
    CAP_PATTERN,
    DURATION_PATTERN,
    Amount,
    Cap,
    ClockTime,
    Duration,
    Effect,
    PositiveDuration,
    Share,
    show,
)
from experiments.metrics import METRICS

Channel = Literal["sms", "email", "push"]
Status = Literal["draft", "active", "paused", "archived"]
IfLate = Literal["skip", "next_window", "send"]
CapScope = Literal["all", "sms", "email", "push"]

CONTROL: Final = "control"
"""The name of the arm that gets nothing."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Part(BaseModel):
    """A mapping of the file: no unknown keys, no guessed types, unchangeable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)


def as_tuple(value: object) -> tuple[object, ...]:
    """A list of the file as a tuple."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list, got {show(value)}")
    return tuple(value)


def _parse_slug(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", value) or len(value) > 64:
        raise ValueError(
            f"expected lower-case letters, digits and single dashes such as winback-90d, got {show(value)}"
        )
    return value


def _parse_template(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", value):
        raise ValueError(
            f"expected the name of a template without its ending, such as winback_reminder, got {show(value)}"
        )
    return value


def _parse_cron(value: object) -> str:
    hint = 'expected five cron fields such as "0 9 * * 1" (minute, hour, day, month, weekday)'
    if not isinstance(value, str) or len(value.split()) != 5:
        raise ValueError(f"{hint}, got {show(value)}")
    try:
        next(CronSim(value, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"{hint}, got {show(value)}: {error}") from None
    except StopIteration:
        raise ValueError(f"{show(value)} never comes; {hint}") from None
    return value


def _parse_time_zone(value: object) -> str:
    try:
        return ZoneInfo(str(value)).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        meant = did_you_mean(value, available_timezones())
        raise ValueError(f"expected a time zone such as Europe/London, got {show(value)}{meant}") from None


def _parse_days(value: object) -> frozenset[int]:
    names = as_tuple(value)
    for name in names:
        if name not in DAYS:
            raise ValueError(f"expected days from {', '.join(DAYS)}, got {show(name)}{did_you_mean(name, DAYS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError("expected at least one day, each named once")
    return frozenset(DAYS.index(str(name)) for name in names)


def _for_all(value: object) -> object:
    """One value stands for all channels together; a mapping says it per channel."""
    return value if isinstance(value, Mapping) else {"all": value}


def _either(pattern: str, *examples: object) -> WithJsonSchema:
    one = {"type": "string", "pattern": pattern}
    by_scope = {
        "type": "object",
        "properties": dict.fromkeys(get_args(CapScope), one),
        "additionalProperties": False,
        "minProperties": 1,
    }
    return WithJsonSchema({"anyOf": [one, by_scope], "examples": list(examples)})


Slug = Annotated[
    str,
    BeforeValidator(_parse_slug),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 64}),
]
TemplateName = Annotated[
    str, BeforeValidator(_parse_template), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9_]*$"})
]
MetricName = Annotated[
    str,
    WithJsonSchema({"type": "string", "enum": [name for name in sorted(METRICS) if METRICS[name].kind != "survival"]}),
]
"""Checked by `campaigns.checks`, which knows what each metric can be used for."""
FeatureName = Annotated[str, WithJsonSchema({"type": "string", "examples": ["tier", "value_tier", "churn_risk"]})]
"""Checked by `campaigns.checks` against the catalogue and the company's own columns."""
Cron = Annotated[
    str, BeforeValidator(_parse_cron), WithJsonSchema({"type": "string", "examples": ["0 9 * * 1", "30 8 * * *"]})
]
TimeZone = Annotated[
    str, BeforeValidator(_parse_time_zone), WithJsonSchema({"type": "string", "examples": ["Europe/London"]})
]
Days = Annotated[
    frozenset[int],
    BeforeValidator(_parse_days),
    WithJsonSchema({"type": "array", "items": {"enum": list(DAYS)}, "minItems": 1, "uniqueItems": True}),
]


class Schedule(Part):
    """When the campaign runs by itself."""

    cron: Cron
    """Minute, hour, day of the month, month, weekday."""
    timezone: TimeZone
    """The zone the cron line is read in. When a customer gets the message is decided by `timing`, not here."""


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


class Guardrail(Part):
    """How much worse a metric may get before an arm counts as harmful. Give exactly one of the two."""

    max_increase: Effect | None = None
    """For what should stay low, such as unsubscribed."""
    max_decrease: Effect | None = None
    """For what should stay high, such as margin."""


class Experiment(Part):
    """How the campaign is measured. Frozen when the first customer is assigned."""

    hypothesis: str = ""
    """What you expect, in one sentence."""
    control: Share
    """The share of customers who get nothing, so that there is something to compare with."""
    unit: Literal["customer"] = "customer"
    """What is assigned to an arm."""
    allocation: Literal["fixed"] = "fixed"
    """How the shares of the arms are set: as the file says."""
    horizon: PositiveDuration
    """How long after assignment outcomes count."""
    primary: MetricName
    """The metric that decides."""
    metrics: Annotated[tuple[MetricName, ...], BeforeValidator(as_tuple)] = Field(
        default=(), examples=[["revenue", "margin", "orders", "retained"]]
    )
    """Further metrics that are reported."""
    guardrails: dict[MetricName, Guardrail] = Field(
        default_factory=dict, examples=[{"unsubscribed": {"max_increase": "0.5pp"}}]
    )
    """Metrics that must not get worse by more than a margin."""
    minimum_effect: Effect
    """The smallest effect worth acting on: 1.5pp (percentage points), 10% (of control's value), 0.50 EUR."""
    looks: int = Field(default=1, ge=1, le=20)
    """How many planned analyses there are (Lan-DeMets, O'Brien-Fleming); 1 is a fixed horizon."""
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    """The chance of a false alarm that is accepted."""
    power: float = Field(default=0.8, gt=0.0, lt=1.0)
    """The chance of finding the minimum effect when it is there."""
    segments: Annotated[tuple[FeatureName, ...], BeforeValidator(as_tuple)] = Field(
        default=(), max_length=8, examples=[["tier", "value_tier", "churn_risk", "preferred_channel"]]
    )
    """Features of few values by which effects are explored; named before the first customer is assigned."""
    bayesian: bool = False
    """Whether the chance to beat control and the expected loss are shown beside the results."""
    expected_lift: Effect | None = None
    """Written by retain after a promotion: the lift to expect, shrunk for the winner's luck."""


class LocalHours(Part):
    """Hours of the week in the customer's own time. A window that ends no later than it begins runs over midnight."""

    days: Days = frozenset(range(7))
    """Days of the week (mon, tue, ...). An overnight window belongs to the day on which it opens."""
    opens: ClockTime = Field(alias="from")
    """First minute, as HH:MM."""
    closes: ClockTime = Field(alias="to")
    """End, as HH:MM; this minute is no longer in."""

    @property
    def window(self) -> Window:
        """The same hours as the planner reads them."""
        return Window(self.days, self.opens, self.closes)


class Timing(Part):
    """When messages may leave."""

    window: LocalHours = LocalHours.model_construct(days=frozenset(range(7)), opens=time(9), closes=time(20))
    """Hours in the customer's own time; without it every day from 09:00 to 20:00."""
    if_late: IfLate = "next_window"
    """What happens to a message that missed its window: skip it, wait for the next window, or send it at once."""
    max_lateness: Duration = timedelta(days=3)
    """A message that is later than this is skipped."""


class TimingChange(Part):
    """What an arm or a step does differently from the campaign's timing; the rest stays."""

    window: LocalHours | None = None
    """Hours in the customer's own time."""
    if_late: IfLate | None = None
    """What happens to a message that missed its window."""
    max_lateness: Duration | None = None
    """A message that is later than this is skipped."""


class Step(Part):
    """One message of an arm."""

    channel: Channel
    """How it is sent."""
    template: TemplateName
    """The words: templates/CHANNEL/NAME without its ending."""
    after: Duration = timedelta(0)
    """How long to wait after the step before (the first step: after the assignment)."""
    unless: Literal["purchased"] | None = None
    """Leave the step out for customers of whom this is true by then."""
    fallback: Annotated[tuple[Channel, ...], BeforeValidator(as_tuple)] = ()
    """Channels to use, in this order, for customers who cannot be reached on the first; same template name."""
    timing: TimingChange | None = None
    """What this step does differently from the arm's timing."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that would do, in order of preference."""
        return (self.channel, *self.fallback)


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


class Caps(Part):
    """How often one customer may be written to, counted across all campaigns."""

    per_customer: Annotated[
        dict[CapScope, Cap],
        BeforeValidator(_for_all),
        _either(CAP_PATTERN, "2 per 7 days", {"sms": "1 per 7 days", "all": "3 per 7 days"}),
    ] = Field(default_factory=dict)
    """At most so many messages within any such time; one cap for all channels together, or one per channel."""
    min_gap: Annotated[
        dict[CapScope, PositiveDuration],
        BeforeValidator(_for_all),
        _either(DURATION_PATTERN, "20 hours", {"sms": "3 days", "all": "20 hours"}),
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


class Feedback(Part):
    """What happens to this file when the experiment has a winner."""

    mode: Literal["off", "propose", "apply"] = "off"
    """off: nothing; propose: a patch to review; apply: the file is changed."""
    holdback: Share = 0.1
    """The share that stays in control after a promotion, so that the lift goes on being measured."""


class Campaign(Part):
    """A retention campaign: what is said to whom, when and why, and how it is measured."""

    name: Slug = Field(alias="campaign")
    """The campaign's name for ever: its history hangs on it."""
    description: str = ""
    """One line for people."""
    owner: str = ""
    """Who answers for it."""
    version: str = ""
    """A note on the state of the file; retain writes one when a decision changes the file."""
    status: Status = "draft"
    """Only an active campaign runs by itself."""
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
