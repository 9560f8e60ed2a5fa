"""When messages may leave, as a campaign file says it."""

from __future__ import annotations

from datetime import time, timedelta

from pydantic import Field

from campaigns.timing import Window
from campaigns.units import ClockTime, Duration
from campaigns.words import Days, IfLate, Part


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
