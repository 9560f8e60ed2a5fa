"""Outcomes at the edges: windows, cohorts and engines that take only so many customers at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from warehouse.facts import cohorts
from warehouse.facts.contacts import look_up_contacts
from warehouse.facts.errors import FactsError
from warehouse.facts.load import load_table
from warehouse.facts.outcomes import first_purchase_days, purchased_since, wave_moments
from warehouse.facts.store import Facts

START = datetime(2025, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HEAD = "order_id,customer_id,ordered_at,amount,status,margin\n"


def cohort(**arms: str) -> pd.DataFrame:
    return pd.DataFrame({"customer_id": list(arms), "arm": list(arms.values())})


@pytest.fixture
def bought(empty_facts: Facts, write: Callable[[str, str], Path], options: dict[str, Any]) -> Facts:
    lines = (
        "1,a,2025-03-01 00:00:00,10,,4\n"  # the first instant belongs to the window
        "2,a,2025-03-11 00:00:00,99,,\n"  # the last one does not
        "3,b,2025-02-28 23:59:59.999999,50,,\n"
        "4,c,2025-03-06 00:00:00,8,paid,1\n"  # the middle belongs to the second half
        "5,c,2025-03-07,-3,refunded,-1\n"  # takes money back, is no purchase
        "6,d,2025-03-02,70,refunded,\n"  # came to nothing
        "7,d,2025-03-02,-70,cancelled,\n"
        "8,e,2025-03-02,0,,\n"  # free, and a purchase
        "9,f,2025-03-03,-5,,\n"  # a refund of an older order
        "10,stranger,2025-03-03,1000,,\n"
    )
    load_table(empty_facts, "orders", [write("o.csv", HEAD + lines)], **options)
    return empty_facts


def test_only_what_lies_in_the_window_counts_and_everybody_of_the_cohort_counts(bought: Facts) -> None:
    found = wave_moments(
        bought,
        cohort(a="one", b="one", c="one", d="two", e="two", f="two", never="two"),
        start=START,
        horizon=10 * DAY,
        pre_period=30 * DAY,
    )
    one, two = found["one"], found["two"]
    assert (one.n, two.n) == (3, 4)
    assert {c: one.sum(c) for c in one.columns} == {
        "repurchase": 2, "retained": 1, "revenue": 15, "orders": 2, "margin": 4, "pre_revenue": 50, "pre_orders": 1,
    }  # fmt: skip
    assert {c: two.sum(c) for c in two.columns} == {
        "repurchase": 1, "retained": 0, "revenue": -5, "orders": 1, "margin": 0, "pre_revenue": 0, "pre_orders": 0,
    }  # fmt: skip
    assert one.var("revenue") == pytest.approx(25)  # 10, 0, 5
    assert one.cubes[one.columns.index("revenue")] == pytest.approx(0)


def test_nobody_has_moments_of_no_arm_and_arms_without_orders_are_zero(bought: Facts) -> None:
    assert wave_moments(bought, cohort(), start=START, horizon=DAY) == {}
    quiet = wave_moments(bought, cohort(x="one", y="one"), start=START, horizon=DAY)["one"]
    assert (quiet.n, set(quiet.sums)) == (2, {0.0})
    assert quiet.var("revenue") == 0.0


def test_a_customer_twice_in_a_cohort_is_refused(bought: Facts) -> None:
    twice = pd.DataFrame({"customer_id": ["b", "a", "b"], "arm": ["one", "two", "two"]})
    with pytest.raises(FactsError, match="the cohort holds a customer twice"):
        wave_moments(bought, twice, start=START, horizon=DAY)


def test_purchases_since_are_from_the_instant_on_and_until_before_the_other(bought: Facts) -> None:
    since = {"a": START, "b": START, "c": START, "d": START, "e": START + 2 * DAY, "f": START}
    assert purchased_since(bought, since, until=START + 5 * DAY) == {"a"}
    assert purchased_since(bought, since, until=START + 6 * DAY) == {"a", "c"}
    assert purchased_since(bought, (["b", "b"], START - timedelta(microseconds=1)), until=START) == {"b"}


def test_the_first_purchase_day_is_counted_from_the_start_and_the_others_are_censored(bought: Facts) -> None:
    members = cohort(a="one", b="one", c="one", e="one")
    found = first_purchase_days(bought, members, start=START, until=START + 100 * DAY, horizon=10 * DAY)["one"]
    assert (found.times, found.events, found.censored) == ((0.0, 1.0, 5.0, 10.0), (1, 1, 1, 0), (0, 0, 0, 1))
    early = first_purchase_days(bought, members, start=START, until=START - DAY, horizon=10 * DAY)["one"]
    assert (early.times, early.events, early.censored) == ((0.0,), (0,), (4,))


def test_an_engine_that_takes_few_customers_at_a_time_gives_the_same(
    everywhere: dict[str, Facts], shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [c["customer_id"] for c in shop.customers]
    members = pd.DataFrame({"customer_id": ids, "arm": ["one", "two"] * (len(ids) // 2)})

    def answers(facts: Facts) -> tuple[Any, ...]:
        return (
            wave_moments(facts, members, start=START, horizon=20 * DAY),
            purchased_since(facts, (ids, START), until=START + 20 * DAY),
            first_purchase_days(facts, members, start=START, until=START + 90 * DAY, horizon=20 * DAY),
            look_up_contacts(facts, ids),
        )

    at_once = answers(everywhere["sqlite"])
    monkeypatch.setattr(cohorts, "LISTED", 40)
    monkeypatch.setattr(cohorts, "FETCHED", 30)
    assert answers(everywhere["sqlite"]) == at_once
    assert answers(everywhere["postgresql"]) == at_once
    assert answers(everywhere["duckdb"]) == at_once


def test_nothing_in_the_room_asks_what_time_it_is() -> None:
    import warehouse.facts

    for path in Path(inspect.getfile(warehouse.facts)).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "datetime.now" not in text
        assert "time.time" not in text
        assert "utcnow" not in text
