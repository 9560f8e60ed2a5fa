"""Loading: how values, types and attributes are read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd

from tests.warehouse.facts.loading import Options, Write, quarantined, rows
from warehouse.facts.load import load_table
from warehouse.facts.store import Facts

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
