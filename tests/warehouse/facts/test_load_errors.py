"""Loading: what cannot be loaded at all, and files that come by odd names."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.warehouse.facts.loading import Options, Write, counts, rows
from warehouse.facts.errors import FactsError
from warehouse.facts.load import load_table
from warehouse.facts.store import Facts

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
