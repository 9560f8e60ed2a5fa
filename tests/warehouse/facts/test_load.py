"""Loading: what becomes of rows that are new, changed, the same, repeated or refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.warehouse.facts.loading import Options, Write, counts, quarantined, rows
from warehouse.facts.load import load_customers_from_orders, load_table
from warehouse.facts.manifests import DataFile
from warehouse.facts.merge import _many_small
from warehouse.facts.store import Facts

# --- new, changed, the same -----------------------------------------------------------------------------------------


def test_new_rows_are_added_and_the_same_rows_again_change_nothing(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    path = write("orders.csv", "order_id,customer_id,ordered_at,amount\n1,a,2025-01-01,5\n2,a,2025-01-01,5\n")
    assert counts(load_table(empty_facts, "orders", [path], **options)) == (2, 2, 0, 0, 0)
    before = empty_facts.fingerprint()
    files = sorted((empty_facts.data_dir / "orders").iterdir())
    assert counts(load_table(empty_facts, "orders", [path], **options)) == (2, 0, 0, 2, 0)
    assert empty_facts.fingerprint() == before
    assert sorted((empty_facts.data_dir / "orders").iterdir()) == files


def test_a_changed_row_replaces_the_old_one_and_the_fingerprint_moves(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    first = write(
        "1.csv", "order_id,customer_id,ordered_at,amount,status\n1,a,2025-01-01,5,paid\n2,b,2025-01-02,7,paid\n"
    )
    load_table(empty_facts, "orders", [first], **options)
    before = empty_facts.fingerprint()
    later = write(
        "2.csv", "order_id,customer_id,ordered_at,amount,status\n2,b,2025-01-02,7,refunded\n3,b,2025-01-03,1,\n"
    )
    assert counts(load_table(empty_facts, "orders", [later], **options)) == (2, 1, 1, 0, 0)
    assert rows(empty_facts, "orders", "order_id", "status") == [("1", "paid"), ("2", "refunded"), ("3", None)]
    assert empty_facts.fingerprint() != before


def test_the_fingerprint_depends_on_the_rows_and_not_on_the_way_they_came(
    tmp_path: Path, write: Write, options: Options
) -> None:
    from warehouse.facts.store import open_facts

    head = "customer_id,country,vip\n"
    together = write("all.csv", head + "a,GB,yes\nb,IE,\nc,,no\n")
    one, two, three = (
        write("1.csv", "customer_id,country\na,XX\nc,\n"),
        write("2.csv", head + "b,IE,\nc,,no\n"),
        write("3.csv", head + "a,GB,yes\n"),
    )
    with open_facts("duckdb", data_dir=tmp_path / "x") as x, open_facts("duckdb", data_dir=tmp_path / "y") as y:
        load_table(x, "customers", [together], **options)
        for path in (one, two, three):
            load_table(y, "customers", [path], **options)
        assert rows(x, "customers", "customer_id", "country", "vip") == rows(
            y, "customers", "customer_id", "country", "vip"
        )
        assert x.fingerprint() == y.fingerprint()


def test_columns_that_a_later_file_lacks_keep_their_values_and_empty_ones_become_missing(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    load_table(
        empty_facts,
        "customers",
        [write("1.csv", "customer_id,email,country,consent_sms,vip\na,a@example.com,GB,yes,yes\n")],
        **options,
    )
    summary = load_table(
        empty_facts, "customers", [write("2.csv", "customer_id,country,consent_sms\na,,no\n")], **options
    )
    assert counts(summary) == (1, 0, 1, 0, 0)
    found = rows(empty_facts, "customers", "customer_id", "email", "country", "consent_sms", "vip")
    assert found == [("a", "a@example.com", None, False, True)]


def test_duplicate_lines_with_ids_of_their_own_are_data(empty_facts: Facts, write: Write, options: Options) -> None:
    text = "order_id,customer_id,ordered_at,amount\n" + "".join(f"{i},a,2025-01-01,9.99\n" for i in range(5))
    assert counts(load_table(empty_facts, "orders", [write("o.csv", text)], **options)) == (5, 5, 0, 0, 0)


def test_a_line_repeated_within_a_file_counts_once(empty_facts: Facts, write: Write, options: Options) -> None:
    text = "order_id,customer_id,ordered_at,amount\n" + "1,a,2025-01-01,9.99\n" * 3
    assert counts(load_table(empty_facts, "orders", [write("o.csv", text)], **options)) == (3, 1, 0, 2, 0)


def test_of_several_files_the_later_one_wins(empty_facts: Facts, write: Write, options: Options) -> None:
    head = "order_id,customer_id,ordered_at,amount,status\n"
    files = [
        write("mon.csv", head + "1,a,2025-01-01,5,open\n2,a,2025-01-01,6,open\n"),
        write("tue.csv", head + "1,a,2025-01-01,5,paid\n2,a,2025-01-01,6,open\n"),
        write("wed.csv", head.upper() + "1,a,2025-01-01,5,refunded\n"),
    ]
    assert counts(load_table(empty_facts, "orders", files, **options)) == (5, 2, 2, 1, 0)
    assert rows(empty_facts, "orders", "order_id", "status") == [("1", "refunded"), ("2", "open")]


def test_many_small_loads_are_gathered_into_few_files(empty_facts: Facts, write: Write, options: Options) -> None:
    for i in range(40):
        path = write("o.csv", f"order_id,customer_id,ordered_at,amount\n{i:03d},a,2025-01-01,{i}\n")
        load_table(empty_facts, "orders", [path], **options)
    assert [int(row[0]) for row in rows(empty_facts, "orders", "order_id")] == list(range(40))
    assert len(empty_facts.manifest.of("orders")) <= 8
    assert len(list((empty_facts.data_dir / "manifests").iterdir())) <= 20


@pytest.mark.parametrize(
    ("tiny", "gathered"),
    [(7, set()), (8, {"tiny"}), (30, {"tiny"}), (31, {"tiny", "small"})],
)
def test_tiny_files_are_gathered_soon_and_small_ones_once_there_are_many(tiny: int, gathered: set[str]) -> None:
    files = [DataFile("large/1", 1, 64 << 20, 0), DataFile("small/1", 1, 20 << 20, 0)]
    files += [DataFile(f"tiny/{n}", 1, 2_000, 0) for n in range(tiny)]
    found = _many_small(files)
    assert {path.partition("/")[0] for path in found} == gathered
    assert len(found) == sum(file.path.partition("/")[0] in gathered for file in files)


# --- refused rows ---------------------------------------------------------------------------------------------------


def test_refused_rows_are_set_aside_as_they_stood_with_reason_and_row(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    load_table(empty_facts, "customers", [write("c.csv", "customer_id\na\nb\n")], **options)
    text = (
        "order_id,customer_id,ordered_at,amount,note\n"
        "1,a,2025-01-01,5,fine\n"
        ",a,2025-01-01,5,no id\n"
        "2, ,2025-01-01,5,no customer\n"
        "3,a,01/02/2025,5,day first\n"
        "4,a,,5,no time\n"
        '5,a,2025-01-01,"5,00",comma\n'
        "6,a,2025-01-01,,no amount\n"
        "7,ghost,2025-01-01,5,stranger\n"
        "8,b,2025-01-01,5,first\n"
        "8,b,2025-01-01,6,second\n"
        "9,b,infinity,5,word\n"
    )
    path = write("o.csv", text)
    summary = load_table(empty_facts, "orders", [path], **options)
    assert counts(summary) == (11, 1, 0, 0, 10)
    assert summary.reasons == {
        "bad_amount": 2, "bad_time": 3, "duplicate_key": 2, "missing_key": 2, "unknown_customer": 1,
    }  # fmt: skip
    aside = quarantined(summary)
    assert [(line["reason"], line["row"], line["note"]) for line in aside] == [
        ("missing_key", "2", "no id"),
        ("missing_key", "3", "no customer"),
        ("bad_time", "4", "day first"),
        ("bad_time", "5", "no time"),
        ("bad_amount", "6", "comma"),
        ("bad_amount", "7", "no amount"),
        ("unknown_customer", "8", "stranger"),
        ("duplicate_key", "9", "first"),
        ("duplicate_key", "10", "second"),
        ("bad_time", "11", "word"),
    ]
    assert aside[4]["amount"] == "5,00"
    assert {line["file"] for line in aside} == {str(path)}
    assert any("repeats within a file with different content" in text for text in summary.warnings)
    assert any("columns not used: note" in text for text in summary.warnings)


def test_a_second_quarantine_file_of_the_same_instant_does_not_replace_the_first(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    path = write("o.csv", "order_id,customer_id,ordered_at,amount\n1,a,never,5\n")
    names = [load_table(empty_facts, "orders", [path], **options).quarantine_file for _ in range(3)]
    assert [name.name for name in names if name] == [
        "orders-20250401T093000Z.csv", "orders-20250401T093000Z-2.csv", "orders-20250401T093000Z-3.csv",
    ]  # fmt: skip


def test_refused_rows_of_several_files_name_their_file(empty_facts: Facts, write: Write, options: Options) -> None:
    one = write("1.csv", "order_id,customer_id,ordered_at,amount\n1,a,never,5\n")
    two = write("2.csv", "Order_ID,Customer_ID,Ordered_At,Amount\n2,a,2025-01-01,x\n")
    aside = quarantined(load_table(empty_facts, "orders", [one, two], **options))
    assert [(Path(line["file"]).name, line["reason"], line["order_id"]) for line in aside] == [
        ("1.csv", "bad_time", "1"), ("2.csv", "bad_amount", "2"),
    ]  # fmt: skip


def test_without_customers_orders_are_loaded_with_a_warning(empty_facts: Facts, write: Write, options: Options) -> None:
    summary = load_table(
        empty_facts, "orders", [write("o.csv", "order_id,customer_id,ordered_at,amount\n1,a,2025-01-01,5\n")], **options
    )
    assert counts(summary) == (1, 1, 0, 0, 0)
    assert "no customers are loaded yet" in summary.warnings[0]


def test_the_summary_as_json_is_plain(empty_facts: Facts, write: Write, options: Options) -> None:
    path = write("o.csv", "order_id,customer_id,ordered_at,amount\n1,a,never,5\n")
    found = load_table(empty_facts, "orders", [path], **options).to_json()
    assert found["reasons"] == {"bad_time": 1}
    assert found["quarantine_file"].endswith("orders-20250401T093000Z.csv")
    assert (found["table"], found["read"], found["quarantined"]) == ("orders", 1, 1)


# --- customers from orders ------------------------------------------------------------------------------------------


def test_customers_are_made_from_loaded_orders_at_their_first_order(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    load_table(empty_facts, "customers", [write("c.csv", "customer_id,country\nb,GB\n")], **options)
    text = "order_id,customer_id,ordered_at,amount\n1,b,2025-01-05,1\n2,b,2025-01-03,1\n"
    load_table(empty_facts, "orders", [write("o.csv", text)], **options)
    more = write("o2.csv", "id,who,day\n1,a,2025-02-05\n2,a,2025-02-03\n3,,2025-01-01\n4,c,soon\n5,b,2025-01-01\n")
    names = {"customer_id": "who", "ordered_at": "day"}
    summary = load_customers_from_orders(empty_facts, [more], **{**options, "renames": names})
    assert counts(summary) == (4, 1, 0, 1, 2)
    assert summary.reasons == {"bad_time": 1, "missing_key": 1}
    assert rows(empty_facts, "customers", "customer_id", "created_at", "country") == [
        ("a", datetime(2025, 2, 3, tzinfo=UTC), None), ("b", None, "GB"),
    ]  # fmt: skip
    assert counts(load_customers_from_orders(empty_facts, **options)) == (1, 0, 0, 1, 0)
