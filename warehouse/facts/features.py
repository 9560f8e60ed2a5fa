"""Features of customers as of an instant, as SQL over the canonical tables: only what is asked for is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from warehouse.facts.errors import FactsError
from warehouse.facts.feature_parts import Column, FeatureParts, existed
from warehouse.facts.feature_values import FeatureValues

if TYPE_CHECKING:
    from warehouse.facts.purchase_model import PurchaseModel
    from warehouse.facts.store import Facts

MODELLED: Final = ("p_alive", "expected_orders_90d", "clv_365d", "churn_risk")
"""Features of the purchase model; they are computed in Python from what the engine counts."""


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """Thresholds of features that have them, and the purchase model where it is already fitted.

    The shares of value_tier are of the customers with a purchase in the last 365 days. churn_risk is high when p_alive
    is below `high_p_alive` or overdue_ratio at least `high_overdue`, else medium by the other pair, else low.
    """

    gold_share: float = 0.2
    gold_orders: int = 2
    silver_share: float = 0.5
    silver_orders: int = 2
    high_p_alive: float = 0.5
    high_overdue: float = 3.0
    medium_p_alive: float = 0.8
    medium_overdue: float = 1.5
    model: PurchaseModel | None = None


@dataclass(frozen=True, slots=True)
class DaysSince:
    """A feature that counts days since an instant: comparing it means comparing the instant with a bound cut-off."""

    at: Column
    known: Column


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Where features come from: select from `source` (one row a customer); `columns` and `days_since` by name."""

    source: sa.FromClause
    columns: Mapping[str, Column]
    days_since: Mapping[str, DaysSince]
    customers: sa.FromClause
    as_of: datetime

    def existed(self) -> Column:
        """Whether the customer existed at the instant; one without created_at always did."""
        return existed(self.customers, self.as_of)


def feature_columns(
    facts: Facts, as_of: datetime, names: Iterable[str], options: FeatureOptions | None = None
) -> FeatureColumns:
    """SQL for the features and attributes of that name as of an instant, from rows before it.

    Raises:
        FactsError: a name is neither a feature that SQL can compute nor an attribute, or the instant has no time zone.
    """
    if as_of.tzinfo is None:
        raise FactsError(f"the instant {as_of} has no time zone; expected an aware datetime such as one in UTC")
    moment = as_of.astimezone(UTC)
    wanted = sorted(set(names))
    customers = facts.tables.customers
    for name in wanted:
        if name not in _ORDERS and name not in _EVENTS and name != "days_to_birthday" and name not in customers.c:
            raise FactsError(
                f"{name}: neither a feature that is computed from the facts nor a column of customers; "
                "see `retain features` for all names"
            )
    parts = dict(_parts(FeatureParts(facts.tables, moment), wanted))
    source: sa.FromClause = customers
    for part in parts.values():
        source = source.outerjoin(part, part.c.customer_id == customers.c.customer_id)
    values = FeatureValues(customers, parts, moment, options or FeatureOptions())
    columns = {name: values.column(name) for name in wanted}
    known = {name: values.known_at(name) for name in wanted}
    days_since = {name: DaysSince(*found) for name, found in known.items() if found is not None}
    return FeatureColumns(source, columns, days_since, customers, moment)


_ORDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "recency_days": ("n", "last_at"),
    "orders": ("n",),
    "orders_365d": ("n_365",),
    "spend": ("spend",),
    "spend_365d": ("spend_365",),
    "average_order": ("n", "spend"),
    "tenure_days": ("n", "first_at"),
    "typical_gap_days": ("n", "first_at", "last_at"),
    "overdue_ratio": ("n", "first_at", "last_at"),
    "rfm_r": ("n", "last_at"),
    "rfm_f": ("n",),
    "rfm_m": ("n", "spend"),
    "loyalty_index": ("n", "last_at", "spend"),
    "value_tier": ("n_365", "n_180", "spend_365"),
    "purchase_days": ("n_days",),
    "first_day_age": ("n", "first_at"),
    "last_day_age": ("n", "last_at"),
}
"""Sums over orders that a feature needs. The last three are what the purchase model looks at, not in the catalogue."""

_EVENTS: Final[Mapping[str, str]] = {
    "open_complaint": "complaints",
    "days_since_complaint": "complaints",
    "last_nps": "nps",
    "last_csat": "csat",
    "best_hour": "hours",
}
"""The part a feature is made of, where that is not the sums over orders."""

_QUINTILES: Final[Mapping[str, tuple[str, ...]]] = {
    "rfm_r": ("rfm_r",),
    "rfm_f": ("rfm_f",),
    "rfm_m": ("rfm_m",),
    "loyalty_index": ("rfm_r", "rfm_f", "rfm_m"),
}


def _parts(parts: FeatureParts, names: list[str]) -> Iterable[tuple[str, sa.FromClause]]:
    """The parts that the features need, each once."""
    sums = {label for name in names for label in _ORDERS.get(name, ())}
    if sums:
        bought = parts.bought(sums)
        yield "bought", bought
        quintiles = {label for name in names for label in _QUINTILES.get(name, ())}
        if quintiles:
            yield "rfm", parts.rfm(bought, quintiles)
        if "value_tier" in names:
            yield "tier", parts.tier(bought)
    from_events = {_EVENTS[name] for name in names if name in _EVENTS}
    if "complaints" in from_events:
        yield "complaints", parts.complaints()
    for event in sorted(from_events & {"nps", "csat"}):
        yield event, parts.last_score(event)
    if "hours" in from_events:
        yield "hours", parts.hours()
