"""Segments compiled to SQL with bound values, and the customers they select."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from campaigns.phone_zones import HEAD, phone_origin
from campaigns.segment_tree import (
    And,
    Arithmetic,
    Between,
    Compare,
    Expression,
    InSet,
    IsMissing,
    Literal,
    Name,
    Not,
    Or,
    Value,
    names,
)
from warehouse.facts.cohorts import LISTED
from warehouse.facts.dialects import UtcInstant, byte_order
from warehouse.facts.feature_parts import Column
from warehouse.facts.features import MODELLED, DaysSince, FeatureColumns, FeatureOptions, feature_columns

if TYPE_CHECKING:
    import pandas as pd

    from warehouse.facts.store import Facts

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_FAR_DAYS: Final = 300_000
"""Days (about 800 years) beyond which a cut-off would leave the calendar; such comparisons use the number of days."""


def compile_segment(expression: Expression, features: FeatureColumns) -> sa.ColumnElement[bool]:
    """The expression as a WHERE condition over `features.source`.

    Missing values: where a comparison is not negated SQL's unknown selects nobody, as false does; below a `not` every
    comparison is made false first.
    """
    return _Compiler(features).condition(expression, negated=False)


@dataclass(frozen=True)
class _Compiler:
    features: FeatureColumns

    def condition(self, node: Expression | Value, *, negated: bool) -> sa.ColumnElement[bool]:
        match node:
            case And(items):
                return sa.and_(*(self.condition(item, negated=negated) for item in items))
            case Or(items):
                return sa.or_(*(self.condition(item, negated=negated) for item in items))
            case Not(item):
                return sa.not_(self.condition(item, negated=True).self_group())
            case Literal(value):
                return sa.true() if value else sa.false()
            case IsMissing(value, is_not):
                column = self._value(value)
                return column.is_not(None) if is_not else column.is_(None)
        found = self._comparison(node)
        return sa.func.coalesce(found, sa.false()) if negated else found

    def _comparison(self, node: Any) -> Column:
        match node:
            case Name(name):
                return self.features.columns[name]
            case Compare(op, left, right):
                return self._compare(op, left, right)
            case Between(low, low_op, value, high_op, high):
                return sa.and_(self._compare(low_op, low, value), self._compare(high_op, value, high))
            case InSet(value, choices, negated):
                column = self._value(value)
                # numbers are bound one by one: a list takes the type of its first value, and 20.25 among whole numbers
                # becomes 20; texts are bound as one list, which thousands of customers need
                of_texts = all(isinstance(choice, str) for choice in choices)
                listed = list(choices) if of_texts else [_bound(choice) for choice in choices]
                return column.not_in(listed) if negated else column.in_(listed)
        raise AssertionError(f"not a condition: {node!r}")

    def _compare(self, op: str, left: Value, right: Value) -> Column:
        cut_off = self._cut_off(op, left, right)
        if cut_off is not None:
            return cut_off
        found: Column = _OPERATORS[op](self._value(left), self._value(right))
        return found

    def _cut_off(self, op: str, left: Value, right: Value) -> Column | None:
        """`recency_days >= 90` as `last_at <= T - 90 days`, where one side is such a feature and the other a number."""
        if isinstance(left, Literal) and isinstance(right, Name):
            left, right, op = right, left, _MIRRORED[op]
        if not (isinstance(left, Name) and isinstance(right, Literal) and isinstance(right.value, (int, float))):
            return None
        feature = self.features.days_since.get(left.name)
        if feature is None or op in ("==", "!=") or not abs(right.value) < _FAR_DAYS:
            return None
        # whole days d: d >= v is d >= ceil(v), d > v is d >= floor(v) + 1, and the other two are their opposites
        days = math.ceil(right.value) if op in (">=", "<") else math.floor(right.value) + 1
        return _older(feature, self.features.as_of, days, at_least=op in (">=", ">"))

    def _value(self, node: Value) -> Column:
        match node:
            case Name(name, "boolean"):
                column = self.features.columns[name]
                return sa.case((column, sa.literal_column("1")), (sa.not_(column), sa.literal_column("0")))
            case Name(name):
                return self.features.columns[name]
            case Literal(value):
                return _bound(value)
            case Arithmetic(op, left, right):
                a: Column = sa.cast(self._value(left), sa.Double())
                b: Column = sa.cast(self._value(right), sa.Double())
                if op == "/":
                    return a / sa.func.nullif(b, sa.literal(0.0, sa.Double()), type_=sa.Double())
                found: Column = _ARITHMETIC[op](a, b)
                return found


def _older(feature: DaysSince, as_of: datetime, days: int, *, at_least: bool) -> Column:
    cut_off = as_of.astimezone(UTC) - timedelta(days=days)
    return sa.and_(feature.known, feature.at <= cut_off if at_least else feature.at > cut_off)


def _bound(value: Any) -> Column:
    if isinstance(value, bool):
        return sa.literal_column(str(int(value)))
    if isinstance(value, datetime):
        return sa.literal(value, UtcInstant())
    if isinstance(value, (int, float)):
        return sa.literal(float(value), sa.Double())
    return sa.literal(value, sa.String())


PLANNED: Final = ("time_zone", "country", "locale", "open_complaint", "household_id")
_ADDRESSES: Final = {"has_sms": "phone", "has_email": "email", "has_push": "push_token"}
_CONSENTS: Final = ("consent_sms", "consent_email", "consent_push")
_PHONE: Final = ("phone_head", "phone_length")


def select_segment(
    facts: Facts,
    expression: Expression,
    *,
    as_of: datetime,
    extra: Sequence[str] = (),
    options: FeatureOptions | None = None,
    phone_origins: bool = False,
) -> pd.DataFrame:
    """The customers for whom the expression is true as of an instant, sorted by customer_id.

    Columns: customer_id; has_sms, has_email, has_push (whether an address is there); consent_sms, consent_email,
    consent_push (missing is False); time_zone, country, locale, open_complaint, household_id; then the features of
    `extra`. Features of the purchase model are computed for the customers whom the rest of the expression leaves. With
    `phone_origins` one more: phone_origin, the text of a `PhoneOrigin`, empty where the profile has a zone. The numbers
    themselves stay in the warehouse; it gives the prefix and the length, and neither leaves this room.

    Raises:
        FactsError: a name is not known, the engine refuses, or the purchase model is needed and cannot be fitted.
    """
    shown = tuple(name for name in dict.fromkeys(extra) if name not in PLANNED)
    if {*names(expression), *shown}.isdisjoint(MODELLED):
        frame = facts.frame(_statement(facts, expression, shown, as_of, options, phones=phone_origins))
    else:
        frame = _select_with_model(facts, expression, shown, as_of, options or FeatureOptions(), phones=phone_origins)
    return _with_origins(frame) if phone_origins else frame


def _statement(
    facts: Facts,
    condition: Expression,
    shown: Sequence[str],
    as_of: datetime,
    options: FeatureOptions | None,
    *,
    phones: bool = False,
) -> sa.Select[Any]:
    features = feature_columns(facts, as_of, {*names(condition), *shown, *PLANNED}, options)
    customers = features.customers
    columns: list[Any] = [customers.c.customer_id]
    columns += [_is_filled(customers.c[address]).label(name) for name, address in _ADDRESSES.items()]
    columns += [sa.func.coalesce(customers.c[name], sa.false()).label(name) for name in _CONSENTS]
    columns += [features.columns[name].label(name) for name in (*PLANNED, *shown)]
    if phones:
        columns += _phone_columns(customers)
    return (
        sa.select(*columns)
        .select_from(features.source)
        .where(features.existed(), compile_segment(condition, features))
        .order_by(byte_order(customers.c.customer_id))
    )


def _phone_columns(customers: Any) -> list[Column]:
    """The prefix of the phone and its length, where the profile has no zone."""
    phone = sa.case((_is_filled(customers.c.time_zone), ""), else_=sa.func.coalesce(customers.c.phone, ""))
    return [sa.func.substr(phone, 1, HEAD).label(_PHONE[0]), sa.func.length(phone).label(_PHONE[1])]


def _with_origins(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with what the prefixes tell in their stead."""
    import pandas as pd

    keys = pd.MultiIndex.from_frame(frame[list(_PHONE)])
    numbers, distinct = pd.factorize(keys)
    origins = pd.array([str(phone_origin(str(head), int(length))) for head, length in distinct], dtype="str")
    frame = frame.drop(columns=list(_PHONE))
    return frame.assign(phone_origin=origins[numbers] if len(distinct) else "")


