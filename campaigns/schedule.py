"""When a campaign is due: the instants its cron line names in its own time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim


def due_at(cron: str, time_zone: str, *, now: datetime, within: timedelta) -> datetime | None:
    """The latest instant in (now - within, now] at which `cron` fires in `time_zone` (aware UTC), or None.

    `cron` has five fields and has been validated. In the hour that autumn repeats a line fires once; in the hour that
    spring skips it fires at the first instant after the gap.
    """
    zone = ZoneInfo(time_zone)
    latest: datetime | None = None
    for fires_at in CronSim(cron, (now - within).astimezone(zone)):
        if fires_at.astimezone(UTC) > now:
            break
        latest = fires_at.astimezone(UTC)
    return latest


def runs_between(cron: str, time_zone: str, *, start: datetime, end: datetime) -> list[datetime]:
    """The instants in (start, end] at which `cron` fires in `time_zone` (aware UTC)."""
    found: list[datetime] = []
    for fires_at in CronSim(cron, start.astimezone(ZoneInfo(time_zone))):
        if fires_at.astimezone(UTC) > end:
            break
        found.append(fires_at.astimezone(UTC))
    return found
