"""Facts: load, select, measure and look up, against hand-written DuckDB over the same files.

RETAIN_BENCH_CUSTOMERS (default 100,000; five orders each), RETAIN_BENCH_ROUNDS (default 3: product and floor take
turns, the best of each counts), RETAIN_BENCH_MEMORY (DuckDB's limit, default 2GB), RETAIN_BENCH_STEPS (default
load,segment,measure,contacts). `ratio` is of wall-clock seconds, `cpu_ratio` of processor seconds, which other work
on the machine disturbs less.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
HORIZON = timedelta(days=30)
PRE_PERIOD = timedelta(days=90)
SEGMENT = "recency_days >= 90 and recency_days < 365 and orders >= 2 and rfm_f >= 3 and rfm_m >= 3"


def run() -> list[dict[str, Any]]:
    """One result for each step: seconds of the product and of the floor, and their ratio."""
    customers = int(os.environ.get("RETAIN_BENCH_CUSTOMERS", "100000"))
    rounds = int(os.environ.get("RETAIN_BENCH_ROUNDS", "3"))
    steps = os.environ.get("RETAIN_BENCH_STEPS", "load,segment,measure,contacts").split(",")
    with tempfile.TemporaryDirectory() as name:
        shop = _Shop(Path(name), customers, rounds)
        try:
            return [getattr(shop, f"bench_{step}")() for step in steps]
        finally:
            shop.close()


@dataclass(frozen=True)
class _Clock:
    """Seconds on the wall and of the processor."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> _Clock:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.perf_counter(), used.ru_utime + used.ru_stime)

    def __sub__(self, other: _Clock) -> _Clock:
        return _Clock(self.wall - other.wall, self.cpu - other.cpu)