def _is_filled(column: Column) -> Column:
    return sa.case((sa.func.coalesce(column, "") != "", sa.true()), else_=sa.false())


def _select_with_model(
    facts: Facts,
    expression: Expression,
    shown: tuple[str, ...],
    as_of: datetime,
    options: FeatureOptions,
    *,
    phones: bool = False,
) -> pd.DataFrame:
    from warehouse.facts.purchase_model import INPUTS, add_modelled, fit_purchase_model
    from warehouse.facts.segment_rows import rows_of_segment

    in_engine, in_python = _split(expression)
    fetched = {*shown, *INPUTS, *names(in_python)} - {*MODELLED, *PLANNED}
    frame = facts.frame(_statement(facts, in_engine, sorted(fetched), as_of, options, phones=phones))
    model = options.model or fit_purchase_model(facts, as_of=as_of)
    frame = add_modelled(frame, model, options)
    frame = frame[rows_of_segment(in_python, frame)].reset_index(drop=True)
    return frame[["customer_id", *_ADDRESSES, *_CONSENTS, *PLANNED, *shown, *(_PHONE if phones else ())]]


def _split(expression: Expression) -> tuple[Expression, Expression]:
    """The part of a conjunction that the engine can decide, and the part that needs the purchase model."""
    items = expression.items if isinstance(expression, And) else (expression,)
    always = Literal(True, "boolean")
    in_engine = [item for item in items if names(item).isdisjoint(MODELLED)]
    in_python = [item for item in items if not names(item).isdisjoint(MODELLED)]
    return And((always, *in_engine)), And((always, *in_python))


