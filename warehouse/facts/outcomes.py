"""What customers did after they were assigned: sufficient statistics per arm, and who bought since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from experiments.aggregates import Moments, SurvivalCounts
from warehouse.facts.cohorts import joined_rows
from warehouse.facts.dialects import DAY_US, MONEY_SCALE, epoch_us, money_total, to_us
from warehouse.facts.errors import FactsError
from warehouse.facts.purchases import counted_amount, is_purchase

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from warehouse.facts.store import Facts

OUTCOMES: Final = ("repurchase", "retained", "revenue", "orders", "margin")
COVARIATES: Final = ("pre_revenue", "pre_orders")
_MONEY: Final = frozenset({"revenue", "margin", "pre_revenue"})


def wave_moments(
    facts: Facts,
    cohort: pd.DataFrame,
    *,
    start: datetime,
    horizon: timedelta,
    pre_period: timedelta | None = None,
) -> dict[str, Moments]:
    """Moments per arm over everybody of a cohort, customers without orders counting as zeros.

    `cohort` has the columns customer_id and arm, one row a customer. Columns of the moments: repurchase (any purchase
    in [start, start + horizon)), retained (any in its second half), revenue, orders, margin; with `pre_period` also
    pre_revenue and pre_orders of [start - pre_period, start). Money is in major units. The numbers do not depend on
    the engine.

    Raises:
        FactsError: a customer stands in the cohort twice.
    """
    names = OUTCOMES + (COVARIATES if pre_period is not None else ())
    ids, arms = _sorted_cohort(cohort)
    rows = _window_rows(facts, ids, start, horizon, pre_period)
    found = {}
    for arm in sorted(set(arms.tolist())):
        members = np.flatnonzero(arms == arm)
        found[arm] = _moments(names, rows, members)
    return found


def _sorted_cohort(cohort: pd.DataFrame) -> tuple[list[str], NDArray[Any]]:
    ordered = cohort.sort_values("customer_id", kind="stable")
    ids = ordered["customer_id"].astype(str).tolist()
    if len(set(ids)) != len(ids):
        raise FactsError("the cohort holds a customer twice; expected one row a customer. Merge its rows first")
    return ids, ordered["arm"].to_numpy(dtype=object)


def _window_rows(
    facts: Facts, ids: Sequence[str], start: datetime, horizon: timedelta, pre_period: timedelta | None
) -> NDArray[np.float64]:
    """A matrix of a row for every member of the cohort, in the cohort's order."""
    orders = facts.tables.orders
    middle, end = start + horizon / 2, start + horizon
    bought = is_purchase(orders)
    late = orders.c.ordered_at >= start
    columns = [
        sa.func.count(_one(sa.and_(bought, late))).label("orders"),
        sa.func.count(_one(sa.and_(bought, orders.c.ordered_at >= middle))).label("late_orders"),
        money_total(sa.case((late, counted_amount(orders)))).label("revenue"),
        money_total(sa.case((late, counted_amount(orders, "margin")))).label("margin"),
    ]
    since = start
    if pre_period is not None:
        since = start - pre_period
        early = orders.c.ordered_at < start
        columns += [
            money_total(sa.case((early, counted_amount(orders)))).label("pre_revenue"),
            sa.func.count(_one(sa.and_(bought, early))).label("pre_orders"),
        ]
    window = sa.and_(orders.c.ordered_at >= since, orders.c.ordered_at < end)
    names = OUTCOMES + (COVARIATES if pre_period is not None else ())
    matrix = np.zeros((len(ids), len(names)))
    for frame in joined_rows(facts, ids, orders, columns, window, grouped=True):
        units = frame["unit"].to_numpy()
        values = {
            "repurchase": frame["orders"].to_numpy() > 0,
            "retained": frame["late_orders"].to_numpy() > 0,
        }
        for place, name in enumerate(names):
            column = values[name] if name in values else frame[name].fillna(0).to_numpy(dtype=np.float64)
            matrix[units, place] = column / MONEY_SCALE if name in _MONEY else column
    return matrix


def _one(condition: Any) -> Any:
    return sa.case((condition, sa.literal_column("1")))


def _moments(names: Sequence[str], rows: NDArray[np.float64], members: NDArray[np.intp]) -> Moments:
    return Moments.from_rows(names, rows[members])


def purchased_since(
    facts: Facts, since: Mapping[str, datetime] | tuple[Sequence[str], datetime], *, until: datetime
) -> set[str]:
    """The customers with a purchase in [since, until), `since` being given for each customer or once for all."""
    ids, starts = _starts(since)
    if not ids:
        return set()
    orders = facts.tables.orders
    last = sa.func.max(epoch_us(orders.c.ordered_at)).label("last_us")
    window = sa.and_(is_purchase(orders), orders.c.ordered_at >= min(starts), orders.c.ordered_at < until)
    found: set[str] = set()
    for unit, last_us in _pairs(joined_rows(facts, ids, orders, [last], window, grouped=True), "last_us"):
        if last_us >= to_us(starts[unit]):
            found.add(ids[unit])
    return found


def _starts(since: Mapping[str, datetime] | tuple[Sequence[str], datetime]) -> tuple[list[str], list[datetime]]:
    if isinstance(since, tuple):
        ids = list(dict.fromkeys(since[0]))
        return ids, [since[1]] * len(ids)
    return list(since), list(since.values())


def _pairs(frames: Iterator[pd.DataFrame], column: str) -> Iterator[tuple[int, int]]:
    for frame in frames:
        yield from zip(frame["unit"].tolist(), frame[column].tolist(), strict=True)


def first_purchase_days(
    facts: Facts, cohort: pd.DataFrame, *, start: datetime, until: datetime, horizon: timedelta
) -> dict[str, SurvivalCounts]:
    """Per arm, the day (from 0) of each customer's first purchase in [start, start + horizon).

    The others are censored at the end of what was observed: the earlier of `until` and the horizon.

    Raises:
        FactsError: a customer stands in the cohort twice.
    """
    ids, arms = _sorted_cohort(cohort)
    orders = facts.tables.orders
    end = min(until, start + horizon)
    first = sa.func.min(epoch_us(orders.c.ordered_at)).label("first_us")
    window = sa.and_(is_purchase(orders), orders.c.ordered_at >= start, orders.c.ordered_at < end)
    observed = max((to_us(end) - to_us(start)) // DAY_US, 0)
    days = np.full(len(ids), observed, dtype=np.float64)
    happened = np.zeros(len(ids), dtype=bool)
    for unit, first_us in _pairs(joined_rows(facts, ids, orders, [first], window, grouped=True), "first_us"):
        days[unit] = (first_us - to_us(start)) // DAY_US
        happened[unit] = True
    return {
        arm: SurvivalCounts.from_times(days[arms == arm], happened[arms == arm]) for arm in sorted(set(arms.tolist()))
    }
