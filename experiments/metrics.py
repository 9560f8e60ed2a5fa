"""Metrics: rules that turn outcomes into one number per unit, and the columns each needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from experiments.errors import ExperimentError

Kind = Literal["proportion", "mean", "ratio", "survival"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One rule. `columns`: what must be collected (ratio: numerator, denominator; survival: time, event).

    `covariate`: a pre-period column for CUPED, or `numerator/denominator` where the covariate is a ratio.
    """

    name: str
    kind: Kind
    columns: tuple[str, ...]
    higher_is_better: bool = True
    definition: str = ""
    unit: str = ""
    source: Literal["facts", "ledger"] = "facts"
    covariate: str | None = None

    def __post_init__(self) -> None:
        wanted = 2 if self.kind in ("ratio", "survival") else 1
        if len(self.columns) != wanted:
            raise ExperimentError(f"metric {self.name}: a {self.kind} needs {wanted} column(s), got {self.columns}")
        if len(self.covariate_columns) > 2 or not all(self.covariate_columns):
            raise ExperimentError(
                f"metric {self.name}: covariate {self.covariate!r} must be one column, or numerator/denominator"
            )

    @property
    def column(self) -> str:
        """The (first) column."""
        return self.columns[0]

    @property
    def covariate_columns(self) -> tuple[str, ...]:
        """The pre-period columns: none, one, or numerator and denominator."""
        return () if self.covariate is None else tuple(part.strip() for part in self.covariate.split("/"))

    @property
    def needs(self) -> tuple[str, ...]:
        """All columns, those of the pre-period covariate included."""
        return (*self.columns, *self.covariate_columns)


_BUILT_IN = (
    Metric(
        "repurchase", "proportion", ("repurchase",), unit="share",
        definition="Customers with at least one purchase in [assigned, assigned + horizon)",
    ),
    Metric(
        "retained", "proportion", ("retained",), unit="share",
        definition="Customers with at least one purchase in the second half of the horizon",
    ),
    Metric(
        "revenue", "mean", ("revenue",), unit="money per customer", covariate="pre_revenue",
        definition="Order amounts within the horizon less refunds, per assigned customer (0 where nothing was bought)",
    ),
    Metric(
        "orders", "mean", ("orders",), unit="orders per customer", covariate="pre_orders",
        definition="Purchases within the horizon per assigned customer",
    ),
    Metric(
        "margin", "mean", ("margin",), unit="money per customer", covariate="pre_revenue",
        definition="Margin of the orders within the horizon, net of offers, per assigned customer",
    ),
    Metric(
        "spend_per_order", "ratio", ("revenue", "orders"), unit="money per order",
        definition="Revenue divided by orders within the horizon (descriptive: the buyers differ between arms)",
    ),
    Metric(
        "unsubscribed", "proportion", ("unsubscribed",), higher_is_better=False, unit="share", source="ledger",
        definition="Customers who unsubscribed from any channel within the horizon",
    ),
    Metric(
        "complained", "proportion", ("complained",), higher_is_better=False, unit="share", source="ledger",
        definition="Customers who marked a message as spam or complained about it within the horizon",
    ),
    Metric(
        "message_cost", "mean", ("message_cost",), higher_is_better=False, unit="money per customer", source="ledger",
        definition="What sending to the customer cost within the horizon",
    ),
    Metric(
        "time_to_repurchase", "survival", ("repurchase_day", "repurchased"), higher_is_better=False, unit="days",
        definition="Days from assignment to the first purchase; censored where the customer is still being observed",
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _BUILT_IN})


def find_metric(name: str, known: Mapping[str, Metric] = METRICS) -> Metric:
    """The metric of that name among the known ones. Raises: ExperimentError that lists them."""
    if name not in known:
        raise ExperimentError(f"metric {name!r} is not known; known are {', '.join(known)}")
    return known[name]


def is_higher_better(name: str) -> bool:
    """Whether more of this metric is good; of one that is not built in nothing else is known, so that it is."""
    return name not in METRICS or METRICS[name].higher_is_better


def parse_metric(text: str) -> Metric:
    """A metric from `visit:proportion`, `spend:mean`, `aov=revenue/orders:ratio` or `back=days/bought:survival`.

    Raises: ExperimentError that shows the accepted forms.
    """
    head, _, kind = text.rpartition(":")
    name, _, columns = head.rpartition("=")
    parts = tuple(part.strip() for part in columns.split("/"))
    kinds: dict[str, Kind] = {"proportion": "proportion", "mean": "mean", "ratio": "ratio", "survival": "survival"}
    if not head or kind.strip() not in kinds or not all(parts):
        raise ExperimentError(
            f"metric {text!r} cannot be read; write visit:proportion, spend:mean, aov=revenue/orders:ratio or "
            "back=days/bought:survival"
        )
    return Metric(name.strip() or columns.strip(), kinds[kind.strip()], parts)
