"""The purchase model on the facts' counts: what it is fitted to and what it says of a customer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from campaigns.features import known_kinds
from campaigns.segment import parse_segment
from experiments.clv import fit_bgnbd, fit_gamma_gamma
from warehouse.facts import purchase_model
from warehouse.facts.errors import FactsError
from warehouse.facts.features import FeatureOptions
from warehouse.facts.load import load_customers_from_orders, load_table
from warehouse.facts.purchase_model import PurchaseModel, fit_purchase_model
from warehouse.facts.segment_sql import compute_features, select_segment
from warehouse.facts.store import Facts

AS_OF = datetime(2025, 1, 1, tzinfo=UTC)
HEAD = "order_id,customer_id,ordered_at,amount\n"
Fill = Callable[[str], Facts]


@pytest.fixture
def fill(empty_facts: Facts, write: Callable[[str, str], Path], options: dict[str, Any]) -> Fill:
    """Load orders given as lines and make their customers."""

    def make(lines: str) -> Facts:
        load_table(empty_facts, "orders", [write("o.csv", HEAD + lines)], **options)
        load_customers_from_orders(empty_facts, **options)
        return empty_facts

    return make


def random_history(n: int) -> tuple[str, pd.DataFrame]:
    """Order lines of n customers, and their (x, t_x, T, days, amount) counted here."""
    rng = np.random.default_rng(7)
    lines, rows = [], []
    for customer in range(n):
        ages = np.unique(rng.integers(1, 500, size=rng.integers(1, 8)))
        for age in ages:
            day = np.datetime64("2025-01-01") - np.timedelta64(int(age), "D")
            # two orders on one day are one purchase day
            lines += [
                f"{customer}-{age}-{k},c{customer:04d},{day} 1{k}:00,{10 + age % 7}.5\n" for k in range(1 + age % 2)
            ]
        spend = sum((10 + age % 7 + 0.5) * (1 + age % 2) for age in ages)
        rows.append((len(ages) - 1, ages.max() - ages.min(), ages.max(), len(ages), spend))
    return "".join(lines), pd.DataFrame(rows, columns=["x", "t_x", "T", "days", "spend"])


def test_it_is_fitted_to_purchase_days_and_amounts_of_a_day(fill: Fill) -> None:
    lines, rows = random_history(120)
    model = fit_purchase_model(fill(lines), as_of=AS_OF)
    wanted = fit_bgnbd(rows["x"], rows["t_x"], rows["T"])
    assert model.purchases.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-5)
    assert model.purchases.p_alive(2, 30, 60) == pytest.approx(wanted.p_alive(2, 30, 60), rel=0.02)
    amounts = fit_gamma_gamma(rows["days"], rows["spend"] / rows["days"])
    assert model.amounts is not None
    assert model.amounts.expected_value(3, 20.0) == pytest.approx(amounts.expected_value(3, 20.0), rel=1e-3)


def test_features_of_the_model_follow_from_the_customers_history(fill: Fill) -> None:
    lines, rows = random_history(60)
    facts = fill(lines)
    model = fit_purchase_model(facts, as_of=AS_OF)
    found = compute_features(
        facts, as_of=AS_OF, names=["p_alive", "expected_orders_90d", "clv_365d"], options=FeatureOptions(model=model)
    )
    x, t_x, age = rows["x"], rows["t_x"], rows["T"]
    assert found["p_alive"].to_numpy() == pytest.approx(model.purchases.p_alive(x, t_x, age))
    assert found["expected_orders_90d"].to_numpy() == pytest.approx(model.purchases.expected_orders(90, x, t_x, age))
    assert model.amounts is not None
    value = model.amounts.expected_value(rows["days"], rows["spend"] / rows["days"])
    assert found["clv_365d"].to_numpy() == pytest.approx(model.purchases.expected_orders(365, x, t_x, age) * value)


def test_risk_comes_from_being_alive_and_from_being_overdue_and_needs_two_purchase_days(fill: Fill) -> None:
    lines, _ = random_history(60)
    facts = fill(lines)
    names = ["churn_risk", "p_alive", "overdue_ratio", "orders"]
    found = compute_features(facts, as_of=AS_OF, names=names)
    days = compute_features(facts, as_of=AS_OF, names=["purchase_days"])["purchase_days"]
    for row, n_days in zip(found.to_dict("records"), days, strict=True):
        if n_days < 2:
            assert pd.isna(row["churn_risk"])
        elif row["p_alive"] < 0.5 or row["overdue_ratio"] >= 3:
            assert row["churn_risk"] == "high"
        elif row["p_alive"] < 0.8 or row["overdue_ratio"] >= 1.5:
            assert row["churn_risk"] == "medium"
        else:
            assert row["churn_risk"] == "low"
    assert set(found["churn_risk"].dropna()) == {"low", "medium", "high"}


def test_customers_without_a_purchase_have_no_such_features(fill: Fill, write: Any, options: dict[str, Any]) -> None:
    lines, _ = random_history(30)
    facts = fill(lines)
    load_table(facts, "customers", [write("c.csv", "customer_id\nnobody\n")], **options)
    found = compute_features(facts, as_of=AS_OF, names=["p_alive", "clv_365d", "churn_risk"], customer_ids=["nobody"])
    assert found.iloc[0, 1:].isna().all()
    missing = parse_segment("p_alive is None", known=known_kinds())
    assert select_segment(facts, missing, as_of=AS_OF)["customer_id"].tolist() == ["nobody"]


def test_of_many_customers_every_kth_is_fitted(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = random_history(200)
    facts = fill(lines)
    whole = fit_purchase_model(facts, as_of=AS_OF)
    monkeypatch.setattr(purchase_model, "SAMPLE", 100)
    part = fit_purchase_model(facts, as_of=AS_OF)
    assert part != whole
    assert part == fit_purchase_model(facts, as_of=AS_OF)
    assert part.purchases.p_alive(2, 30, 60) == pytest.approx(whole.purchases.p_alive(2, 30, 60), abs=0.1)


def test_amounts_that_allow_no_model_leave_the_customers_own_mean(fill: Fill) -> None:
    lines, _ = random_history(40)
    free = "".join(line.rsplit(",", 1)[0] + ",0\n" for line in lines.splitlines())
    facts = fill(free)
    model = fit_purchase_model(facts, as_of=AS_OF)
    assert model.amounts is None
    found = compute_features(facts, as_of=AS_OF, names=["clv_365d"], options=FeatureOptions(model=model))
    assert (found["clv_365d"] == 0.0).all()
    paid = PurchaseModel(model.purchases, None)
    options = FeatureOptions(model=paid)
    few = compute_features(facts, as_of=AS_OF, names=["clv_365d", "spend"], customer_ids=["c0001"], options=options)
    assert few["clv_365d"].item() == 0.0


def test_too_few_purchases_for_a_model_are_said_before_anything_is_selected(fill: Fill) -> None:
    facts = fill("1,a,2024-01-01,5\n2,b,2024-01-01,5\n")
    segment = parse_segment("orders >= 1 and p_alive < 0.5", known=known_kinds())
    with pytest.raises(FactsError, match=r"the purchase model as of 2025-01-01 cannot be fitted .*Load more orders"):
        select_segment(facts, segment, as_of=AS_OF)
