"""Random segments: what the engine selects is what the same tree selects row by row in Python."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    names,
)
from warehouse.facts.segment_rows import rows_of_segment
from warehouse.facts.segment_sql import compute_features, select_segment
from warehouse.facts.store import Facts

AS_OF = datetime(2025, 4, 1, 9, 30, tzinfo=UTC)
NUMBERS = ["recency_days", "orders", "spend", "overdue_ratio", "rfm_f", "points", "last_nps", "days_to_birthday"]
TEXTS = ["country", "value_tier", "city"]
BOOLEANS = ["vip", "open_complaint"]
INSTANTS = ["created_at", "renewed_at"]

number = st.sampled_from(NUMBERS).map(lambda name: Name(name, "number"))
constant = st.one_of(st.integers(-3, 400), st.sampled_from([0.5, 12.25, 90.0, 1e6])).map(lambda v: Literal(v, "number"))
quantity = st.recursive(
    st.one_of(number, constant),
    lambda inner: st.builds(Arithmetic, st.sampled_from(["+", "-", "*", "/"]), inner, inner),
    max_leaves=3,
)
text = st.sampled_from(TEXTS).map(lambda name: Name(name, "text"))
word = st.sampled_from(["GB", "IE", "gold", "member", "Zürich", "nowhere"])
instant = st.one_of(
    st.sampled_from(INSTANTS).map(lambda name: Name(name, "instant")),
    st.datetimes(datetime(2023, 1, 1), datetime(2025, 6, 1)).map(lambda at: Literal(at.replace(tzinfo=UTC), "instant")),
)
boolean = st.sampled_from(BOOLEANS).map(lambda name: Name(name, "boolean"))
order = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
bound = st.sampled_from(["<", "<="])
equality = st.sampled_from(["==", "!="])
condition: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Compare, order, number, constant),
    st.builds(Compare, order, constant, number),
    st.builds(Compare, order, quantity, quantity),
    st.builds(Between, constant, bound, quantity, bound, constant),
    st.builds(Compare, equality, text, word.map(lambda w: Literal(w, "text"))),
    st.builds(InSet, text, st.lists(word, min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(
        InSet,
        number,
        st.lists(st.one_of(st.integers(0, 30), st.sampled_from([0.25, 1.5, 20.25])), min_size=1, max_size=4).map(tuple),
        st.booleans(),
    ),
    st.builds(Compare, order, instant, instant),
    st.builds(Compare, equality, boolean, st.booleans().map(lambda v: Literal(v, "boolean"))),
    st.builds(IsMissing, st.one_of(number, text, instant, boolean), st.booleans()),
    boolean,
    st.booleans().map(lambda v: Literal(v, "boolean")),
)
segment = st.recursive(
    condition,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def shop_facts(shop: Any, tmp_path_factory: pytest.TempPathFactory, embed: Any) -> Iterator[Facts]:
    folder: Path = tmp_path_factory.mktemp("rows")
    with embed(folder, shop) as facts:
        yield facts


@pytest.fixture(scope="module")
def features(shop_facts: Facts) -> pd.DataFrame:
    return compute_features(shop_facts, as_of=AS_OF, names=[*NUMBERS, *TEXTS, *BOOLEANS, *INSTANTS])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(expression=segment)
def test_the_engine_and_python_agree_on_every_segment(
    shop_facts: Facts, features: pd.DataFrame, expression: Expression
) -> None:
    in_python = features.loc[rows_of_segment(expression, features), "customer_id"].tolist()
    in_engine = select_segment(shop_facts, expression, as_of=AS_OF)["customer_id"].tolist()
    assert in_engine == in_python
    assert names(expression) <= set(features.columns)
