"""The purchase model: is a customer still one, how often and for how much will he buy; fitted to the facts' counts.

A purchase day is one purchase of the model, however many orders it holds (as in Fader, Hardie and Lee 2005), and time
is counted in days: x repeat purchase days, t_x days from the first to the last, T days from the first to the instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from experiments.clv import BgNbd, GammaGamma, fit_bgnbd, fit_gamma_gamma
from experiments.errors import ExperimentError
from warehouse.facts.errors import FactsError
from warehouse.facts.features import MODELLED, FeatureOptions, feature_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from warehouse.facts.store import Facts

INPUTS: Final = ("purchase_days", "first_day_age", "last_day_age", "spend", "overdue_ratio")
"""What the modelled features are computed from."""
SAMPLE: Final = 20_000
"""Customers the model is fitted to; of more, every k-th in the order of their histories."""


@dataclass(frozen=True, slots=True)
class PurchaseModel:
    """BG/NBD of purchase days, Gamma-Gamma of the amount of a purchase day (None where amounts do not allow one)."""

    purchases: BgNbd
    amounts: GammaGamma | None


def fit_purchase_model(facts: Facts, *, as_of: datetime) -> PurchaseModel:
    """Fit the model to all customers with a purchase before the instant (to SAMPLE of them where there are more).

    Raises:
        FactsError: too few customers bought repeatedly.
    """
    x, t_x, age, customers = _histories(facts, as_of)
    try:
        purchases = fit_bgnbd(x, t_x, age, customers)
    except ExperimentError as error:
        raise FactsError(
            f"the purchase model as of {as_of:%Y-%m-%d} cannot be fitted ({error}); {', '.join(MODELLED)} need it. "
            "Load more orders, or leave these features out of the segment"
        ) from error
    try:
        amounts = fit_gamma_gamma(*_amounts(facts, as_of))
    except ExperimentError:
        return PurchaseModel(purchases, None)
    return PurchaseModel(purchases, amounts if amounts.q > 1.0 else None)


def add_modelled(frame: pd.DataFrame, model: PurchaseModel, options: FeatureOptions) -> pd.DataFrame:
    """The frame with the four modelled features added; it must hold INPUTS. Before the first purchase they are missing.

    churn_risk is missing below two purchase days: BG/NBD takes such a customer for alive whatever happens, and there is
    no gap to be overdue against.
    """
    days = frame["purchase_days"].to_numpy(dtype=np.float64)
    bought = days > 0
    age = np.where(bought, frame["first_day_age"].to_numpy(dtype=np.float64), 0.0)
    t_x = np.where(bought, age - np.nan_to_num(frame["last_day_age"].to_numpy(dtype=np.float64)), 0.0)
    x = np.maximum(days - 1.0, 0.0)
    alive = np.where(bought, model.purchases.p_alive(x, t_x, age), np.nan)
    year = model.purchases.expected_orders(365.0, x, t_x, age)
    quarter = model.purchases.expected_orders(90.0, x, t_x, age)
    value = _expected_value(model, days, frame["spend"].to_numpy(dtype=np.float64))
    overdue = frame["overdue_ratio"].to_numpy(dtype=np.float64)
    return frame.assign(
        p_alive=alive,
        expected_orders_90d=np.where(bought, quarter, np.nan),
        clv_365d=np.where(bought, year * value, np.nan),
        churn_risk=pd.Series(_churn_risk(alive, overdue, days, options), index=frame.index, dtype="str"),
    )


def _expected_value(model: PurchaseModel, days: NDArray[Any], spend: NDArray[Any]) -> NDArray[Any]:
    """Amount of a coming purchase day: shrunk towards everybody's, or without a model the customer's own mean."""
    mean = np.maximum(spend / np.maximum(days, 1.0), 0.0)
    return mean if model.amounts is None else model.amounts.expected_value(days, mean)


def _churn_risk(
    alive: NDArray[Any], overdue: NDArray[Any], days: NDArray[Any], options: FeatureOptions
) -> NDArray[Any]:
    late = np.nan_to_num(overdue, nan=0.0)
    high = (alive < options.high_p_alive) | (late >= options.high_overdue)
    medium = (alive < options.medium_p_alive) | (late >= options.medium_overdue)
    risk = np.where(high, "high", np.where(medium, "medium", "low")).astype(object)
    risk[days < 2] = None
    return risk


def _histories(facts: Facts, as_of: datetime) -> tuple[NDArray[np.float64], ...]:
    """x, t_x, T and how many customers share them."""
    features = feature_columns(facts, as_of, ("purchase_days", "first_day_age", "last_day_age"))
    days, first, last = (features.columns[name] for name in ("purchase_days", "first_day_age", "last_day_age"))
    inner = (
        sa.select(days.label("days"), (first - last).label("span"), first.label("age"))
        .select_from(features.source)
        .where(features.existed(), days > 0)
        .subquery("histories")
    )
    columns = (inner.c.days, inner.c.span, inner.c.age)
    statement = sa.select(*columns, sa.func.count().label("customers")).group_by(*columns).order_by(*columns)
    counted = facts.frame(statement)
    rows, weights = _thinned(counted["customers"].to_numpy())
    kept = counted.iloc[rows]
    x, t_x, age = (kept[name].to_numpy(dtype=np.float64) for name in ("days", "span", "age"))
    return x - 1.0, t_x, age, weights


def _amounts(facts: Facts, as_of: datetime) -> tuple[NDArray[np.float64], ...]:
    """Purchase days, mean amount of one and how many customers share them; customers who paid nothing are left out."""
    features = feature_columns(facts, as_of, ("purchase_days", "spend"))
    days, spend = features.columns["purchase_days"], features.columns["spend"]
    inner = (
        sa.select(days.label("days"), spend.label("spend"))
        .select_from(features.source)
        .where(features.existed(), days > 0, spend > 0)
        .subquery("amounts")
    )
    columns = (inner.c.days, inner.c.spend)
    statement = sa.select(*columns, sa.func.count().label("customers")).group_by(*columns).order_by(*columns)
    counted = facts.frame(statement)
    rows, weights = _thinned(counted["customers"].to_numpy())
    kept = counted.iloc[rows]
    n_days = kept["days"].to_numpy(dtype=np.float64)
    return n_days, kept["spend"].to_numpy(dtype=np.float64) / n_days, weights


def _thinned(customers: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which rows to keep and how many customers each then stands for: every k-th customer, or all of few."""
    total = int(customers.sum())
    if total <= SAMPLE:
        return np.arange(len(customers)), customers.astype(np.float64)
    places = (np.arange(SAMPLE) + 0.5) * (total / SAMPLE)
    rows, hits = np.unique(np.searchsorted(np.cumsum(customers), places, side="right"), return_counts=True)
    return rows, hits.astype(np.float64)
