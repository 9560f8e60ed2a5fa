"""When messages may leave, as a campaign file says it."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from campaigns.spread import SPREAD_PATTERN, Spread, parse_spread
from campaigns.timing import Window
from campaigns.units import ClockTime, Duration, Share, parse_clock_time, show
from campaigns.words import Days, IfLate, Part

OnHolidays = Literal["send", "wait"]
BEST_HOUR = "best_hour"
"""The value of `at` by which each customer has an hour of their own."""


def _parse_at(value: object) -> time | str:
    if value == BEST_HOUR:
        return BEST_HOUR
    try:
        return parse_clock_time(value)
    except ValueError:
        raise ValueError(f'expected best_hour or a clock time such as "10:30", got {show(value)}') from None


At = Annotated[
    time | Literal["best_hour"],
    BeforeValidator(_parse_at),
    WithJsonSchema(
        {"anyOf": [{"const": BEST_HOUR}, {"type": "string", "pattern": "^([01][0-9]|2[0-3]):([0-5][0-9])$"}]}
    ),
]
SpreadText = Annotated[
    Spread,
    BeforeValidator(parse_spread),
    WithJsonSchema({"type": "string", "pattern": SPREAD_PATTERN, "examples": ["even", "500 per hour"]}),
]


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
    at: At | None = None
    """The moment in the window: a clock time, or best_hour (each customer's own). Without it, as soon as it opens."""
    explore: Share = 0.1
    """With best_hour: the share of customers who get a random hour, so that other hours are learned too."""
    spread: SpreadText | None = None
    """even: spread over the window; or a rate such as 500 per hour. Without it all leave as soon as they may."""
    on_holidays: OnHolidays = "send"
    """wait: nothing leaves on public holidays of the customer's country. Some countries' rules ask for it anyway."""
    if_late: IfLate = "next_window"
    """What happens to a message that missed its window: skip it, wait for the next window, or send it at once."""
    max_lateness: Duration = timedelta(days=3)
    """A message that is later than this is skipped."""


class TimingChange(Part):
    """What an arm or a step does differently from the campaign's timing; the rest stays."""

    window: LocalHours | None = None
    """Hours in the customer's own time."""
    at: At | None = None
    """The moment in the window: a clock time, or best_hour."""
    explore: Share | None = None
    """With best_hour: the share of customers who get a random hour."""
    spread: SpreadText | None = None
    """even, or a rate such as 500 per hour."""
    on_holidays: OnHolidays | None = None
    """Whether messages leave on public holidays of the customer's country."""
    if_late: IfLate | None = None
    """What happens to a message that missed its window."""
    max_lateness: Duration | None = None
    """A message that is later than this is skipped."""
