"""How late orders are loaded is kept with each load, and a measurement says it beside what was agreed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from flows.steps.load_facts import load_facts
from flows.steps.measure_experiment import measure_experiment
from flows.wiring import Workspace

Shops = Callable[..., Workspace]
Go = Callable[..., dict[str, list[str]]]
DAY = timedelta(days=1)
RIPE = timedelta(days=33)


def load_orders(ws: Workspace, made_at: datetime, loaded_at: datetime, *, n: int) -> None:
    lines = ["order_id,customer_id,ordered_at,amount,margin"]
    lines += [f"L{loaded_at:%m%d}{i:04d},C{i:04d},{made_at.isoformat()},10.00,4.00" for i in range(n)]
    path = ws.root / f"late-{loaded_at:%m%d}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    load_facts(ws, "orders", [path], renames={}, now=loaded_at)


def lateness_of(ws: Workspace, now: datetime) -> dict[str, Any]:
    found: dict[str, Any] = measure_experiment(ws, "back", now=now).to_json()["circumstances"]["lateness"]
    return found


def test_delays_are_counted_from_the_second_load_on_and_archives_are_not_late(shop: Shops, monday: datetime) -> None:
    ws = shop(customers=200)
    assert ws.facts.order_delays() == {}  # the first load brings the past
    load_orders(ws, monday + DAY, monday + 3 * DAY, n=150)
    load_orders(ws, monday - 90 * DAY, monday + 4 * DAY, n=20)
    load_orders(ws, monday + 7 * DAY, monday + 6 * DAY, n=5)  # clocks differ: not before it was made
    assert ws.facts.order_delays() == {2: 150, 0: 5}
    load_facts(ws, "orders", [ws.root / "late-0305.csv"], renames={}, now=monday + 30 * DAY)
    assert ws.facts.order_delays() == {2: 150, 0: 5}  # what was known already is not late


def test_where_orders_arrive_later_than_agreed_a_measurement_says_how_late(
    shop: Shops, go_round: Go, monday: datetime
) -> None:
    ws = shop(customers=300)
    go_round(ws, monday)
    load_orders(ws, monday + 10 * DAY, monday + 17 * DAY, n=250)
    found = lateness_of(ws, monday + RIPE)
    assert (found["status"], found["agreed_days"], found["days_95"]) == ("known", 3.0, 7.0)
    assert found["late_share"] == pytest.approx(250 / found["outcomes"])


def test_orders_in_time_are_not_late_and_few_orders_say_nothing(shop: Shops, go_round: Go, monday: datetime) -> None:
    ws = shop(customers=300)
    go_round(ws, monday)
    assert lateness_of(ws, monday + RIPE) == {"status": "unknown", "agreed_days": 3.0}
    load_orders(ws, monday + 10 * DAY, monday + 12 * DAY, n=200)
    found = lateness_of(ws, monday + RIPE)
    assert (found["status"], found["late"]) == ("known", 0)


def test_a_warehouse_that_keeps_no_load_instants_says_unknown(shop: Shops, go_round: Go, monday: datetime) -> None:
    from warehouse.facts.store import Facts

    ws = shop(customers=60)
    go_round(ws, monday)
    assert Facts.order_delays(ws.facts) is None  # the base of all SQL warehouses
