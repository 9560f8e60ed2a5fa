"""The feature catalogue: what a segment may ask about a customer as of an instant T. Names and meanings; no queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Kind = Literal["number", "text", "boolean", "instant"]
Need = Literal["customers", "orders", "events", "model"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One fact about a customer as of T, computed only from rows before T.

    `kind` is what it may be compared with, `unit` what its numbers count, `needs` the data it comes from ("model": a
    purchase model fitted to the orders), `values` every text it can take where that list is closed. A feature that is
    not known for a customer is missing: every comparison with it is false.
    """

    name: str
    kind: Kind
    unit: str
    definition: str
    needs: tuple[Need, ...]
    values: tuple[str, ...] = ()


_PURCHASES: Final = (
    Feature(
        "recency_days",
        "number",
        "days",
        "Whole days since the last purchase; missing before the first one.",
        ("orders",),
    ),
    Feature("orders", "number", "purchases", "Purchases ever; refunded and cancelled orders are none.", ("orders",)),
    Feature("orders_365d", "number", "purchases", "Purchases in the last 365 days.", ("orders",)),
    Feature("spend", "number", "money", "Amount of all orders ever, less refunds.", ("orders",)),
    Feature("spend_365d", "number", "money", "Amount of the orders of the last 365 days, less refunds.", ("orders",)),
    Feature(
        "average_order", "number", "money", "Spend divided by orders; missing before the first purchase.", ("orders",)
    ),
    Feature(
        "tenure_days",
        "number",
        "days",
        "Whole days since the customer was created or first bought, whichever came first.",
        ("customers", "orders"),
    ),
    Feature(
        "typical_gap_days",
        "number",
        "days",
        "Days from the first to the last purchase divided by the number of gaps between; missing below two purchases.",
        ("orders",),
    ),
    Feature(
        "overdue_ratio",
        "number",
        "ratio",
        "recency_days divided by typical_gap_days: 2 means silent for twice the usual gap; missing without a gap.",
        ("orders",),
    ),
    Feature(
        "rfm_r",
        "number",
        "quintile",
        "Quintile of recency among all buyers: 5 bought last, 1 longest ago.",
        ("orders",),
    ),
    Feature(
        "rfm_f", "number", "quintile", "Quintile of the number of purchases among all buyers: 5 is most.", ("orders",)
    ),
    Feature("rfm_m", "number", "quintile", "Quintile of spend among all buyers: 5 is most.", ("orders",)),
    Feature(
        "value_tier",
        "text",
        "tier",
        "Among those who bought in the last 365 days: gold is the top 20 % by spend with two purchases; silver the "
        "upper half with two purchases in 180 days; member everybody else. Thresholds in retain.toml.",
        ("orders",),
        ("gold", "silver", "member"),
    ),
    Feature(
        "loyalty_index",
        "number",
        "points 0-100",
        "The three RFM quintiles on one scale: 0 is lowest in all, 100 highest in all; missing without purchases.",
        ("orders",),
    ),
    Feature(
        "best_hour",
        "number",
        "hour 0-23",
        "Hour of the day, in UTC, with most purchases and visits so far; the earliest of equals; missing without any.",
        ("orders", "events"),
    ),
)

_MODELLED: Final = (
    Feature(
        "p_alive",
        "number",
        "share 0-1",
        "Chance that the customer is still a customer (BG/NBD; Fader, Hardie and Lee 2005).",
        ("orders", "model"),
    ),
    Feature(
        "expected_orders_90d",
        "number",
        "purchases",
        "Purchases the model expects in the next 90 days (BG/NBD).",
        ("orders", "model"),
    ),
    Feature(
        "clv_365d",
        "number",
        "money",
        "Spend the model expects in the next 365 days (BG/NBD and Gamma-Gamma).",
        ("orders", "model"),
    ),
    Feature(
        "churn_risk",
        "text",
        "level",
        "high, medium or low, from p_alive and overdue_ratio; missing below two days with purchases.",
        ("orders", "model"),
        ("low", "medium", "high"),
    ),
)

_EVENTS: Final = (
    Feature(
        "open_complaint",
        "boolean",
        "",
        "The last complaint_opened is not followed by a complaint_resolved; false without complaints.",
        ("events",),
    ),
    Feature(
        "days_since_complaint",
        "number",
        "days",
        "Whole days since the last complaint_opened; missing without complaints.",
        ("events",),
    ),
    Feature("last_nps", "number", "score", "Value of the last nps event; missing without one.", ("events",)),
    Feature("last_csat", "number", "score", "Value of the last csat event; missing without one.", ("events",)),
)

_PROFILE: Final = (
    Feature(
        "days_to_birthday",
        "number",
        "days",
        "Days until the next birthday, 0 on the day; 29 February counts as 1 March in other years; missing if unknown.",
        ("customers",),
    ),
    Feature("created_at", "instant", "instant", "When the customer was created.", ("customers",)),
    Feature(
        "country", "text", "code", "Country of the profile, as the company writes it (such as GB).", ("customers",)
    ),
    Feature("region", "text", "name", "Region of the profile, as the company writes it.", ("customers",)),
    Feature("locale", "text", "code", "Language of the profile (such as en or zh-CN).", ("customers",)),
    Feature("time_zone", "text", "name", "Time zone of the profile (such as Europe/London).", ("customers",)),
    Feature("tier", "text", "name", "Loyalty tier the company gave the customer.", ("customers",)),
    Feature(
        "preferred_channel",
        "text",
        "channel",
        "Channel the customer prefers.",
        ("customers",),
        ("sms", "email", "push"),
    ),
)

FEATURES: Final[Mapping[str, Feature]] = MappingProxyType(
    {feature.name: feature for feature in (*_PURCHASES, *_MODELLED, *_EVENTS, *_PROFILE)}
)
"""Every feature of the product by name; the company's own customer columns (attributes) come on top."""


def known_kinds(attributes: Mapping[str, Kind] | None = None) -> dict[str, Kind]:
    """Names a segment may use with their kinds: the catalogue plus the company's attributes (the catalogue wins)."""
    return {**(attributes or {}), **{name: feature.kind for name, feature in FEATURES.items()}}


def closed_values() -> dict[str, tuple[str, ...]]:
    """The features whose texts form a closed list, with that list."""
    return {name: feature.values for name, feature in FEATURES.items() if feature.values}
