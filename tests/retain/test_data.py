"""load and features: what goes in, what is refused, what can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.retain.conftest import AS_OF, Cli

CUSTOMERS = "customer_id,created_at,email,consent_email,loves\nC1,2025-01-01,a@example.com,true,tea\nC2,2025-01-02,,,\n"
ORDERS = "order_id,buyer,ordered_at,amount\n1,C1,2025-05-01,10\n2,C1,2025-06-01,12\n3,C9,2025-06-01,12\n4,C2,never,1\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "customers.csv").write_text(CUSTOMERS, encoding="utf-8")
    (tmp_path / "orders.csv").write_text(ORDERS, encoding="utf-8")
    return tmp_path


def test_files_become_facts_and_bad_rows_are_set_aside_with_their_reasons(bare: Path, files: Path, retain: Cli) -> None:
    assert "2 rows read: 2 added" in retain("load", "customers", files / "customers.csv").out
    outcome = retain("load", "orders", files / "orders.csv", "--map", "buyer=customer_id", "--now", "2025-07-01")
    assert outcome.code == 0
    assert "4 rows read: 2 added, 0 updated, 0 unchanged, 2 quarantined" in outcome.out
    assert "quarantined: unknown_customer: 1" in outcome.out
    assert "see " in outcome.out
    assert outcome.err == "load orders: done\n"


def test_a_second_load_of_the_same_file_changes_nothing(bare: Path, files: Path, retain: Cli) -> None:
    first = retain("load", "customers", files / "customers.csv", "--json").json
    again = retain("load", "customers", files / "customers.csv", "--json")
    assert (first["added"], again.json["added"], again.json["unchanged"]) == (2, 0, 2)
    assert again.err == ""


def test_customers_are_derived_from_orders_and_warnings_are_told(bare: Path, files: Path, retain: Cli) -> None:
    loaded = retain("load", "orders", files / "orders.csv", "--map", "buyer=customer_id", "--json")
    assert loaded.json["warnings"]
    assert loaded.err.startswith("warning: no customers are loaded yet")
    assert retain("load", "customers", "--from-orders", "--json").json["added"] == 2
    assert retain("load", "customers", "--from-orders").out.startswith("customers: 2 rows read: 0 added")


def test_features_are_listed_with_the_own_columns(bare: Path, files: Path, retain: Cli) -> None:
    retain("load", "customers", files / "customers.csv")
    assert "recency_days" in retain("features").out
    listed = {entry["name"]: entry for entry in retain("features", "--json").json["features"]}
    assert listed["recency_days"]["unit"] == "days"
    assert listed["loves"]["kind"] == "text"


def test_one_customers_features_are_shown_even_where_no_model_can_be_fitted(
    bare: Path, files: Path, retain: Cli
) -> None:
    retain("load", "customers", files / "customers.csv")
    one_each = "order_id,customer_id,ordered_at,amount\n1,C1,2025-06-01,10\n2,C2,2025-06-01,12\n"
    (files / "once.csv").write_text(one_each, encoding="utf-8")
    retain("load", "orders", files / "once.csv")
    values = retain("features", "C1", "--now", "2025-07-01", "--json").json["features"]
    assert (values["orders"], values["recency_days"], values["loves"], values["p_alive"]) == (1, 30, "tea", None)
    unknown = retain("features", "C77", "--now", "2025-07-01")
    assert (unknown.code, unknown.out) == (1, "")
    assert "no customer C77 as of 2025-07-01" in unknown.err


def test_with_enough_orders_the_modelled_features_have_values(shop: Path, retain: Cli) -> None:
    outcome = retain("features", "C0000001", "--now", AS_OF)
    assert outcome.code == 0
    assert "p_alive" in outcome.out
    values = retain("features", "C0000001", "--now", AS_OF, "--json").json["features"]
    assert 0 <= values["p_alive"] <= 1
    assert list(values)[:2] == ["average_order", "best_hour"]  # JSON is sorted
