"""A small random shop with every wart, kept in three engines: DuckDB over Parquet, PostgreSQL and SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from warehouse.facts.load import load_table
from warehouse.facts.store import Facts, FactsMapping, TableMapping, open_facts

SEEDS = (20260101, 7)
AS_OF = datetime(2025, 4, 1, 9, 30, tzinfo=UTC)
ENGINES = ("duckdb", "postgresql", "sqlite")
Row = dict[str, Any]


@dataclass(frozen=True)
class Shop:
    """Rows of the three tables as plain values; instants are aware UTC, amounts decimal."""

    customers: list[Row]
    orders: list[Row]
    events: list[Row]


def random_shop(seed: int, n: int = 150) -> Shop:
    """Customers with and without orders, refunds, cancellations, free orders, ties, odd texts, instants at DST changes."""
    rng = np.random.default_rng(seed)
    customers = [_customer(rng, i) for i in range(n)]
    ids = [row["customer_id"] for row in customers]
    # strangers: orders and events of customers the company never recorded
    buyers = [*rng.choice(ids, size=n * 2 // 3, replace=False).tolist(), "stranger"]
    orders: list[Row] = []
    for customer_id in buyers:
        for _ in range(int(rng.integers(1, 9))):
            orders.append(_order(rng, len(orders), customer_id))
    events = [_event(rng, i, str(rng.choice([*ids, "stranger"]))) for i in range(n * 3)]
    return Shop(customers, orders, events)


def _maybe(rng: np.random.Generator, share: float, value: Any) -> Any:
    return value if rng.random() < share else None


def _instant(rng: np.random.Generator, days: int) -> datetime:
    """Coarse instants make ties; some lie in the hours around a DST change, some have microseconds, some are the cut-off itself."""
    kind = rng.random()
    if kind < 0.05:
        return datetime(2024, 10, 27, 0, 30, tzinfo=UTC) + timedelta(minutes=30 * int(rng.integers(0, 5)))
    if kind < 0.10:
        return datetime(2025, 3, 30, 0, 30, tzinfo=UTC) + timedelta(minutes=30 * int(rng.integers(0, 5)))
    if kind < 0.14:
        return AS_OF - timedelta(days=int(rng.integers(0, 4)) * 30)
    if kind < 0.25:
        return AS_OF + timedelta(days=40) - timedelta(microseconds=int(rng.integers(0, days * 86_400 * 10**6)))
    return AS_OF.replace(hour=0, minute=0) + timedelta(days=40) - timedelta(hours=6 * int(rng.integers(0, days * 4)))


def _customer(rng: np.random.Generator, i: int) -> Row:
    # ids whose byte order differs from most collations
    prefix = str(rng.choice(["c", "C", "é", "Z", "_", "ß-"]))
    return {
        "customer_id": f"{prefix}{i:04d}",
        "created_at": _maybe(rng, 0.9, _instant(rng, 900)),
        "email": _maybe(rng, 0.8, f"person{i}@example.com"),
        "phone": _maybe(rng, 0.6, f"+4477009{i:05d}"),
        "push_token": _maybe(rng, 0.3, f"token-{i}"),
        "time_zone": _maybe(rng, 0.7, str(rng.choice(["Europe/London", "Asia/Shanghai"]))),
        "locale": _maybe(rng, 0.7, str(rng.choice(["en", "zh-CN"]))),
        "country": _maybe(rng, 0.8, str(rng.choice(["GB", "IE", "CN", "Côte d'Ivoire"]))),
        "region": None,
        "birthday": _maybe(rng, 0.7, _birthday(rng)),
        "preferred_channel": _maybe(rng, 0.5, str(rng.choice(["sms", "email"]))),
        "consent_sms": _maybe(rng, 0.8, bool(rng.random() < 0.5)),
        "consent_email": _maybe(rng, 0.8, bool(rng.random() < 0.7)),
        "consent_push": _maybe(rng, 0.8, bool(rng.random() < 0.2)),
        "tier": _maybe(rng, 0.5, str(rng.choice(["Basic", "premium"]))),
        "household_id": _maybe(rng, 0.5, f"h{i // 3}"),
        "vip": _maybe(rng, 0.7, bool(rng.random() < 0.3)),
        "points": _maybe(rng, 0.7, float(rng.integers(-5, 400)) / 4),
        "city": _maybe(rng, 0.7, str(rng.choice(["Zürich", "zug", "Aarau", "Łódź"]))),
        "renewed_at": _maybe(rng, 0.6, _instant(rng, 400)),
    }


def _birthday(rng: np.random.Generator) -> date:
    if rng.random() < 0.1:
        return date(1988, 2, 29)
    if rng.random() < 0.1:
        return date(1990, 4, 1)
    return date(1950, 1, 1) + timedelta(days=int(rng.integers(0, 20_000)))


def _order(rng: np.random.Generator, i: int, customer_id: str) -> Row:
    amount = Decimal(int(rng.choice([0, 999, 1250, 100_000, int(rng.integers(1, 500_000))]))) / 100
    if rng.random() < 0.08:
        amount = -amount
    if rng.random() < 0.05:
        amount += Decimal("0.0125")
    status = rng.choice(["", "", "", "paid", "Refunded", "cancelled", "returned", "FAILED"])
    return {
        "order_id": f"o{i:05d}",
        "customer_id": customer_id,
        "ordered_at": _instant(rng, 800),
        "amount": amount,
        "currency": "EUR",
        "margin": _maybe(rng, 0.8, (amount * Decimal("0.25")).quantize(Decimal("0.0001")) - 1),
        "units": float(rng.integers(1, 5)),
        "category": _maybe(rng, 0.5, "shoes"),
        "discount_code": (None, None, "SPRING", "spring", "Vip-7", None, "B2 ")[i % 7],
        "status": str(status) or None,
    }


def _event(rng: np.random.Generator, i: int, customer_id: str) -> Row:
    kinds = ["visit", "visit", "login", "nps", "csat", "complaint_opened", "complaint_resolved"]
    event = str(rng.choice(kinds))
    value = float(rng.integers(0, 11)) if event in ("nps", "csat") else None
    return {
        "event_id": f"e{i:05d}",
        "customer_id": customer_id,
        "occurred_at": _instant(rng, 500),
        "event": event,
        "value": _maybe(rng, 0.9, value),
        "properties": _maybe(rng, 0.2, '{"page": "home, sweet \\"home\\""}'),
    }


def csv_text(rows: list[Row]) -> str:
    """The rows as a CSV file a company could have exported."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def load_options(folder: Path) -> dict[str, Any]:
    """What every load of these tests is called with."""
    return {"renames": {}, "time_zone": "UTC", "quarantine_dir": folder / "quarantine", "now": AS_OF}


