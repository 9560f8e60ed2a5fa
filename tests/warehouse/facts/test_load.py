"""Loading: what becomes of rows that are new, changed, the same, repeated or refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from warehouse.facts.errors import FactsError
from warehouse.facts.load import LoadSummary, load_customers_from_orders, load_table
from warehouse.facts.store import Facts

Write = Callable[[str, str], Path]
Options = dict[str, Any]


def rows(facts: Facts, table: str, *columns: str) -> list[tuple[Any, ...]]:
    source = getattr(facts.tables, table)
    chosen = [source.c[name] for name in columns] or list(source.c)
    with facts.connection() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*chosen).order_by(next(iter(source.c))))]


def counts(summary: LoadSummary) -> tuple[int, int, int, int, int]:
    return summary.read, summary.added, summary.updated, summary.unchanged, summary.quarantined


def quarantined(summary: LoadSummary) -> list[dict[str, str]]:
    assert summary.quarantine_file is not None
    with summary.quarantine_file.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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
    assert len(empty_facts.manifest.of("orders")) < 20
    assert len(list((empty_facts.data_dir / "manifests").iterdir())) <= 20


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


# --- values ---------------------------------------------------------------------------------------------------------


def test_consents_are_read_in_many_spellings(empty_facts: Facts, write: Write, options: Options) -> None:
    yes, no = ["yes", "Y", "TRUE", "t", "1", " Yes "], ["no", "N", "false", "F", "0"]
    spelled = [*yes, *no, "", "perhaps"]
    text = "customer_id,consent_sms\n" + "".join(f"{i:02d},{word}\n" for i, word in enumerate(spelled))
    summary = load_table(empty_facts, "customers", [write("c.csv", text)], **options)
    assert summary.quarantined == 0
    assert summary.warnings == ("consent_sms: 1 values are not understood as boolean and left missing",)
    found = [row[1] for row in rows(empty_facts, "customers", "customer_id", "consent_sms")]
    assert found == [True] * len(yes) + [False] * len(no) + [None, None]


def test_times_without_an_offset_are_read_in_the_zone_and_others_keep_theirs(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    text = (
        "event_id,customer_id,occurred_at,event\n"
        "1,a,2025-07-01 10:00,visit\n"
        "2,a,2025-01-01,visit\n"
        "3,a,2025-07-01T10:00:00Z,visit\n"
        "4,a,2025-07-01T10:00:00.250+02:00,visit\n"
        "5,a,2025-03-30 01:30:00,visit\n"  # does not exist in London: the clock jumps over it
        "6,a,2025-10-26 01:30:00,visit\n"  # happens twice in London
    )
    load_table(empty_facts, "events", [write("e.csv", text)], **{**options, "time_zone": "Europe/London"})
    found = [row[1] for row in rows(empty_facts, "events", "event_id", "occurred_at")]
    assert found == [
        datetime(2025, 7, 1, 9, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2025, 7, 1, 10, tzinfo=UTC),
        datetime(2025, 7, 1, 8, 0, 0, 250_000, tzinfo=UTC),
        datetime(2025, 3, 30, 1, 30, tzinfo=UTC),
        datetime(2025, 10, 26, 1, 30, tzinfo=UTC),
    ]


def test_amounts_keep_four_decimals_exactly(empty_facts: Facts, write: Write, options: Options) -> None:
    text = "order_id,customer_id,ordered_at,amount,margin\n1,a,2025-01-01,0.1,-0.0001\n2,a,2025-01-01, 12345678901.2345 ,\n"
    load_table(empty_facts, "orders", [write("o.csv", text)], **options)
    assert rows(empty_facts, "orders", "amount", "margin") == [
        (Decimal("0.1"), Decimal("-0.0001")), (Decimal("12345678901.2345"), None),
    ]  # fmt: skip


def test_the_files_own_column_names_can_be_mapped(empty_facts: Facts, write: Write, options: Options) -> None:
    path = write("o.csv", "Nr;Kunde;Datum;Betrag;Units\n1;a;2025-01-01;5.5;2\n")
    names = {"order_id": "nr", "customer_id": "Kunde", "ordered_at": "Datum", "amount": "Betrag"}
    load_table(empty_facts, "orders", [path], **{**options, "renames": names})
    assert rows(empty_facts, "orders", "order_id", "customer_id", "amount", "units") == [
        ("1", "a", Decimal("5.5"), 2.0)
    ]


def test_quoted_texts_may_hold_separators_quotes_and_line_breaks(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    text = '\ufeffcustomer_id,motto\r\na,"one, ""two""\r\nthree"\r\nb,"; drop"\r\n'
    load_table(empty_facts, "customers", [write("c.csv", text)], **options)
    assert rows(empty_facts, "customers", "customer_id", "motto") == [("a", 'one, "two"\r\nthree'), ("b", "; drop")]


def test_compressed_files_are_read(empty_facts: Facts, tmp_path: Path, options: Options) -> None:
    import gzip

    path = tmp_path / "c.csv.gz"
    path.write_bytes(gzip.compress(b"customer_id,country\na,GB\n"))
    load_table(empty_facts, "customers", [path], **options)
    assert rows(empty_facts, "customers", "customer_id", "country") == [("a", "GB")]


def test_parquet_files_are_read_with_their_types(empty_facts: Facts, tmp_path: Path, options: Options) -> None:
    frame = pd.DataFrame(
        {
            "order_id": [1, 2, 3],
            "customer_id": [17.0, 18.0, None],
            "ordered_at": pd.to_datetime(["2025-07-01 10:00", "2025-07-02 00:00", "2025-07-03 00:00"]),
            "amount": [1.1, 2.25, 3.0],
            "units": [1, 2, 3],
            "margin": [0.5, float("nan"), 1.0],
        }
    )
    path = tmp_path / "orders.parquet"
    frame.to_parquet(path)
    summary = load_table(empty_facts, "orders", [path], **{**options, "time_zone": "Europe/London"})
    assert summary.reasons == {"missing_key": 1}
    assert rows(empty_facts, "orders", "order_id", "customer_id", "ordered_at", "amount", "margin", "units") == [
        ("1", "17", datetime(2025, 7, 1, 9, tzinfo=UTC), Decimal("1.1"), Decimal("0.5"), 1.0),
        ("2", "18", datetime(2025, 7, 1, 23, tzinfo=UTC), Decimal("2.25"), None, 2.0),
    ]
    assert quarantined(summary)[0]["order_id"] == "3"


def test_parquet_instants_with_a_zone_and_typed_attributes_keep_their_meaning(
    empty_facts: Facts, tmp_path: Path, options: Options
) -> None:
    frame = pd.DataFrame(
        {
            "customer_id": ["a"],
            "created_at": pd.to_datetime(["2025-07-01 10:00+02:00"]),
            "birthday": [date(1990, 5, 17)],
            "consent_sms": [True],
            "consent_email": [1],
            "vip": [False],
            "points": [3],
            "joined_on": [date(2020, 1, 2)],
        }
    )
    path = tmp_path / "customers.pq"
    frame.to_parquet(path)
    load_table(empty_facts, "customers", [path], **{**options, "time_zone": "Asia/Shanghai"})
    assert empty_facts.attributes() == {"vip": "boolean", "points": "number", "joined_on": "instant"}
    names = ("created_at", "birthday", "consent_sms", "consent_email", "vip", "points", "joined_on")
    assert rows(empty_facts, "customers", *names) == [
        (
            datetime(2025, 7, 1, 8, tzinfo=UTC),
            date(1990, 5, 17),
            True,
            True,
            False,
            3.0,
            datetime(2020, 1, 1, 16, tzinfo=UTC),
        )
    ]


def test_a_parquet_column_that_is_no_time_is_refused_row_by_row(
    empty_facts: Facts, tmp_path: Path, options: Options
) -> None:
    path = tmp_path / "o.parquet"
    pd.DataFrame({"order_id": ["1"], "customer_id": ["a"], "ordered_at": [1735689600], "amount": [5]}).to_parquet(path)
    assert load_table(empty_facts, "orders", [path], **options).reasons == {"bad_time": 1}


# --- attributes -----------------------------------------------------------------------------------------------------


def test_extra_columns_of_customers_become_attributes_of_an_inferred_kind(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    text = (
        "customer_id,Loyalty Points,Post-Code,vip,joined,first_name,2nd,blank,orders,score\n"
        "a,12,01234,yes,2024-01-31,Ann,x,,5,1.5\n"
        "b,-7.5,80000,NO,2024-02-01 10:00,Bob,,,6,007\n"
    )
    summary = load_table(empty_facts, "customers", [write("c.csv", text)], **options)
    assert empty_facts.attributes() == {
        "loyalty_points": "number", "post_code": "text", "vip": "boolean", "joined": "instant", "first_name": "text",
        "_2nd": "text", "score": "text",
    }  # fmt: skip
    assert summary.warnings == (
        "columns not used: orders (their names are taken)", "columns without any value, not kept: blank",
    )  # fmt: skip
    assert rows(empty_facts, "customers", "loyalty_points", "vip", "joined") == [
        (12.0, True, datetime(2024, 1, 31, tzinfo=UTC)), (-7.5, False, datetime(2024, 2, 1, 10, tzinfo=UTC)),
    ]  # fmt: skip


def test_the_kind_of_an_attribute_stays_and_values_of_another_kind_are_missing_with_a_warning(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    load_table(empty_facts, "customers", [write("1.csv", "customer_id,points\na,12\n")], **options)
    summary = load_table(empty_facts, "customers", [write("2.csv", "customer_id,points\nb,many\nc,3\n")], **options)
    assert empty_facts.attributes() == {"points": "number"}
    assert summary.warnings == ("points: 1 values are not understood as number and left missing",)
    assert rows(empty_facts, "customers", "customer_id", "points") == [("a", 12.0), ("b", None), ("c", 3.0)]


def test_an_attribute_can_be_renamed_while_loading(empty_facts: Facts, write: Write, options: Options) -> None:
    path = write("c.csv", "customer_id,Vorname\na,Änne\n")
    load_table(empty_facts, "customers", [path], **{**options, "renames": {"first_name": "Vorname"}})
    assert rows(empty_facts, "customers", "customer_id", "first_name") == [("a", "Änne")]


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


# --- what cannot be loaded ------------------------------------------------------------------------------------------

HEAD = "order_id,customer_id,ordered_at,amount\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("few.csv", HEAD + "1,a,2025-01-01,5\n2,a,2025-01-01\n", r"few.csv:3: the line has 3 columns; expected 4"),
        ("many.csv", HEAD + "1,a,2025-01-01,5\n\n2,a,2025-01-01,5,6\n", r"many.csv:4: the line has 5 columns; expected 4"),
        ("open.csv", HEAD + '1,a,2025-01-01,5\n2,"a,2025-01-01,5\n3,a,2025-01-01,5\n', r"open.csv:3: a quote is not closed"),
        ("after.csv", HEAD + '1,"a"b,2025-01-01,5\n', r"after.csv:2: a quote is not closed, or text follows"),
        ("latin.csv", (HEAD + "1,Zoë,2025-01-01,5\n").encode("latin-1"), r"latin.csv:2: the line is not UTF-8"),
        ("head.csv", "order_id,Größe\n".encode("latin-1"), r"head.csv:1: the line is not UTF-8"),
        ("empty.csv", "", r"empty.csv:1: the file has no header"),
        ("twice.csv", "order_id,Order_ID\n", r"twice.csv:1: two columns are named Order_ID"),
        ("unnamed.csv", "order_id,,amount\n", r"unnamed.csv:1: column 2 has no name"),
        ("lacks.csv", "order_id,custmer_id,ordered_at,amount\n", r"lacks.csv:1: no column customer_id, .*--map custmer_id=customer_id"),
        ("torn.parquet", "PAR1 but not really", r"torn.parquet: not a readable Parquet file"),
        ("mixed.csv", HEAD.replace("\n", "\r\n") + "1,a,2025-01-01,5\n2,a,2025-01-01,5\r\n", r"mixed.csv:2: the line ends in another way"),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_error_with_its_line_and_changes_nothing(
    empty_facts: Facts, tmp_path: Path, options: Options, name: str, content: str | bytes, message: str
) -> None:
    good = tmp_path / "good.csv"
    good.write_text(HEAD + "9,a,2025-01-01,5\n", encoding="utf-8")
    load_table(empty_facts, "orders", [good], **options)
    before = sorted(path for path in tmp_path.rglob("*") if "data" in path.parts)
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FactsError, match=message):
        load_table(empty_facts, "orders", [path], **options)
    assert sorted(path for path in tmp_path.rglob("*") if "data" in path.parts) == before
    assert rows(empty_facts, "orders", "order_id") == [("9",)]
    assert not (tmp_path / "quarantine").exists()


def test_a_broken_second_file_leaves_the_first_one_unloaded(empty_facts: Facts, write: Write, options: Options) -> None:
    good, broken = write("1.csv", HEAD + "1,a,2025-01-01,5\n"), write("2.csv", HEAD + "1,a,2025-01-01\n")
    with pytest.raises(FactsError, match=r"2\.csv:2: the line has 3 columns"):
        load_table(empty_facts, "orders", [good, broken], **options)
    assert rows(empty_facts, "orders") == []


@pytest.mark.parametrize(
    ("table", "files", "changes", "message"),
    [
        ("orders", ["missing.csv"], {}, r"missing\.csv: file not found"),
        ("orders", [], {}, "no file to load"),
        ("order", ["o.csv"], {}, "order is not a table of the facts; expected one of customers, orders, events"),
        ("orders", ["o.csv"], {"time_zone": "Mars/Base"}, "Mars/Base: not a time zone"),
        ("orders", ["o.csv"], {"renames": {"amount": "total"}}, r"no column total; the file has order_id"),
        ("orders", ["o.csv"], {"renames": {"amount": "amont"}}, r"no column amont \(did you mean amount\?\)"),
        (
            "orders",
            ["o.csv"],
            {"renames": {"amuont": "amount"}},
            r"orders has no column amuont \(did you mean amount\?\)",
        ),
        ("orders", ["o.csv", "other.csv"], {}, r"other\.csv:1: its columns differ from those of .*o\.csv \(status\)"),
    ],
)
def test_what_cannot_be_loaded_at_all_is_said_clearly(
    empty_facts: Facts, write: Write, tmp_path: Path, options: Options, table: str, files: list[str],
    changes: dict[str, Any], message: str,
) -> None:  # fmt: skip
    write("o.csv", HEAD + "1,a,2025-01-01,5\n")
    write("other.csv", "order_id,customer_id,ordered_at,amount,status\n")
    with pytest.raises(FactsError, match=message):
        load_table(empty_facts, table, [tmp_path / name for name in files], **{**options, **changes})


def test_progress_tells_every_step(empty_facts: Facts, write: Write, options: Options) -> None:
    told: list[tuple[str, int, int]] = []
    path = write("o.csv", HEAD + "1,a,2025-01-01,5\n")
    load_table(empty_facts, "orders", [path, path], **options, progress=lambda *state: told.append(state))
    assert told == [("read o.csv", 0, 4), ("read o.csv", 1, 4), ("check", 2, 4), ("merge", 3, 4), ("done", 4, 4)]


def test_folders_and_files_may_have_names_that_look_like_patterns(tmp_path: Path, options: Options) -> None:
    from warehouse.facts.store import open_facts

    folder = tmp_path / "it's [1] *?"
    folder.mkdir()
    (folder / "1.csv").write_text(HEAD + "decoy,a,2025-01-01,5\n", encoding="utf-8")
    path = folder / "[1].csv"
    path.write_text(HEAD + "1,a,2025-01-01,5\n2,a,never,5\n", encoding="utf-8")
    with open_facts("duckdb", data_dir=folder / "data") as facts:
        summary = load_table(facts, "orders", [path], **{**options, "quarantine_dir": folder / "aside"})
        assert counts(summary) == (2, 1, 0, 0, 1)
        path.write_text(HEAD + "1,a,2025-01-01,6\n", encoding="utf-8")
        assert counts(load_table(facts, "orders", [path], **options)) == (1, 0, 1, 0, 0)
        assert rows(facts, "orders", "order_id", "amount") == [("1", Decimal(6))]


def test_a_corrected_quarantine_file_can_be_loaded_as_it_is(
    empty_facts: Facts, write: Write, tmp_path: Path, options: Options
) -> None:
    path = write("c.csv", 'customer_id,created_at,motto\na,never,"one, two"\n')
    summary = load_table(empty_facts, "customers", [path], **options)
    assert summary.quarantine_file is not None
    text = summary.quarantine_file.read_text(encoding="utf-8")
    corrected = write("corrected.csv", text.replace("never", "2025-01-01"))
    assert counts(load_table(empty_facts, "customers", [corrected], **options)) == (1, 1, 0, 0, 0)
    assert empty_facts.attributes() == {"motto": "text"}
    assert rows(empty_facts, "customers", "customer_id", "motto") == [("a", "one, two")]


def test_a_value_without_end_is_found(empty_facts: Facts, write: Write, options: Options) -> None:
    path = write("c.csv", "customer_id,motto\na,short\nb," + "x" * 3_000_000 + "\n")
    with pytest.raises(FactsError, match=r"c\.csv:3: a value runs over more than 131,072 characters"):
        load_table(empty_facts, "customers", [path], **options)


def test_what_only_the_reader_minds_is_told_in_its_words(empty_facts: Facts, write: Write, options: Options) -> None:
    lines = "customer_id," + ",".join(f"c{i}" for i in range(30)) + "\na," + ",".join(["x" * 100_000] * 30) + "\n"
    with pytest.raises(FactsError, match=r"w\.csv: cannot be read \(.*\); expected CSV in UTF-8.*Nothing was loaded"):
        load_table(empty_facts, "customers", [write("w.csv", lines)], **options)


def test_a_file_that_is_no_archive_behind_its_name_is_refused(
    empty_facts: Facts, write: Write, options: Options
) -> None:
    with pytest.raises(FactsError, match=r"c\.csv\.gz: cannot be read"):
        load_table(empty_facts, "customers", [write("c.csv.gz", "customer_id\na\n")], **options)
