"""Opening facts: where they may lie, how the company's own tables are named, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from campaigns.features import known_kinds
from campaigns.segment import parse_segment
from warehouse.facts import store
from warehouse.facts.contacts import look_up_contacts
from warehouse.facts.dialects import UtcInstant, byte_order, epoch_us, money_total, to_us, whole_division
from warehouse.facts.errors import FactsError
from warehouse.facts.features import feature_columns
from warehouse.facts.load import load_table
from warehouse.facts.segment_sql import compute_features, select_segment
from warehouse.facts.store import ALONE_BYTES, Facts, FactsMapping, ParquetFacts, TableMapping, open_facts

AS_OF = datetime(2025, 4, 1, tzinfo=UTC)


def company(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


PLAIN = (
    "CREATE TABLE customers (customer_id INTEGER, created_at DATE, email TEXT, consent_email TEXT, consent_sms INTEGER, level NUMERIC)",
    "CREATE TABLE orders (order_id INTEGER, customer_id INTEGER, ordered_at DATE, amount NUMERIC)",
    "CREATE TABLE events (event_id TEXT, customer_id INTEGER, occurred_at TIMESTAMP, event TEXT)",
)  # fmt: skip


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'company.db'}"


def test_nothing_is_made_where_nothing_is_loaded(tmp_path: Path) -> None:
    with open_facts("duckdb", data_dir=tmp_path / "data") as facts:
        assert facts.attributes() == {}
        assert facts.frame(sa.select(facts.tables.customers)).empty
        assert compute_features(facts, as_of=AS_OF, names=["orders", "country"]).empty
        assert isinstance(facts, ParquetFacts)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("no-url", "facts_url: not a database URL that can be opened"),
        ("nosuchdatabase://host/x", "facts_url: not a database URL that can be opened"),
        ("postgresql+psycopg://nobody@127.0.0.1:1/none", "facts_url: the postgresql database cannot be read"),
    ],
)
def test_an_url_that_leads_nowhere_is_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(FactsError, match=message):
        open_facts(url, data_dir=tmp_path)


def test_a_memory_limit_is_a_size(tmp_path: Path) -> None:
    open_facts("duckdb", data_dir=tmp_path, memory_limit="512MB").close()
    with pytest.raises(FactsError, match="facts memory limit 'plenty': not understood"):
        open_facts("duckdb", data_dir=tmp_path, memory_limit="plenty")


def test_work_above_the_memory_limit_spills_beside_the_data(
    tmp_path: Path, write: Callable[[str, str], Path], options: dict[str, Any]
) -> None:
    lines = "".join(f"{i},c{i % 60_000:06d},2025-01-01,{i % 97}\n" for i in range(300_000))
    path = write("o.csv", "order_id,customer_id,ordered_at,amount\n" + lines)
    with open_facts("duckdb", data_dir=tmp_path / "data", memory_limit="100MB") as facts:
        assert load_table(facts, "orders", [path], **options).added == 300_000
        assert load_table(facts, "orders", [path], **options).unchanged == 300_000
    assert not list((tmp_path / "data").glob("spill/*"))


def test_few_rows_are_read_by_one_thread_and_many_by_all(
    empty_facts: ParquetFacts, write: Callable[[str, str], Path], options: dict[str, Any], monkeypatch: Any
) -> None:
    def threads() -> int:
        with empty_facts.connection() as connection:
            return int(connection.execute(sa.text("SELECT current_setting('threads')")).scalar_one())

    with duckdb.connect() as untouched:
        every = untouched.execute("SELECT current_setting('threads')").fetchone()
    path = write("o.csv", "order_id,customer_id,ordered_at,amount\n1,a,2025-01-01,5\n2,a,2025-01-01,5\n")
    load_table(empty_facts, "orders", [path], **options)
    assert threads() == 1
    empty_facts.share_work(ALONE_BYTES + 1)
    assert (threads(),) == every
    empty_facts.share_work()
    assert threads() == 1
    monkeypatch.setattr(store, "ROW_GROUP", 1)
    empty_facts.share_work()
    assert (threads(),) == every


def test_a_load_without_enough_memory_says_what_to_do(
    tmp_path: Path, write: Callable[[str, str], Path], options: dict[str, Any]
) -> None:
    path = write("o.csv", "order_id,customer_id,ordered_at,amount\n" + "1,a,2025-01-01,5\n" * 10_000)
    with (
        open_facts("duckdb", data_dir=tmp_path / "data", memory_limit="1MB") as facts,
        pytest.raises(FactsError, match=r"failed in DuckDB .*Give it more memory \(facts_memory_limit\)"),
    ):
        load_table(facts, "orders", [path], **options)


def test_the_companys_types_are_read_as_ours(sqlite_url: str, tmp_path: Path) -> None:
    company(
        sqlite_url,
        *PLAIN,
        "INSERT INTO customers VALUES (1, '2024-01-31', 'a@example.com', 'Yes', 0, 2.5), (2, NULL, '', 'maybe', 1, NULL)",
        "INSERT INTO orders VALUES (1, 1, '2025-03-31', 10), (2, 1, '2025-04-01', 20), (3, 2, '2025-03-01', 5)",
        "INSERT INTO events VALUES ('e', 2, '2025-03-01 00:00:00.000000', 'complaint_opened')",
    )
    with open_facts(sqlite_url, data_dir=tmp_path) as facts:
        assert facts.attributes() == {"level": "number"}
        found = select_segment(facts, parse_segment("True", known={}), as_of=AS_OF, extra=["orders", "spend", "level"])
        assert found["customer_id"].tolist() == ["1", "2"]
        assert found["consent_email"].tolist() == [True, False]
        assert found["consent_sms"].tolist() == [False, True]
        assert found["has_email"].tolist() == [True, False]
        assert found["open_complaint"].tolist() == [False, True]
        # the order of the day of the cut-off is not before it
        assert found["spend"].tolist() == [10.0, 5.0]
        contact = look_up_contacts(facts, ["1"])["1"]
        assert (contact.email, contact.consents["email"], contact.attributes["level"]) == ("a@example.com", True, 2.5)
        assert contact.attributes["created_at"] == datetime(2024, 1, 31, tzinfo=UTC)


def test_dates_and_texts_of_postgresql_are_read_as_ours(postgres_url: str, tmp_path: Path) -> None:
    company(
        postgres_url,
        "CREATE SCHEMA shop",
        *(statement.replace("TABLE ", "TABLE shop.") for statement in PLAIN),
        "INSERT INTO shop.customers VALUES (1, '2024-01-31', 'a@example.com', 'Yes', 0, 2.5)",
        "INSERT INTO shop.orders VALUES (1, 1, '2025-03-31', 10.5), (2, 1, '2025-04-01', 20)",
    )
    mapping = FactsMapping({name: TableMapping(f"shop.{name}") for name in ("customers", "orders", "events")})
    with open_facts(postgres_url, data_dir=tmp_path, mapping=mapping) as facts:
        found = compute_features(facts, as_of=AS_OF, names=["recency_days", "spend", "tenure_days", "level"])
        assert found.to_dict("records") == [
            {"customer_id": "1", "recency_days": 1.0, "spend": 10.5, "tenure_days": 426.0, "level": 2.5}
        ]


def test_enumerations_padded_texts_and_uuids_of_postgresql_are_texts(postgres_url: str, tmp_path: Path) -> None:
    who = "6f1d2c0e-0a51-4c46-9a3b-0d8a3f1c2b11"
    company(
        postgres_url,
        "CREATE TYPE state AS ENUM ('paid', 'refunded')",
        "CREATE TABLE customers (customer_id UUID, country CHAR(4), tags JSON, joined TIMESTAMPTZ, wants_sms BOOLEAN)",
        "CREATE TABLE orders (order_id BIGINT, customer_id UUID, ordered_at TIMESTAMPTZ, amount DOUBLE PRECISION, status state)",
        "CREATE TABLE events (event_id INTEGER, customer_id UUID, occurred_at DATE, event TEXT)",
        f"INSERT INTO customers VALUES ('{who}', 'GB', '[1]', '2025-01-01 00:00+02', NULL)",
        f"INSERT INTO orders VALUES (1, '{who}', '2025-03-31 23:00-02', 10.1, 'paid'), (2, '{who}', '2025-03-01', 5, 'refunded')",
    )
    with open_facts(postgres_url, data_dir=tmp_path) as facts:
        assert facts.attributes() == {"joined": "instant", "tags": "text", "wants_sms": "boolean"}
        segment = parse_segment("country == 'GB' and orders == 0", known=known_kinds())
        assert select_segment(facts, segment, as_of=AS_OF)["customer_id"].tolist() == [who]
        later = compute_features(facts, as_of=AS_OF + timedelta(hours=2), names=["orders", "spend", "joined"])
        assert later.to_dict("records") == [
            {"customer_id": who, "orders": 1, "spend": 10.1, "joined": datetime(2024, 12, 31, 22, tzinfo=UTC)}
        ]
        assert len(facts.fingerprint()) == 64


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"client": TableMapping("x")}, "client is not a table of the facts; expected customers, orders, events"),
        (
            {"customers": TableMapping("clients")},
            r"table clients: not found .* under \[facts.customers\] in retain.toml",
        ),
        ({"orders": TableMapping(None, {"amuont": "total"})}, r"orders has no column amuont \(did you mean amount\?\)"),
        ({"orders": TableMapping(None, {"zzz": "total"})}, "orders has no column zzz; columns: order_id"),
        (
            {"orders": TableMapping(None, {"amount": "total"})},
            "table orders: has no column total, expected as orders.amount",
        ),
        (
            {"orders": TableMapping(None, {"status": "state"})},
            "table orders: has no column state, expected as orders.status",
        ),
        ({"customers": TableMapping(None, {"segment": "clv"})}, "has no column clv, expected as the attribute segment"),
        ({"orders": TableMapping("events")}, "table events: has no column order_id"),
    ],
)
def test_a_mapping_that_does_not_fit_says_where(
    sqlite_url: str, tmp_path: Path, mapping: dict[str, TableMapping], message: str
) -> None:
    company(sqlite_url, *PLAIN)
    with pytest.raises(FactsError, match=message):
        open_facts(sqlite_url, data_dir=tmp_path, mapping=FactsMapping(mapping))


@pytest.mark.parametrize("written", ["2025-03-01T00:00:00.000000", "2025-03-01 00:00:00", "1740787200"])
def test_times_that_sqlite_would_compare_wrongly_are_refused(sqlite_url: str, tmp_path: Path, written: str) -> None:
    company(sqlite_url, *PLAIN, f"INSERT INTO events VALUES ('e', 2, '{written}', 'visit')")
    with pytest.raises(FactsError, match=f"events.occurred_at holds '{written}'; SQLite keeps times as texts"):
        open_facts(sqlite_url, data_dir=tmp_path)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_the_fingerprint_of_a_database_moves_with_its_rows(
    request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path, engine: str
) -> None:
    url = sqlite_url if engine == "sqlite" else request.getfixturevalue("postgres_url")
    company(url, *PLAIN, "INSERT INTO customers VALUES (1, NULL, 'a@example.com', 'yes', 0, 1)")
    with open_facts(url, data_dir=tmp_path) as facts:
        seen = {facts.fingerprint()}
        facts.refresh()
        assert facts.fingerprint() in seen
        for statement in (
            "INSERT INTO orders VALUES (1, 1, '2025-03-31', 10)",
            "UPDATE orders SET amount = 11",
            "UPDATE customers SET consent_email = 'no'",
            "UPDATE customers SET level = 2",
        ):
            company(url, statement)
            seen.add(facts.fingerprint())
        assert len(seen) == 5


def test_a_database_of_the_company_is_never_loaded_into(
    sqlite_url: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    company(sqlite_url, *PLAIN)
    with open_facts(sqlite_url, data_dir=tmp_path) as facts, pytest.raises(FactsError, match="which is only read"):
        load_table(facts, "orders", [tmp_path / "o.csv"], **options)


def test_what_the_engine_refuses_is_a_facts_error(empty_facts: Facts) -> None:
    with pytest.raises(FactsError, match=r"the facts engine \(duckdb\) refused a query"):
        empty_facts.frame(sa.select(sa.literal_column("1 / 'x'").label("x")))


def test_an_unknown_name_and_an_instant_without_zone_are_refused(empty_facts: Facts) -> None:
    with pytest.raises(FactsError, match="recency_dais: neither a feature"):
        feature_columns(empty_facts, AS_OF, ["recency_dais"])
    with pytest.raises(FactsError, match="has no time zone"):
        feature_columns(empty_facts, AS_OF.replace(tzinfo=None), ["orders"])
    with pytest.raises(FactsError, match="has no time zone"), empty_facts.connection() as connection:
        connection.execute(sa.select(sa.literal(datetime(2025, 1, 1), UtcInstant())))


@pytest.mark.parametrize("construct", [money_total, epoch_us, whole_division, byte_order])
def test_an_engine_without_a_rule_is_refused_when_the_statement_is_made(construct: Any) -> None:
    with pytest.raises(
        FactsError, match=f"no rule for {construct.name}; supported engines: duckdb, postgresql, sqlite"
    ):
        sa.select(construct(sa.column("x"), sa.column("y"))).compile(dialect=mysql.dialect())


def test_instants_come_back_aware_and_only_instants_do() -> None:
    kind = UtcInstant()
    dialect = mysql.dialect()
    london = datetime(2025, 7, 1, 10, tzinfo=UTC)
    assert kind.process_result_value(london.replace(tzinfo=None), dialect) == london
    assert kind.process_result_value(london.date(), dialect) == datetime(2025, 7, 1, tzinfo=UTC)
    assert kind.process_result_value(None, dialect) is None
    assert kind.process_bind_param(None, dialect) is None
    with pytest.raises(FactsError, match="expected an instant from the engine, got a str"):
        kind.process_result_value("2025-07-01", dialect)


def test_microseconds_since_1970_are_exact() -> None:
    assert to_us(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
    assert to_us(datetime(2025, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == 1_735_689_600_000_001