def embedded_facts(folder: Path, shop: Shop) -> Facts:
    """The shop in Parquet. Orders and events come before the customers, so that strangers stay."""
    facts = open_facts("duckdb", data_dir=folder / "data")
    for table in ("orders", "events", "customers"):
        path = folder / f"{table}.csv"
        path.write_text(csv_text(getattr(shop, table)), encoding="utf-8")
        summary = load_table(facts, table, [path], **load_options(folder))
        assert summary.quarantined == 0, summary
    return facts


_TYPES: dict[str, Callable[[bool], sa.types.TypeEngine[Any]]] = {
    "created_at": lambda zoned: sa.DateTime(timezone=zoned),
    "renewed_at": lambda zoned: sa.DateTime(timezone=zoned),
    "ordered_at": lambda _: sa.DateTime(),
    "occurred_at": lambda zoned: sa.DateTime(timezone=zoned),
    "birthday": lambda _: sa.Date(),
    "consent_sms": lambda _: sa.Boolean(),
    "consent_email": lambda _: sa.Boolean(),
    "consent_push": lambda _: sa.Boolean(),
    "vip": lambda _: sa.Boolean(),
    "points": lambda _: sa.Double(),
    "value": lambda _: sa.Double(),
    "units": lambda _: sa.Double(),
}
_MONEY = {"amount", "margin"}
THEIRS = {
    "customers": TableMapping("clients", {"customer_id": "client", "created_at": "since", "city": "town"}),
    "orders": TableMapping("sales", {"order_id": "id", "customer_id": "client", "amount": "total"}),
    "events": TableMapping(None, {"occurred_at": "at"}),
}


def database_facts(url: str, shop: Shop) -> Facts:
    """The shop in a company's database, whose tables and columns bear other names."""
    engine = sa.create_engine(url)
    zoned = engine.dialect.name == "postgresql"
    metadata = sa.MetaData()
    with engine.begin() as connection:
        for name in ("customers", "orders", "events"):
            rows = getattr(shop, name)
            theirs = dict(THEIRS[name].columns)
            columns = [sa.Column(theirs.get(c, c), _column_type(c, zoned)) for c in rows[0]]
            table = sa.Table(THEIRS[name].table or name, metadata, *columns)
            table.create(connection)
            connection.execute(
                table.insert(), [{theirs.get(c, c): _stored(v, zoned) for c, v in row.items()} for row in rows]
            )
    engine.dispose()
    return open_facts(url, data_dir=Path("unused"), mapping=FactsMapping(THEIRS))


def _column_type(name: str, zoned: bool) -> sa.types.TypeEngine[Any]:
    if name in _MONEY:
        return sa.Numeric(18, 4) if zoned else sa.Double()
    return _TYPES.get(name, lambda _: sa.Text())(zoned)


def _stored(value: Any, zoned: bool) -> Any:
    if isinstance(value, datetime) and not zoned:
        return value.replace(tzinfo=None)
    return float(value) if isinstance(value, Decimal) and not zoned else value


@pytest.fixture(scope="session", params=SEEDS, ids=lambda seed: f"shop{seed}")
def shop(request: pytest.FixtureRequest) -> Shop:
    """A random shop for each seed."""
    return random_shop(request.param)


@pytest.fixture(scope="session")
def embed() -> Callable[[Path, Shop], Facts]:
    """Put a shop into Parquet below a folder."""
    return embedded_facts


@pytest.fixture(params=ENGINES)
def facts(request: pytest.FixtureRequest, shop: Shop, tmp_path: Path) -> Iterator[Facts]:
    """The shop's facts on each engine in turn."""
    with open_on(request, request.param, shop, tmp_path) as opened:
        yield opened


@pytest.fixture
def everywhere(request: pytest.FixtureRequest, shop: Shop, tmp_path: Path) -> Iterator[dict[str, Facts]]:
    """The shop's facts on all engines at once."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(open_on(request, name, shop, tmp_path)) for name in ENGINES}


def open_on(request: pytest.FixtureRequest, name: str, shop: Shop, folder: Path) -> Facts:
    if name == "duckdb":
        return embedded_facts(folder, shop)
    url = f"sqlite:///{folder / 'company.db'}" if name == "sqlite" else request.getfixturevalue("postgres_url")
    return database_facts(url, shop)


@pytest.fixture
def empty_facts(tmp_path: Path) -> Iterator[Facts]:
    """Embedded facts with nothing loaded."""
    with open_facts("duckdb", data_dir=tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Keyword arguments of a load."""
    return load_options(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file below the test's folder and give its path."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return make
