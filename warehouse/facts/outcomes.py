"""What customers did after they were assigned: sufficient statistics per arm, and who bought since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from experiments.aggregates import Moments, SurvivalCounts
from experiments.winsorising import SparseRows
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
_SOURCES: Final = {"repurchase": "orders", "retained": "late_orders"}
"""Columns that say whether a count is above zero."""


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
    members = Cohort.of_frame(cohort)
    window = _read_window(facts, members, start, horizon, pre_period)
    return {arm: window.moments(members.units_of(arm)) for arm in members.arms}


def wave_moments_and_rows(
    facts: Facts,
    cohort: pd.DataFrame,
    *,
    start: datetime,
    horizon: timedelta,
    pre_period: timedelta,
    columns: Sequence[str],
) -> tuple[dict[str, Moments], dict[str, SparseRows]]:
    """`wave_moments`, and the customers' own values of some columns per arm, from the same scan: for capping.

    Raises:
        FactsError: a customer stands in the cohort twice, or the engine refuses.
    """
    members = Cohort.of_frame(cohort)
    window = _read_window(facts, members, start, horizon, pre_period)
    arms = {arm: members.units_of(arm) for arm in members.arms}
    moments = {arm: window.moments(units) for arm, units in arms.items()}
    return moments, {arm: window.sparse(units, columns) for arm, units in arms.items()}


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

    Raises:
        FactsError: the engine refuses.
    """
    members = Cohort.of(customer_ids)
    return _read_window(facts, members, start, horizon, pre_period).filled(len(members.ids))


def _read_window(
    facts: Facts, members: Cohort, start: datetime, horizon: timedelta, pre_period: timedelta | None
) -> _Window:
    names = OUTCOMES + (COVARIATES if pre_period is not None else ())
    rows, columns = _window_sums(facts.tables.orders, start, horizon, pre_period)
    return _Window(names, joined_rows(facts, members, rows, columns, sa.true(), grouped=True))


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


class _Window:
    """What the customers of a cohort did in a window: a row for each unit that has any order in it."""

    def __init__(self, names: Sequence[str], frames: Iterable[pd.DataFrame]) -> None:
        parts = list(frames)
        self.names = names
        self.scales = [MONEY_SCALE if name in _MONEY else 1 for name in names]
        self.units = _joined(parts, "unit")
        self.columns = [_joined(parts, _SOURCES.get(name, name)) for name in names]
        self.order = np.argsort(self.units)

    def moments(self, in_arm: NDArray[np.bool_]) -> Moments:
        """Moments over the units of an arm, of whom those without a row are all zero.

        Sums are exact; products are of deviations from the mean, added in the order of the units.
        """
        n, rows = int(in_arm.sum()), self.order[in_arm[self.units[self.order]]]
        sums, means, away = [], [], []
        for place, scale in enumerate(self.scales):
            values = self._values(place, rows)
            total = int(values.sum())
            sums.append(total / scale)
            means.append(total / (scale * n))
            away.append(values / scale - means[-1])
        return _centred(self.names, sums, means, away, n)

    def sparse(self, in_arm: NDArray[np.bool_], names: Sequence[str]) -> SparseRows:
        """Some columns' values of the units of an arm that have a row, in the order of the units."""
        rows = self.order[in_arm[self.units[self.order]]]
        places = [self.names.index(name) for name in names]
        values = np.column_stack([self._values(place, rows) / self.scales[place] for place in places])
        return SparseRows(int(in_arm.sum()), tuple(names), values)

    def filled(self, n: int) -> dict[str, NDArray[np.float64]]:
        """A value for each of n units by name."""
        found = {}
        for place, (name, scale) in enumerate(zip(self.names, self.scales, strict=True)):
            found[name] = np.zeros(n)
            found[name][self.units] = self._values(place, slice(None)) / scale
        return found

    def _values(self, place: int, rows: Any) -> NDArray[np.int64]:
        values: NDArray[np.int64] = self.columns[place][rows]
        is_flag = self.names[place] in _SOURCES
        return np.minimum(values, np.int64(1)) if is_flag else values


def _joined(parts: Sequence[pd.DataFrame], name: str) -> NDArray[np.int64]:
    arrays = [part[name].to_numpy(dtype=np.int64) for part in parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *arrays])


def _centred(
    names: Sequence[str], sums: Sequence[float], means: Sequence[float], away: Sequence[NDArray[np.float64]], n: int
) -> Moments:
    """Moments from deviations from the mean; units that have none are zero, so their deviation is minus the mean."""
    width, zeros = range(len(names)), n - len(away[0])
    upper = {}
    for i in width:
        for j in range(i, len(names)):
            upper[i, j] = float(np.sum(away[i] * away[j])) + zeros * means[i] * means[j]
    return Moments(
        n=n,
        columns=tuple(names),
        sums=tuple(sums),
        central=tuple(tuple(upper[min(i, j), max(i, j)] for j in width) for i in width),
        cubes=tuple(float(np.sum(away[i] * away[i] * away[i])) - zeros * means[i] ** 3 for i in width),
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
