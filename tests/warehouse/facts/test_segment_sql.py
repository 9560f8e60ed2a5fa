"""What a segment becomes in SQL: bound values, cut-offs, and nothing that was not asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from campaigns.features import FEATURES, known_kinds
from campaigns.segment import parse_segment
from warehouse.facts.features import MODELLED, feature_columns
from warehouse.facts.load import load_table
from warehouse.facts.segment_sql import compile_segment, compute_features, select_segment
from warehouse.facts.store import Facts

AS_OF = datetime(2025, 4, 1, 12, tzinfo=UTC)


def compiled(facts: Facts, text: str) -> sa.Compiled:
    expression = parse_segment(text, known=known_kinds(facts.attributes()))
    from campaigns.segment_tree import names

    features = feature_columns(facts, AS_OF, names(expression))
    statement = sa.select(features.customers.c.customer_id).select_from(features.source)
    return statement.where(compile_segment(expression, features)).compile(facts.engine)


def test_recency_is_a_bound_cut_off(empty_facts: Facts) -> None:
    found = compiled(empty_facts, "90 <= recency_days < 365")
    assert AS_OF - timedelta(days=90) in found.params.values()
    assert AS_OF - timedelta(days=365) in found.params.values()
    assert "epoch" not in str(found)


def test_values_are_bound_and_never_part_of_the_text(empty_facts: Facts) -> None:
    found = compiled(empty_facts, 'country == "GB\'; DROP TABLE customers --" and orders >= 7351')
    assert "DROP" not in str(found)
    assert "7351" not in str(found)
    bound = list(found.params.values())
    assert "GB'; DROP TABLE customers --" in bound
    assert 7351.0 in bound


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("country == 'GB'", ("customers",), ("orders", "events", "ntile", "count(")),
        ("orders >= 2", ("bought",), ("events", "ntile", "sum(", "CASE WHEN (orders.amount")),
        ("spend >= 2", ("sum(",), ("ntile", "max(", "min(")),
        ("rfm_r == 5", ("ntile", "max("), ("sum(", "row_number")),
        ("value_tier == 'gold'", ("row_number",), ("ntile", "events")),
        ("open_complaint", ("events",), ("orders", "row_number")),
    ],
)
def test_only_what_the_expression_names_is_computed(
    empty_facts: Facts, text: str, wanted: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    sql = str(compiled(empty_facts, text))
    assert [part for part in wanted if part not in sql] == []
    assert [part for part in unwanted if part in sql] == []


def test_every_feature_of_the_catalogue_is_computed(empty_facts: Facts) -> None:
    names = [name for name in FEATURES if name not in MODELLED]
    found = compute_features(empty_facts, as_of=AS_OF, names=names)
    assert list(found.columns) == ["customer_id", *names]


def test_no_statement_tests_a_joined_row_for_null(empty_facts: Facts) -> None:
    """One engine fills outer joins with zeros; only columns of customers may be tested."""
    names = [name for name in FEATURES if name not in MODELLED]
    features = feature_columns(empty_facts, AS_OF, names)
    statement = sa.select(*features.columns.values()).select_from(features.source).where(features.existed())
    sql = str(statement.compile(empty_facts.engine))
    tested = {part.split()[-1] for part in sql.split(" IS NULL")[:-1]} | {
        part.split()[-1] for part in sql.split(" IS NOT NULL")[:-1]
    }
    assert tested
    assert {column.strip("(").split(".")[0] for column in tested} <= {"customers", "events"}


def test_the_same_instant_in_another_zone_selects_the_same(
    empty_facts: Facts, write: Callable[[str, str], Path], options: dict[str, Any]
) -> None:
    from zoneinfo import ZoneInfo

    text = "order_id,customer_id,ordered_at,amount\n1,a,2025-01-01 12:00,5\n2,b,2025-01-01 12:00:01,5\n"
    load_table(empty_facts, "orders", [write("o.csv", text)], **options)
    load_table(empty_facts, "customers", [write("c.csv", "customer_id\na\nb\n")], **options)
    segment = parse_segment("recency_days >= 90", known=known_kinds())
    for zone in (UTC, ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/New_York")):
        found = select_segment(empty_facts, segment, as_of=AS_OF.astimezone(zone))
        assert found["customer_id"].tolist() == ["a"]
