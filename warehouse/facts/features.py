"""Features of customers as of an instant, as SQL expressions over the canonical tables: only what is asked for is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.facts.dialects import DAY_US, MONEY_SCALE, byte_order, epoch_us, money_total, to_us, whole_division
from warehouse.facts.errors import FactsError
from warehouse.facts.purchases import counted_amount, is_purchase

if TYPE_CHECKING:
    from warehouse.facts.store import Facts, Tables

Column = sa.ColumnElement[Any]

QUINTILES: Final = 5
HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """Thresholds of features that have them. Shares are of the customers with a purchase in the last 365 days."""

    gold_share: float = 0.2
    gold_orders: int = 2
    silver_share: float = 0.5
    silver_orders: int = 2


@dataclass(frozen=True, slots=True)
class DaysSince:
    """A feature that counts whole days since an instant: comparing it means comparing the instant with a bound cut-off."""

    at: Column
    known: Column


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """Where features come from: `source` to select from (one row a customer), `columns` by name, `days_since` the cut-off ones."""

    source: sa.FromClause
    columns: Mapping[str, Column]
    days_since: Mapping[str, DaysSince]
    customers: sa.FromClause
    as_of: datetime

    def created(self) -> Column:
        """Whether the customer existed at the instant; one without created_at always did."""
        return existed(self.customers, self.as_of)


def existed(customers: sa.FromClause, as_of: datetime) -> Column:
    """Whether a customer existed at an instant; one without created_at always did."""
    return sa.or_(customers.c.created_at.is_(None), customers.c.created_at < as_of)


def feature_columns(
    facts: Facts, as_of: datetime, names: Iterable[str], options: FeatureOptions | None = None
) -> FeatureColumns:
    """SQL for the features and attributes of that name as of an instant, from rows before it.

    Raises:
        FactsError: a name is neither a feature that SQL can compute nor an attribute.
    """
    builder = _Builder(facts.tables, as_of, options or FeatureOptions())
    wanted = sorted(set(names))
    for name in wanted:
        builder.need(name)
    return builder.build(wanted)


# Sums over a customer's orders before T that features are made of: label -> expression.
_Aggregate = Callable[[sa.FromClause, datetime], Column]


def _since(days: int, value: Callable[[sa.FromClause], Column]) -> _Aggregate:
    def make(orders: sa.FromClause, as_of: datetime) -> Column:
        return sa.case((orders.c.ordered_at >= as_of - timedelta(days=days), value(orders)))

    return make


def _one(orders: sa.FromClause) -> Column:
    return sa.case((is_purchase(orders), sa.literal_column("1")))


_AGGREGATES: Final[Mapping[str, Callable[[sa.FromClause, datetime], Column]]] = {
    "n": lambda o, t: sa.func.count(_one(o)),
    "n_180": lambda o, t: sa.func.count(_since(180, _one)(o, t)),
    "n_365": lambda o, t: sa.func.count(_since(365, _one)(o, t)),
    "spend": lambda o, t: money_total(counted_amount(o)),
    "spend_365": lambda o, t: money_total(_since(365, counted_amount)(o, t)),
    "last_at": lambda o, t: sa.func.max(sa.case((is_purchase(o), o.c.ordered_at))),
    "first_at": lambda o, t: sa.func.min(sa.case((is_purchase(o), o.c.ordered_at))),
    "n_days": lambda o, t: sa.func.count(sa.distinct(sa.case((is_purchase(o), _day(o.c.ordered_at))))),
}

_BOUGHT: Final[Mapping[str, tuple[str, ...]]] = {
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
    "repeat_days": ("n", "n_days"),
    "first_day_age": ("n", "first_at"),
    "last_day_age": ("n", "last_at"),
}
"""Aggregates each feature needs. The last three are the (x, t_x, T) of the purchase model, not features of the catalogue."""

_RANKED: Final = {
    "rfm_r": ("rfm_r",),
    "rfm_f": ("rfm_f",),
    "rfm_m": ("rfm_m",),
    "loyalty_index": ("rfm_r", "rfm_f", "rfm_m"),
}
_COMPLAINTS: Final = ("open_complaint", "days_since_complaint")
_SCORES: Final = {"last_nps": "nps", "last_csat": "csat"}


@dataclass
class _Builder:
    tables: Tables
    as_of: datetime
    options: FeatureOptions
    aggregates: set[str] = field(default_factory=set)
    quintiles: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)

    def need(self, name: str) -> None:
        if name in _BOUGHT:
            self.aggregates.update(_BOUGHT[name])
            self.quintiles.update(_RANKED.get(name, ()))
            if name == "value_tier":
                self.parts.add("tier")
        elif name in _COMPLAINTS:
            self.parts.add("complaints")
        elif name in _SCORES:
            self.parts.add(_SCORES[name])
        elif name == "best_hour":
            self.parts.add("hours")
        elif name != "days_to_birthday" and name not in self.tables.customers.c:
            raise FactsError(
                f"{name}: neither a feature that is computed from the facts nor a column of customers; "
                "see `retain features` for all names"
            )

    def build(self, names: list[str]) -> FeatureColumns:
        customers = self.tables.customers
        source: sa.FromClause = customers
        joined: dict[str, sa.FromClause] = {}
        for label, part in self._parts():
            joined[label] = part
            source = source.outerjoin(part, part.c.customer_id == customers.c.customer_id)
        maker = _Features(customers, joined, self.as_of, self.options)
        columns = {name: maker.column(name) for name in names}
        return FeatureColumns(source, columns, maker.days_since(), customers, self.as_of)

    def _parts(self) -> Iterable[tuple[str, sa.FromClause]]:
        if self.aggregates:
            bought = self._bought()
            yield "bought", bought
            if self.quintiles:
                yield "rfm", self._rfm(bought)
            if "tier" in self.parts:
                yield "tier", self._tier(bought)
        if "complaints" in self.parts:
            yield "complaints", self._complaints()
        for event in ("nps", "csat"):
            if event in self.parts:
                yield event, self._last_score(event)
        if "hours" in self.parts:
            yield "hours", self._hours()

    def _bought(self) -> sa.CTE:
        orders = self.tables.orders
        sums = [_AGGREGATES[label](orders, self.as_of).label(label) for label in sorted(self.aggregates)]
        return (
            sa.select(orders.c.customer_id, *sums)
            .where(orders.c.ordered_at < self.as_of)
            .group_by(orders.c.customer_id)
            .cte("bought")
        )

    def _buyers(self, bought: sa.CTE, count: str) -> tuple[sa.FromClause, Column]:
        """Customers of the instant with a purchase, and the condition that says so."""
        customers = self.tables.customers
        joined = bought.join(customers, customers.c.customer_id == bought.c.customer_id)
        return joined, sa.and_(existed(customers, self.as_of), bought.c[count] > 0)

    def _rfm(self, bought: sa.CTE) -> sa.CTE:
        source, condition = self._buyers(bought, "n")
        tie = byte_order(bought.c.customer_id)
        by = {"rfm_r": "last_at", "rfm_f": "n", "rfm_m": "spend"}
        ntile = sa.func.ntile(sa.literal_column(str(QUINTILES)), type_=sa.Integer())
        scores = [ntile.over(order_by=[bought.c[by[label]], tie]).label(label) for label in sorted(self.quintiles)]
        return sa.select(bought.c.customer_id, *scores).select_from(source).where(condition).cte("rfm")

    def _tier(self, bought: sa.CTE) -> sa.CTE:
        """Place by 365-day spend, highest first, and how many places there are."""
        source, condition = self._buyers(bought, "n_365")
        place = sa.func.row_number().over(order_by=[bought.c.spend_365.desc(), byte_order(bought.c.customer_id)])
        everybody = sa.func.count().over()
        return (
            sa.select(bought.c.customer_id, place.label("place"), everybody.label("places"))
            .select_from(source)
            .where(condition)
            .cte("tier")
        )

    def _complaints(self) -> sa.CTE:
        events = self.tables.events
        opened = sa.case((events.c.event == "complaint_opened", events.c.occurred_at))
        resolved = sa.case((events.c.event == "complaint_resolved", events.c.occurred_at))
        return (
            sa.select(
                events.c.customer_id,
                sa.func.count(opened).label("n_opened"),
                sa.func.count(resolved).label("n_resolved"),
                sa.func.max(opened).label("opened_at"),
                sa.func.max(resolved).label("resolved_at"),
            )
            .where(events.c.event.in_(["complaint_opened", "complaint_resolved"]), events.c.occurred_at < self.as_of)
            .group_by(events.c.customer_id)
            .cte("complaints")
        )

    def _last_score(self, event: str) -> sa.CTE:
        events = self.tables.events
        turn = sa.func.row_number().over(
            partition_by=events.c.customer_id,
            order_by=[events.c.occurred_at.desc(), byte_order(events.c.event_id).desc()],
        )
        scored = (
            sa.select(events.c.customer_id, events.c.value, turn.label("turn"))
            .where(events.c.event == event, events.c.occurred_at < self.as_of, events.c.value.is_not(None))
            .subquery(f"{event}_turns")
        )
        return (
            sa.select(scored.c.customer_id, scored.c.value, scored.c.turn.label("n"))
            .where(scored.c.turn == 1)
            .cte(f"last_{event}")
        )

    def _hours(self) -> sa.CTE:
        """The hour with most purchases and visits, the earliest of equals."""
        orders, events = self.tables.orders, self.tables.events
        moments = sa.union_all(
            sa.select(orders.c.customer_id, _hour(orders.c.ordered_at).label("hour")).where(
                orders.c.ordered_at < self.as_of, is_purchase(orders)
            ),
            sa.select(events.c.customer_id, _hour(events.c.occurred_at).label("hour")).where(
                events.c.occurred_at < self.as_of, events.c.event == "visit"
            ),
        ).subquery("moments")
        counted = (
            sa.select(moments.c.customer_id, moments.c.hour, sa.func.count().label("n"))
            .group_by(moments.c.customer_id, moments.c.hour)
            .subquery("hour_counts")
        )
        turn = sa.func.row_number().over(
            partition_by=counted.c.customer_id, order_by=[counted.c.n.desc(), counted.c.hour]
        )
        turns = sa.select(counted.c.customer_id, counted.c.hour, turn.label("turn")).subquery("hour_turns")
        return (
            sa.select(turns.c.customer_id, turns.c.hour, turns.c.turn.label("n")).where(turns.c.turn == 1).cte("hours")
        )


@dataclass
class _Features:
    """The expression of each feature over the joined parts. A part without a row for the customer counts as zero."""

    customers: sa.FromClause
    parts: Mapping[str, sa.FromClause]
    as_of: datetime
    options: FeatureOptions

    def column(self, name: str) -> Column:
        maker: Callable[[], Column] | None = getattr(self, f"_{name}", None)
        return maker() if maker is not None else self.customers.c[name]

    def days_since(self) -> dict[str, DaysSince]:
        found = {}
        if "bought" in self.parts and "last_at" in self.parts["bought"].c:
            found["recency_days"] = DaysSince(self.parts["bought"].c.last_at, self._n("bought") > 0)
        if "complaints" in self.parts:
            found["days_since_complaint"] = DaysSince(
                self.parts["complaints"].c.opened_at, self._n("complaints", "n_opened") > 0
            )
        return found

    def _n(self, part: str, label: str = "n") -> Column:
        return sa.func.coalesce(self.parts[part].c[label], sa.literal_column("0"))

    def _known(self, value: Column, part: str, label: str = "n", least: int = 1) -> Column:
        """The value where the customer has at least that many rows in a part, else missing."""
        return sa.case((self._n(part, label) >= sa.literal_column(str(least)), value))

    def _days_since(self, at: Column) -> Column:
        return whole_division(
            sa.literal(to_us(self.as_of), sa.BigInteger()) - epoch_us(at), sa.literal_column(str(DAY_US))
        )

    def _money(self, label: str) -> Column:
        return sa.cast(self._n("bought", label), sa.Double()) / sa.literal(float(MONEY_SCALE), sa.Double())

    def _orders(self) -> Column:
        return self._n("bought")

    def _orders_365d(self) -> Column:
        return self._n("bought", "n_365")

    def _spend(self) -> Column:
        return self._money("spend")

    def _spend_365d(self) -> Column:
        return self._money("spend_365")

    def _average_order(self) -> Column:
        return self._known(self._money("spend") / sa.cast(self._n("bought"), sa.Double()), "bought")

    def _recency_days(self) -> Column:
        return self._known(self._days_since(self.parts["bought"].c.last_at), "bought")

    def _tenure_days(self) -> Column:
        created, first = self.customers.c.created_at, self.parts["bought"].c.first_at
        bought_first = sa.and_(self._n("bought") > 0, sa.or_(created.is_(None), first < created))
        return self._days_since(sa.case((bought_first, first), else_=created))

    def _typical_gap_days(self) -> Column:
        part = self.parts["bought"].c
        span = sa.cast(epoch_us(part.last_at) - epoch_us(part.first_at), sa.Double())
        gaps = sa.cast(self._n("bought") - sa.literal_column("1"), sa.Double())
        # the inner guard keeps engines that compute both branches from dividing by zero
        days = span / sa.literal(float(DAY_US), sa.Double())
        return self._known(days / sa.func.nullif(gaps, sa.literal(0.0, sa.Double())), "bought", least=2)

    def _overdue_ratio(self) -> Column:
        gap = sa.func.nullif(self._typical_gap_days(), sa.literal(0.0, sa.Double()))
        return sa.cast(self._recency_days(), sa.Double()) / gap

    def _rfm_r(self) -> Column:
        return self._known(self.parts["rfm"].c.rfm_r, "bought")

    def _rfm_f(self) -> Column:
        return self._known(self.parts["rfm"].c.rfm_f, "bought")

    def _rfm_m(self) -> Column:
        return self._known(self.parts["rfm"].c.rfm_m, "bought")

    def _loyalty_index(self) -> Column:
        scores = self.parts["rfm"].c
        points = scores.rfm_r + scores.rfm_f + scores.rfm_m - sa.literal_column("3")
        index = sa.cast(points * sa.literal_column("100"), sa.Double()) / sa.literal(12.0, sa.Double())
        return self._known(index, "bought")

    def _value_tier(self) -> Column:
        options = self.options
        place = sa.cast(self._n("tier", "place"), sa.Double())
        places = sa.cast(self._n("tier", "places"), sa.Double())
        placed = place > 0
        gold = sa.and_(
            placed,
            place <= places * sa.literal(options.gold_share, sa.Double()),
            self._n("bought", "n_365") >= options.gold_orders,
        )
        silver = sa.and_(
            placed,
            place <= places * sa.literal(options.silver_share, sa.Double()),
            self._n("bought", "n_180") >= options.silver_orders,
        )
        return sa.case((gold, sa.literal("gold")), (silver, sa.literal("silver")), else_=sa.literal("member"))

    def _open_complaint(self) -> Column:
        part = self.parts["complaints"].c
        opened = self._n("complaints", "n_opened") > 0
        unanswered = sa.or_(self._n("complaints", "n_resolved") == 0, part.opened_at > part.resolved_at)
        return sa.case((sa.and_(opened, unanswered), sa.true()), else_=sa.false())

    def _days_since_complaint(self) -> Column:
        return self._known(self._days_since(self.parts["complaints"].c.opened_at), "complaints", "n_opened")

    def _last_nps(self) -> Column:
        return self._known(self.parts["nps"].c.value, "nps")

    def _last_csat(self) -> Column:
        return self._known(self.parts["csat"].c.value, "csat")

    def _best_hour(self) -> Column:
        return self._known(self.parts["hours"].c.hour, "hours")

    def _days_to_birthday(self) -> Column:
        return _days_to_birthday(self.customers.c.birthday, self.as_of)

    def _repeat_days(self) -> Column:
        return self._known(self.parts["bought"].c.n_days - sa.literal_column("1"), "bought")

    def _first_day_age(self) -> Column:
        return self._known(self._day_age(self.parts["bought"].c.first_at), "bought")

    def _last_day_age(self) -> Column:
        return self._known(self._day_age(self.parts["bought"].c.last_at), "bought")

    def _day_age(self, at: Column) -> Column:
        return sa.literal(to_us(self.as_of) // DAY_US, sa.BigInteger()) - _day(at)


def _day(at: Column) -> Column:
    return whole_division(epoch_us(at), sa.literal_column(str(DAY_US)))


def _hour(at: Column) -> Column:
    day = sa.literal_column(str(DAY_US))
    within = (epoch_us(at) % day + day) % day
    return whole_division(within, sa.literal_column(str(HOUR_US)))


def _days_to_birthday(birthday: Column, as_of: datetime) -> Column:
    """Days from the date of the instant (UTC) to the next birthday, by day-of-year in this year and the next."""
    today = as_of.timetuple().tm_yday
    length = _day_of_year(as_of.year, 12) + 31
    this_year = _ordinal(birthday, as_of.year) - sa.literal(today, sa.Integer())
    next_year = _ordinal(birthday, as_of.year + 1) + sa.literal(length - today, sa.Integer())
    return sa.case((birthday.is_(None), sa.null()), (this_year >= 0, this_year), else_=next_year)


def _ordinal(birthday: Column, year: int) -> Column:
    """Day of the year of a birthday; 29 February is the 60th day, which other years call 1 March."""
    month = sa.cast(sa.extract("month", birthday), sa.Integer())
    before = sa.case({m: sa.literal(_day_of_year(year, m), sa.Integer()) for m in range(1, 13)}, value=month)
    return before + sa.cast(sa.extract("day", birthday), sa.Integer())


def _day_of_year(year: int, month: int) -> int:
    """Days of a year before a month."""
    return datetime(year, month, 1).timetuple().tm_yday - 1  # noqa: DTZ001 - a date, not an instant