def compute_features(
    facts: Facts,
    *,
    as_of: datetime,
    names: Sequence[str] | None = None,
    customer_ids: Sequence[str] | None = None,
    options: FeatureOptions | None = None,
) -> pd.DataFrame:
    """Features (default: all, and all attributes) of every customer of an instant, or of those given.

    Columns: customer_id, by which the rows are sorted, then the features in the order asked for. Customers who did not
    exist at the instant are left out.

    Raises:
        FactsError: a name is not known, or the purchase model is needed and cannot be fitted.
    """
    from campaigns.features import FEATURES

    wanted = list(dict.fromkeys(names)) if names is not None else [*FEATURES, *sorted(facts.attributes())]
    modelled = not set(wanted).isdisjoint(MODELLED)
    fetched = [name for name in wanted if name not in MODELLED]
    if modelled:
        from warehouse.facts.purchase_model import INPUTS, add_modelled, fit_purchase_model

        fetched += [name for name in INPUTS if name not in fetched]
    features = feature_columns(facts, as_of, fetched, options)
    key = features.customers.c.customer_id
    statement = sa.select(key, *(features.columns[name].label(name) for name in fetched)).select_from(features.source)
    statement = statement.where(features.existed()).order_by(byte_order(key))
    if customer_ids is not None and len(customer_ids) <= LISTED:
        statement = statement.where(key.in_(list(customer_ids)))
    frame = facts.frame(statement)
    if customer_ids is not None:
        frame = frame[frame["customer_id"].isin(list(customer_ids))].reset_index(drop=True)
    if modelled:
        chosen = options or FeatureOptions()
        frame = add_modelled(frame, chosen.model or fit_purchase_model(facts, as_of=as_of), chosen)
    return frame[["customer_id", *wanted]]
