"""The expression of each feature over the parts it is made of. A part without a row for a customer counts as zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from warehouse.facts.dialects import DAY_US, MONEY_SCALE, epoch_us, to_us, whole_division
from warehouse.facts.feature_parts import Column, day_of

if TYPE_CHECKING:
    from warehouse.facts.features import FeatureOptions

_COUNTS: Final = ("orders", "orders_365d", "purchase_days")
_DAY: Column = sa.literal_column(str(DAY_US), sa.BigInteger())


def _double(value: float) -> Column:
    return sa.literal(value, sa.Double())


def _nonzero(value: Column) -> Column:
    # typed, or SQLAlchemy divides by a NUMERIC on PostgreSQL, which rounds differently
    return sa.func.nullif(value, _double(0), type_=sa.Double())


def _whole(value: int) -> Column:
    return sa.literal_column(str(value), sa.Integer())


@dataclass(frozen=True, slots=True)
class FeatureValues:
    """Features by name; `parts` by label are joined so that a customer without a row in one has NULLs there.

    No test is made for those NULLs (one engine fills zeros instead): a count says whether there was a row.
    """

    customers: sa.FromClause
    parts: Mapping[str, sa.FromClause]
    as_of: datetime
    options: FeatureOptions

    def column(self, name: str) -> Column:
        """The expression of a feature, or the column of customers of that name.

        Numbers that may be missing are doubles to Python, whether or not one is missing this time; counts are whole.
        """
        maker: Callable[[], Column] | None = getattr(self, f"_{name}", None)
        value = maker() if maker is not None else self.customers.c[name]
        is_double = isinstance(value.type, sa.Integer) and name not in _COUNTS
        return sa.type_coerce(value, sa.Double()) if is_double else value

    def known_at(self, name: str) -> tuple[Column, Column] | None:
        """Of a feature that counts days since an instant: that instant, and whether there is one."""
        if name == "recency_days":
            return self.parts["bought"].c.last_at, self._n("bought") > _whole(0)
        if name == "days_since_complaint":
            return self.parts["complaints"].c.opened_at, self._n("complaints", "n_opened") > _whole(0)
        return None

    def _n(self, part: str, label: str = "n") -> Column:
        return sa.func.coalesce(self.parts[part].c[label], _whole(0))

    def _known(self, value: Column, part: str, label: str = "n", least: int = 1) -> Column:
        """The value where the count is at least that, else missing."""
        return sa.case((self._n(part, label) >= _whole(least), value))

    def _days_since(self, at: Column) -> Column:
        return whole_division(sa.literal(to_us(self.as_of), sa.BigInteger()) - epoch_us(at), _DAY)

    def _money(self, label: str) -> Column:
        return sa.cast(self._n("bought", label), sa.Double()) / _double(MONEY_SCALE)

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
        bought_first = sa.and_(self._n("bought") > _whole(0), sa.or_(created.is_(None), first < created))
        return self._days_since(sa.case((bought_first, first), else_=created))

    def _typical_gap_days(self) -> Column:
        part = self.parts["bought"].c
        span: Column = sa.cast(epoch_us(part.last_at) - epoch_us(part.first_at), sa.Double())
        gaps: Column = sa.cast(self._n("bought") - _whole(1), sa.Double())
        # engines may compute a branch they do not take: the division is safe by itself
        return self._known(span / _double(DAY_US) / _nonzero(gaps), "bought", least=2)

    def _overdue_ratio(self) -> Column:
        gap = _nonzero(self._typical_gap_days())
        return sa.cast(self._recency_days(), sa.Double()) / gap

    def _rfm_r(self) -> Column:
        return self._known(self.parts["rfm"].c.rfm_r, "bought")

    def _rfm_f(self) -> Column:
        return self._known(self.parts["rfm"].c.rfm_f, "bought")

    def _rfm_m(self) -> Column:
        return self._known(self.parts["rfm"].c.rfm_m, "bought")

    def _loyalty_index(self) -> Column:
        scores = self.parts["rfm"].c
        points: Column = scores.rfm_r + scores.rfm_f + scores.rfm_m - _whole(3)
        return self._known(sa.cast(points * _whole(100), sa.Double()) / _double(12), "bought")

    def _value_tier(self) -> Column:
        options = self.options
        gold = self._placed(options.gold_share, "n_365", options.gold_orders)
        silver = self._placed(options.silver_share, "n_180", options.silver_orders)
        return sa.case((gold, sa.literal("gold")), (silver, sa.literal("silver")), else_=sa.literal("member"))

    def _placed(self, share: float, count: str, orders: int) -> Column:
        place: Column = sa.cast(self._n("tier", "place"), sa.Double())
        places: Column = sa.cast(self._n("tier", "places"), sa.Double())
        return sa.and_(place > _double(0), place <= places * _double(share), self._n("bought", count) >= _whole(orders))

    def _open_complaint(self) -> Column:
        part = self.parts["complaints"].c
        unanswered = sa.or_(self._n("complaints", "n_resolved") == _whole(0), part.opened_at > part.resolved_at)
        return sa.case(
            (sa.and_(self._n("complaints", "n_opened") > _whole(0), unanswered), sa.true()), else_=sa.false()
        )

    def _days_since_complaint(self) -> Column:
        return self._known(self._days_since(self.parts["complaints"].c.opened_at), "complaints", "n_opened")

    def _last_nps(self) -> Column:
        return self._known(self.parts["nps"].c.value, "nps")

    def _last_csat(self) -> Column:
        return self._known(self.parts["csat"].c.value, "csat")

    def _best_hour(self) -> Column:
        return self._known(self.parts["hours"].c.hour, "hours")

    def _days_to_birthday(self) -> Column:
        """Days from the date of the instant (UTC) to the next birthday, by the day of this year and of the next."""
        birthday = self.customers.c.birthday
        today = self.as_of.timetuple().tm_yday
        length = _days_before(self.as_of.year, 12) + 31
        this_year: Column = _day_of_year(birthday, self.as_of.year) - _whole(today)
        next_year: Column = _day_of_year(birthday, self.as_of.year + 1) + _whole(length - today)
        return sa.case((birthday.is_(None), sa.null()), (this_year >= _whole(0), this_year), else_=next_year)

    def _purchase_days(self) -> Column:
        return self._n("bought", "n_days")

    def _first_day_age(self) -> Column:
        return self._known(self._age_of_day(self.parts["bought"].c.first_at), "bought")

    def _last_day_age(self) -> Column:
        return self._known(self._age_of_day(self.parts["bought"].c.last_at), "bought")

    def _age_of_day(self, at: Column) -> Column:
        age: Column = sa.literal(to_us(self.as_of) // DAY_US, sa.BigInteger()) - day_of(at)
        return age


def _day_of_year(birthday: Column, year: int) -> Column:
    """Day of the year of a birthday; 29 February is the 60th day, which other years call 1 March."""
    month: Any = sa.cast(sa.extract("month", birthday), sa.Integer())
    before: Column = sa.case({number: _whole(_days_before(year, number)) for number in range(1, 13)}, value=month)
    return before + sa.cast(sa.extract("day", birthday), sa.Integer())


def _days_before(year: int, month: int) -> int:
    """Days of a year before a month."""
    return datetime(year, month, 1).timetuple().tm_yday - 1  # noqa: DTZ001 - a date of the calendar, not an instant
