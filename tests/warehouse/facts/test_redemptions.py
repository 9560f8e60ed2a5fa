"""Orders by their code and by their customer: every engine gives what the rows say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from warehouse.facts import cohorts
from warehouse.facts.dialects import to_us
from warehouse.facts.redemptions import knows_codes, orders_of_customers, orders_with_codes
from warehouse.facts.store import Facts

from .test_conformance import bought, counts


def key_of(order: dict[str, Any]) -> str:
    return str(order.get("discount_code") or "").strip().lower()


def window(shop: Any) -> tuple[Any, Any]:
    """From the tenth part of the shop's orders to the last ones."""
    times = sorted(order["ordered_at"] for order in shop.orders)
    return times[len(times) // 10], times[-1] - timedelta(seconds=1)


def test_purchases_with_a_code_are_found_whoever_made_them(facts: Facts, shop: Any) -> None:
    start, until = window(shop)
    codes = sorted({key_of(order) for order in shop.orders} - {""})
    assert codes, "the random shops give codes"
    wanted = [
        (
            key_of(o),
            str(o["order_id"]),
            str(o["customer_id"]),
            to_us(o["ordered_at"]),
            pytest.approx(float(o["amount"])),
        )
        for o in shop.orders
        if key_of(o) and bought(o) and start <= o["ordered_at"] < until
    ]
    found = orders_with_codes(facts, [code.upper() for code in codes], start=start, until=until)
    rows = [tuple(row) for row in found.itertuples(index=False)]
    assert rows == sorted(wanted, key=lambda row: (row[0], row[3], row[1]))
    assert knows_codes(facts, start=start, until=until)
    assert not knows_codes(facts, start=until + timedelta(days=900), until=until + timedelta(days=901))
    assert orders_with_codes(facts, ["nobody-has-it"], start=start, until=until).empty


def test_every_order_of_a_customer_is_told_refunds_too(
    facts: Facts, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohorts, "LISTED", 7)
    start, until = window(shop)
    some = sorted({str(order["customer_id"]) for order in shop.orders})[::2]
    wanted = [
        (
            str(o["customer_id"]),
            str(o["order_id"]),
            to_us(o["ordered_at"]),
            pytest.approx(float(o["amount"]) if counts(o) else 0.0),
            bought(o),
            key_of(o),
        )
        for o in shop.orders
        if str(o["customer_id"]) in some and start <= o["ordered_at"] < until
    ]
    found = orders_of_customers(facts, some, start=start, until=until)
    rows = [tuple(row) for row in found.itertuples(index=False)]
    assert rows == sorted(wanted, key=lambda row: (row[0], row[2], row[1]))