class _Shop:
    """A random shop on disk, loaded into facts, and a plain DuckDB connection beside them for the floors."""

    def __init__(self, folder: Path, customers: int, rounds: int) -> None:
        import duckdb

        from warehouse.facts.store import open_facts

        self.folder, self.customers, self.orders, self.rounds = folder, customers, customers * 5, rounds
        self.limit = os.environ.get("RETAIN_BENCH_MEMORY", "2GB")
        self.plain = duckdb.connect(config={"memory_limit": self.limit, "temp_directory": str(folder / "plain")})
        self._generate()
        self.facts = open_facts("duckdb", data_dir=folder / "data", memory_limit=self.limit)
        self.load_clock = self._load()
        files = {
            t: [str(p) for p in (folder / "data" / t).glob("*.parquet")] for t in ("customers", "orders", "events")
        }
        self.scans = {table: f"read_parquet({paths})" for table, paths in files.items()}

    def close(self) -> None:
        self.facts.close()
        self.plain.close()

    def _generate(self) -> None:
        """Customers with contact data; orders whose rate and end differ by customer, over three years."""
        self.plain.execute("SELECT setseed(0.42)")
        who = f"'c' || lpad(CAST(hash(i * 31) % {self.customers} AS VARCHAR), 9, '0')"
        self.plain.execute(
            f"COPY (SELECT 'c' || lpad(CAST(i AS VARCHAR), 9, '0') AS customer_id, "
            f"TIMESTAMP '2020-01-01' AS created_at, "
            f"'p' || i || '@example.com' AS email, '+44770' || lpad(CAST(i AS VARCHAR), 9, '0') AS phone, "
            f"CASE i % 3 WHEN 0 THEN 'GB' WHEN 1 THEN 'IE' ELSE 'CN' END AS country, 'Europe/London' AS time_zone, "
            f"'en' AS locale, i % 10 < 8 AS consent_sms, i % 10 < 9 AS consent_email, 'Ann' AS first_name "
            f"FROM range({self.customers}) AS t(i)) TO '{self.folder}/customers.parquet'"
        )
        self.plain.execute(
            f"COPY (SELECT 'o' || lpad(CAST(i AS VARCHAR), 10, '0') AS order_id, {who} AS customer_id, "
            f"CAST(TIMESTAMP '2023-03-01' + to_seconds(CAST(floor(power(random(), 0.7) * 1060 * 86400) AS BIGINT)) "
            f"AS VARCHAR) AS ordered_at, CAST(round(5 + 95 * random() * random(), 2) AS VARCHAR) AS amount, "
            f"CAST(round(20 * random(), 2) AS VARCHAR) AS margin "
            f"FROM range({self.orders}) AS t(i)) TO '{self.folder}/orders.csv' (HEADER)"
        )

    def _load(self) -> _Clock:
        from warehouse.facts.load import load_table

        options: dict[str, Any] = {"renames": {}, "time_zone": "UTC", "quarantine_dir": self.folder, "now": AS_OF}
        load_table(self.facts, "customers", [self.folder / "customers.parquet"], **options)
        began = _Clock.now()
        summary = load_table(self.facts, "orders", [self.folder / "orders.csv"], **options)
        assert summary.added == self.orders, summary
        return _Clock.now() - began

    def _race(self, product: Callable[[], Any], floor: Callable[[], Any]) -> tuple[list[_Clock], Any, Any]:
        """Both in turns; the best clock of each, and what each gave last."""
        clocks: list[list[_Clock]] = [[], []]
        found: list[Any] = [None, None]
        for _ in range(self.rounds):
            for place, work in enumerate((product, floor)):
                began = _Clock.now()
                found[place] = work()
                clocks[place].append(_Clock.now() - began)
        return [_Clock(min(c.wall for c in each), min(c.cpu for c in each)) for each in clocks], *found

    def _result(self, step: str, clocks: list[_Clock], limit: float | None, **more: Any) -> dict[str, Any]:
        product, floor = clocks
        return {
            "step": step,
            "customers": self.customers,
            "orders": self.orders,
            "seconds": round(product.wall, 4),
            "floor_seconds": round(floor.wall, 4),
            "ratio": round(product.wall / floor.wall, 3),
            "cpu_ratio": round(product.cpu / floor.cpu, 3),
            "limit": limit,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "memory_limit": self.limit,
            **more,
        }

    def bench_load(self) -> dict[str, Any]:
        """CSV to checked facts; floor: DuckDB casts and writes the same file, checking nothing."""
        sql = (
            f"COPY (SELECT order_id, customer_id, CAST(ordered_at AS TIMESTAMP), CAST(amount AS DECIMAL(18,4)), "
            f"CAST(margin AS DECIMAL(18,4)) FROM read_csv('{self.folder}/orders.csv', all_varchar=true)) "
            f"TO '{self.folder}/floor.parquet'"
        )
        clocks, *_ = self._race(lambda: None, lambda: self.plain.execute(sql))
        return self._result("load", [self.load_clock, clocks[1]], None)

    def bench_segment(self) -> dict[str, Any]:
        """A segment with RFM and recency, with the columns a plan needs; floor: the same by hand, to a DataFrame."""
        from campaigns.features import known_kinds
        from campaigns.segment import parse_segment
        from warehouse.facts.segment_sql import select_segment

        expression = parse_segment(SEGMENT, known=known_kinds(self.facts.attributes()))
        clocks, found, by_hand = self._race(
            lambda: select_segment(self.facts, expression, as_of=AS_OF),
            lambda: self.plain.execute(self._segment_sql()).df(),
        )
        assert found["customer_id"].tolist() == by_hand["customer_id"].tolist()
        return self._result("segment", clocks, 1.3, selected=len(found))

    def _segment_sql(self) -> str:
        return f"""
            WITH bought AS (
                SELECT customer_id, count(*) FILTER (fine) AS n, max(ordered_at) FILTER (fine) AS last_at,
                    sum(amount) FILTER (fine OR back) AS spend
                FROM (SELECT customer_id, ordered_at, amount,
                    amount >= 0 AND coalesce(lower(status), '') NOT IN
                        ('refunded', 'returned', 'cancelled', 'canceled', 'voided', 'failed') AS fine,
                    amount < 0 AND coalesce(lower(status), '') NOT IN
                        ('cancelled', 'canceled', 'voided', 'failed') AS back
                    FROM {self.scans["orders"]} WHERE ordered_at < TIMESTAMP '2026-01-01')
                GROUP BY customer_id),
            scored AS (
                SELECT bought.*, ntile(5) OVER (ORDER BY n, customer_id) AS rfm_f,
                    ntile(5) OVER (ORDER BY spend, customer_id) AS rfm_m
                FROM bought SEMI JOIN {self.scans["customers"]} AS known USING (customer_id) WHERE n > 0)
            SELECT customer_id, coalesce(phone, '') <> '' AS has_sms, coalesce(email, '') <> '' AS has_email,
                coalesce(push_token, '') <> '' AS has_push, coalesce(consent_sms, false) AS consent_sms,
                coalesce(consent_email, false) AS consent_email, coalesce(consent_push, false) AS consent_push,
                time_zone, country, locale, false AS open_complaint, household_id
            FROM {self.scans["customers"]} AS customers JOIN scored USING (customer_id)
            WHERE created_at < TIMESTAMP '2026-01-01' AND n >= 2 AND rfm_f >= 3 AND rfm_m >= 3
                AND last_at <= TIMESTAMP '2026-01-01' - INTERVAL 90 DAY
                AND last_at > TIMESTAMP '2026-01-01' - INTERVAL 365 DAY
            ORDER BY customer_id
        """

    def bench_measure(self) -> dict[str, Any]:
        """Moments of five metrics and two covariates over everybody in four arms; floor: one scan that sums by hand."""
        from warehouse.facts.outcomes import wave_moments

        start = AS_OF - HORIZON
        cohort = self.plain.execute(
            f"SELECT customer_id, ['a', 'b', 'c', 'control'][CAST(1 + hash(customer_id) % 4 AS BIGINT)] AS arm "
            f"FROM {self.scans['customers']} ORDER BY customer_id"
        ).df()
        self.plain.register("cohort", cohort)
        clocks, found, by_hand = self._race(
            lambda: wave_moments(self.facts, cohort, start=start, horizon=HORIZON, pre_period=PRE_PERIOD),
            lambda: self.plain.execute(self._measure_sql()).df(),
        )
        for row in by_hand.to_dict("records"):
            assert abs(found[row["arm"]].sum("revenue") - row["revenue"]) < 1e-3 * abs(row["revenue"])
        return self._result("measure", clocks, 1.5, assigned=len(cohort))

    def _measure_sql(self) -> str:
        names = ("repurchase", "retained", "revenue", "orders", "margin", "pre_revenue", "pre_orders")
        sums = ", ".join(f"sum({name}) AS {name}, var_samp({name})" for name in names)
        products = ", ".join(f"covar_samp({a}, {b})" for i, a in enumerate(names) for b in names[i + 1 :])
        late, early = "ordered_at >= TIMESTAMP '2025-12-02'", "ordered_at < TIMESTAMP '2025-12-02'"
        return f"""
            WITH outcome AS (
                SELECT customer_id, CAST(count(*) FILTER ({late}) AS DOUBLE) AS orders,
                    CAST(count(*) FILTER (ordered_at >= TIMESTAMP '2025-12-17') AS DOUBLE) AS late_orders,
                    CAST(sum(amount) FILTER ({late}) AS DOUBLE) AS revenue,
                    CAST(sum(margin) FILTER ({late}) AS DOUBLE) AS margin,
                    CAST(sum(amount) FILTER ({early}) AS DOUBLE) AS pre_revenue,
                    CAST(count(*) FILTER ({early}) AS DOUBLE) AS pre_orders
                FROM {self.scans["orders"]}
                WHERE ordered_at >= TIMESTAMP '2025-09-03' AND ordered_at < TIMESTAMP '2026-01-01' AND amount >= 0
                    AND coalesce(lower(status), '') NOT IN
                        ('refunded', 'returned', 'cancelled', 'canceled', 'voided', 'failed')
                GROUP BY customer_id),
            filled AS (
                SELECT arm, CASE WHEN orders > 0 THEN 1.0::DOUBLE ELSE 0 END AS repurchase,
                    CASE WHEN late_orders > 0 THEN 1.0::DOUBLE ELSE 0 END AS retained,
                    coalesce(revenue, 0) AS revenue, coalesce(orders, 0) AS orders, coalesce(margin, 0) AS margin,
                    coalesce(pre_revenue, 0) AS pre_revenue, coalesce(pre_orders, 0) AS pre_orders
                FROM cohort LEFT JOIN outcome USING (customer_id))
            SELECT arm, count(*), {sums}, {products} FROM filled GROUP BY arm
        """

    def bench_contacts(self) -> dict[str, Any]:
        """Contacts of 1,000 customers at a time, ten times; floor: a hand-written join on the same ids."""
        from warehouse.facts.contacts import look_up_contacts

        step = max(self.customers // 10_000, 1)
        batches = [[f"c{(b * 1000 + i) * step % self.customers:09d}" for i in range(1000)] for b in range(10)]
        clocks, *_ = self._race(
            lambda: [look_up_contacts(self.facts, batch) for batch in batches],
            lambda: [self._contacts_by_hand(batch) for batch in batches],
        )
        return self._result("contacts", clocks, None, looked_up=10_000)

    def _contacts_by_hand(self, batch: list[str]) -> Any:
        import pandas as pd

        self.plain.register("batch", pd.DataFrame({"customer_id": batch}))
        sql = f"SELECT c.* FROM {self.scans['customers']} AS c SEMI JOIN batch USING (customer_id)"
        return self.plain.execute(sql).df().to_dict("records")
