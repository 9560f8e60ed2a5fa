"""Moments that bring customers into a campaign: so long after an event or a first purchase, or around a birthday."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import sqlalchemy as sa

from campaigns.birthdays import birthdays_between, day_begins
from campaigns.journey_terms import BIRTHDAY, FIRST_PURCHASE, Trigger
from campaigns.timing import candidate_zones
from warehouse.facts.dialects import UtcInstant, epoch_us, to_us
from warehouse.facts.purchases import is_purchase

if TYPE_CHECKING:
    from warehouse.facts.store import Facts

_WIDEST_ZONE: Final = timedelta(hours=26)
"""No two places on Earth begin a day further apart."""


def trigger_moments(
    facts: Facts, trigger: Trigger, *, start: datetime, end: datetime, default_zone: str | None = None
) -> pd.DataFrame:
    """The customers with a moment of the trigger in [start, end), the last one of each.

    Columns: customer_id, by which the rows are sorted, and triggered_at (aware UTC). A birthday's moment is the first
    instant of its day, or of the day so long before it, wherever the customer may live: the latest of the zones of the
    profile, the country, `default_zone`, or UTC. 29 February is 1 March in other years.

    Raises:
        FactsError: the engine refuses.
    """
    if trigger.event == BIRTHDAY:
        found = _birthdays(facts, trigger, start, end, default_zone)
    else:
        make = _first_purchases if trigger.event == FIRST_PURCHASE else _events
        frame = facts.frame(make(facts, trigger.event, start - trigger.after, end - trigger.after))
        at = pd.to_datetime(frame["at_us"].astype("int64"), unit="us", utc=True) + trigger.after
        found = pd.DataFrame({"customer_id": frame["customer_id"], "triggered_at": at.astype("datetime64[us, UTC]")})
    found["customer_id"] = found["customer_id"].astype(object)
    return found.sort_values("customer_id", key=_by_bytes, ignore_index=True)


def _by_bytes(ids: pd.Series[str]) -> pd.Series[bytes]:
    return ids.map(str.encode)


def _events(facts: Facts, event: str, start: datetime, end: datetime) -> sa.Select[Any]:
    events = facts.tables.events
    return (
        sa.select(events.c.customer_id, sa.func.max(epoch_us(events.c.occurred_at)).label("at_us"))
        .where(events.c.event == event, events.c.occurred_at >= _bound(start), events.c.occurred_at < _bound(end))
        .group_by(events.c.customer_id)
    )


def _first_purchases(facts: Facts, event: str, start: datetime, end: datetime) -> sa.Select[Any]:
    del event
    orders = facts.tables.orders
    first = (
        sa.select(orders.c.customer_id, sa.func.min(epoch_us(orders.c.ordered_at)).label("at_us"))
        .where(is_purchase(orders), orders.c.ordered_at < _bound(end))
        .group_by(orders.c.customer_id)
        .subquery("first_purchases")
    )
    since = sa.literal(to_us(start), sa.BigInteger())
    return sa.select(first.c.customer_id, first.c.at_us).where(first.c.at_us >= since)


def _bound(at: datetime) -> Any:
    return sa.literal(at.astimezone(UTC), UtcInstant())


def _birthdays(
    facts: Facts, trigger: Trigger, start: datetime, end: datetime, default_zone: str | None
) -> pd.DataFrame:
    """Dates are compared in the engine, by month and day; the customers' own midnights are worked out here."""
    shift = trigger.after - trigger.before
    days = birthdays_between((start - shift - _WIDEST_ZONE).date(), (end - shift + _WIDEST_ZONE).date())
    customers = facts.tables.customers
    month, day = (sa.cast(sa.extract(part, customers.c.birthday), sa.Integer()) for part in ("month", "day"))
    code: Any = month * sa.literal_column("100") + day
    columns = (customers.c.customer_id, customers.c.time_zone, customers.c.country, code.label("code"))
    statement = sa.select(*columns).where(customers.c.birthday.is_not(None), code.in_(sorted(days)))
    frame = facts.frame(statement)
    begins = [
        _last_within(days[int(code)], shift, _zones(zone, country, default_zone), start, end)
        for code, zone, country in zip(frame["code"], frame["time_zone"], frame["country"], strict=True)
    ]
    moments = pd.Series(begins, dtype="datetime64[us, UTC]", index=frame.index)
    return pd.DataFrame({"customer_id": frame["customer_id"], "triggered_at": moments}).dropna()


def _zones(zone: Any, country: Any, default: str | None) -> tuple[str, ...]:
    known = candidate_zones(*(value if isinstance(value, str) else None for value in (zone, country)))
    return known or (default or "UTC",)


def _last_within(
    days: list[date], shift: timedelta, zones: tuple[str, ...], start: datetime, end: datetime
) -> datetime | None:
    moments = [day_begins(day + shift, zones) for day in days]
    return max((moment for moment in moments if start <= moment < end), default=None)
