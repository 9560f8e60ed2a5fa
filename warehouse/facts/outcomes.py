"""What customers did after they were assigned: sufficient statistics per arm, and who bought since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from experiments.aggregates import Moments, SurvivalCounts
from warehouse.facts.cohorts import Cohort, joined_rows
from warehouse.facts.dialects import DAY_US, MONEY_SCALE, epoch_us, money_total, to_us
from warehouse.facts.purchases import is_purchase, order_rows

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
    pre_revenue and pre_orders of [start - pre_period, start). Money is in major units. The numbers depend neither on
    the engine nor on the order of the rows: the engine sums whole numbers per customer, and these are summed up here in
    the order of the ids.

    Raises:
        FactsError: a customer stands in the cohort twice, or the engine refuses.
    """
    names = OUTCOMES + (COVARIATES if pre_period is not None else ())
    members = Cohort.of_frame(cohort)
    rows, columns = _window_sums(facts.tables.orders, start, horizon, pre_period)
    frames = joined_rows(facts, members, rows, columns, sa.true(), grouped=True)
    units, sums = _active_rows(frames, names)
    found = {}
    for arm in members.arms:
        in_arm = members.units_of(arm)
        found[arm] = _zero_filled_moments(names, sums[:, in_arm[units]], int(in_arm.sum()))
    return found


def outcome_rows(
    facts: Facts,
    customer_ids: Sequence[str],
    *,
    start: datetime,
    horizon: timedelta,
    pre_period: timedelta | None = None,
) -> dict[str, NDArray[np.float64]]:
    """The columns of `wave_moments`, one value a customer in the order of the ids' bytes, zero where nothing happened.

    For what sufficient statistics cannot do: replaying a design on past customers. Money is in major units.
    """
    names = OUTCOMES + (COVARIATES if pre_period is not None else ())
    members = Cohort.of(customer_ids)
    rows, columns = _window_sums(facts.tables.orders, start, horizon, pre_period)
    frames = joined_rows(facts, members, rows, columns, sa.true(), grouped=True)
    units, sums = _active_rows(frames, names)
    found = {}
    for name, values in zip(names, sums, strict=True):
        found[name] = np.zeros(len(members.ids))
        found[name][units] = values / (MONEY_SCALE if name in _MONEY else 1)
    return found


def _window_sums(
    orders: sa.FromClause, start: datetime, horizon: timedelta, pre_period: timedelta | None
) -> tuple[sa.FromClause, list[Any]]:
    """The orders of the window, and sums over them as whole numbers."""
    since = start if pre_period is None else start - pre_period
    rows = order_rows(orders, sa.and_(orders.c.ordered_at >= since, orders.c.ordered_at < start + horizon))
    late, second_half = rows.c.ordered_at >= start, rows.c.ordered_at >= start + horizon / 2
    columns = [
        sa.func.count(sa.case((late, rows.c.one))).label("orders"),
        sa.func.count(sa.case((second_half, rows.c.one))).label("late_orders"),
        _total(sa.case((late, rows.c.revenue))).label("revenue"),
        _total(sa.case((late, rows.c.margin))).label("margin"),
    ]
    if pre_period is not None:
        early = rows.c.ordered_at < start
        columns += [
            _total(sa.case((early, rows.c.revenue))).label("pre_revenue"),
            sa.func.count(sa.case((early, rows.c.one))).label("pre_orders"),
        ]
    return rows, columns


def _total(amount: Any) -> Any:
    return sa.func.coalesce(money_total(amount), sa.literal_column("0"), type_=sa.BigInteger())


def _active_rows(frames: Iterable[pd.DataFrame], names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Units with any row in the window, ascending, and a matrix of a row for each name and a column for each unit."""
    units: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    parts: list[NDArray[np.int64]] = [np.empty((len(names), 0), dtype=np.int64)]
    for frame in frames:
        frame["repurchase"], frame["retained"] = frame["orders"] > 0, frame["late_orders"] > 0
        units.append(frame["unit"].to_numpy(dtype=np.int64))
        parts.append(np.stack([frame[name].to_numpy(dtype=np.int64) for name in names]))
    found = np.concatenate(units)
    order = np.argsort(found, kind="stable")
    return found[order], np.concatenate(parts, axis=1)[:, order]


def _zero_filled_moments(names: Sequence[str], rows: NDArray[np.int64], n: int) -> Moments:
    """Moments over n units, of whom those without a column in `rows` are all zero.

    Sums are exact; products are of deviations from the mean, added in a fixed order.
    """
    scales = [MONEY_SCALE if name in _MONEY else 1 for name in names]
    totals = [int(row.sum()) for row in rows]
    means = [total / (scale * n) for total, scale in zip(totals, scales, strict=True)]
    away = [row / scale - mean for row, scale, mean in zip(rows, scales, means, strict=True)]
    zeros = n - rows.shape[1]
    width = range(len(names))
    upper = {
        (i, j): float(np.sum(away[i] * away[j])) + zeros * means[i] * means[j] for i in width for j in width if i <= j
    }
    cubes = tuple(float(np.sum(away[i] * away[i] * away[i])) - zeros * means[i] ** 3 for i in width)
    return Moments(
        n=n,
        columns=tuple(names),
        sums=tuple(total / scale for total, scale in zip(totals, scales, strict=True)),
        central=tuple(tuple(upper[min(i, j), max(i, j)] for j in width) for i in width),
        cubes=cubes,
    )


def purchased_since(
    facts: Facts, since: Mapping[str, datetime] | tuple[Sequence[str], datetime], *, until: datetime
) -> set[str]:
    """The customers with a purchase in [since, until), `since` being given for each customer or once for all."""
    starts = dict.fromkeys(since[0], since[1]) if isinstance(since, tuple) else since
    if not starts:
        return set()
    cohort = Cohort.of(list(starts))
    orders = facts.tables.orders
    last = sa.func.max(epoch_us(orders.c.ordered_at)).label("last_us")
    first = min(starts.values()).astimezone(UTC)
    window = sa.and_(is_purchase(orders), orders.c.ordered_at >= first, orders.c.ordered_at < until)
    ids = cohort.ids.to_pylist()
    found = set()
    for frame in joined_rows(facts, cohort, orders, [last], window, grouped=True):
        for unit, last_us in zip(frame["unit"].tolist(), frame["last_us"].tolist(), strict=True):
            if last_us >= to_us(starts[ids[unit]]):
                found.add(ids[unit])
    return found


def first_purchase_days(
    facts: Facts, cohort: pd.DataFrame, *, start: datetime, until: datetime, horizon: timedelta
) -> dict[str, SurvivalCounts]:
    """Per arm, the day (from 0) of each customer's first purchase in [start, start + horizon).

    The others are censored at the end of what was observed: the earlier of `until` and the horizon.

    Raises:
        FactsError: a customer stands in the cohort twice, or the engine refuses.
    """
    members = Cohort.of_frame(cohort)
    orders = facts.tables.orders
    end = min(until, start + horizon)
    first = sa.func.min(epoch_us(orders.c.ordered_at)).label("first_us")
    window = sa.and_(is_purchase(orders), orders.c.ordered_at >= start, orders.c.ordered_at < end)
    observed = max((to_us(end) - to_us(start)) // DAY_US, 0)
    days = np.full(len(members.ids), observed, dtype=np.int64)
    happened = np.zeros(len(members.ids), dtype=bool)
    for frame in joined_rows(facts, members, orders, [first], window, grouped=True):
        units = frame["unit"].to_numpy()
        days[units] = (frame["first_us"].to_numpy() - to_us(start)) // DAY_US
        happened[units] = True
    arms = {arm: members.units_of(arm) for arm in members.arms}
    return {arm: SurvivalCounts.from_times(days[units], happened[units]) for arm, units in arms.items()}
