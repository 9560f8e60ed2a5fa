"""Loads appear all at once, whoever reads, loads or dies at the same time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from warehouse.facts.errors import FactsError
from warehouse.facts.load import load_table
from warehouse.facts.manifests import KEPT, latest_manifest
from warehouse.facts.store import Facts, open_facts

Write = Callable[[str, str], Path]
HEAD = "order_id,customer_id,ordered_at,amount\n"


def order_ids(facts: Facts) -> list[str]:
    orders = facts.tables.orders
    return facts.frame(sa.select(orders.c.order_id).order_by(orders.c.order_id))["order_id"].tolist()


def orders_file(write: Write, *ids: str) -> Path:
    return write(f"{ids[0]}.csv", HEAD + "".join(f"{i},a,2025-01-01,1\n" for i in ids))


def test_a_load_that_loses_a_race_starts_over_and_both_are_there(
    empty_facts: Facts, write: Write, options: dict[str, Any]
) -> None:
    raced: list[str] = []

    def race(step: str, done: int, total: int) -> None:
        if step == "merge" and not raced:
            raced.append(step)
            with open_facts("duckdb", data_dir=empty_facts.data_dir) as rival:
                load_table(rival, "orders", [orders_file(write, "x", "y")], **options)

    summary = load_table(empty_facts, "orders", [orders_file(write, "y", "z")], **options, progress=race)
    assert (summary.added, summary.unchanged) == (1, 1)
    assert order_ids(empty_facts) == ["x", "y", "z"]


def test_a_load_that_always_loses_says_so_and_leaves_nothing(
    empty_facts: Facts, write: Write, options: dict[str, Any]
) -> None:
    rounds: list[int] = []

    def race(step: str, done: int, total: int) -> None:
        if step == "merge":
            rounds.append(len(rounds))
            with open_facts("duckdb", data_dir=empty_facts.data_dir) as rival:
                load_table(rival, "orders", [orders_file(write, f"rival{len(rounds)}")], **options)

    with pytest.raises(FactsError, match="other loads were published 5 times"):
        load_table(empty_facts, "orders", [orders_file(write, "mine")], **options, progress=race)
    empty_facts.refresh()
    assert order_ids(empty_facts) == [f"rival{i}" for i in range(1, 6)]
    assert len(list((empty_facts.data_dir / "orders").iterdir())) == 5
    assert list((empty_facts.data_dir / ".loading").iterdir()) == []


def test_a_reader_keeps_what_it_opened_until_it_refreshes(
    empty_facts: Facts, write: Write, options: dict[str, Any]
) -> None:
    load_table(empty_facts, "orders", [orders_file(write, "1")], **options)
    with open_facts("duckdb", data_dir=empty_facts.data_dir) as reader:
        before = reader.fingerprint()
        load_table(empty_facts, "orders", [orders_file(write, "2")], **options)
        assert order_ids(reader) == ["1"]
        assert reader.fingerprint() == before
        reader.refresh()
        assert order_ids(reader) == ["1", "2"]
        assert reader.fingerprint() == empty_facts.fingerprint()


def test_readers_never_see_half_a_load(empty_facts: Facts, write: Write, options: dict[str, Any]) -> None:
    """Every load adds three rows and changes one; a reader always sees whole loads."""
    stop = threading.Event()
    seen: list[tuple[int, float]] = []
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                with open_facts("duckdb", data_dir=empty_facts.data_dir) as reader:
                    orders = reader.tables.orders
                    totals = sa.select(sa.func.count().label("n"), sa.func.sum(orders.c.amount).label("total"))
                    row = reader.frame(totals.select_from(orders)).iloc[0]
                    seen.append((int(row["n"]), float(row["total"]) if row["n"] else 0.0))
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(1, 9):
        text = HEAD + "".join(f"{i}-{j},a,2025-01-01,10\n" for j in range(3)) + f"0,a,2025-01-01,{i * 1000}\n"
        load_table(empty_facts, "orders", [write("o.csv", text)], **options)
        begun = len(seen)
        while len(seen) < begun + 3 and not failures:  # each load is seen by a reader that opened after it
            threads[0].join(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(set(seen)) >= 8
    assert set(seen) <= {(0, 0.0)} | {(3 * i + 1, 30.0 * i + 1000 * i) for i in range(1, 9)}


def test_a_killed_load_changes_nothing_and_the_next_one_clears_up(
    empty_facts: Facts, write: Write, tmp_path: Path, options: dict[str, Any]
) -> None:
    load_table(empty_facts, "orders", [orders_file(write, "1")], **options)
    before = empty_facts.fingerprint()
    program = f"""
        import os, signal
        from datetime import UTC, datetime
        from pathlib import Path
        from warehouse.facts import load, manifests
        from warehouse.facts.store import open_facts
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        load.publish = die
        load.load_table(open_facts("duckdb", data_dir=Path({str(empty_facts.data_dir)!r})), "orders",
            [Path({str(orders_file(write, "2"))!r})], renames={{}}, time_zone="UTC",
            quarantine_dir=Path({str(tmp_path)!r}), now=datetime(2025, 1, 1, tzinfo=UTC))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((empty_facts.data_dir / "orders").iterdir())) == 2
    empty_facts.refresh()
    assert empty_facts.fingerprint() == before
    load_table(empty_facts, "orders", [orders_file(write, "3")], **options)
    assert order_ids(empty_facts) == ["1", "3"]
    assert len(list((empty_facts.data_dir / "orders").iterdir())) == 2
    assert list((empty_facts.data_dir / ".loading").iterdir()) == []


def test_clearing_up_leaves_a_load_alone_that_is_still_at_work(
    empty_facts: Facts, write: Write, options: dict[str, Any]
) -> None:
    def meanwhile(step: str, done: int, total: int) -> None:
        if step == "check":
            with open_facts("duckdb", data_dir=empty_facts.data_dir) as other:
                load_table(other, "events", [write("e.csv", "event_id,customer_id,occurred_at,event\n")], **options)

    summary = load_table(empty_facts, "orders", [orders_file(write, "1")], **options, progress=meanwhile)
    assert summary.added == 1


def test_old_states_and_the_files_that_only_they_name_are_removed(
    empty_facts: Facts, write: Write, options: dict[str, Any]
) -> None:
    for i in range(KEPT + 5):
        text = HEAD + f"1,a,2025-01-01,{i}\n"
        load_table(empty_facts, "orders", [write("o.csv", text)], **options)
    assert len(list((empty_facts.data_dir / "manifests").glob("*.json"))) == KEPT
    assert len(list((empty_facts.data_dir / "orders").iterdir())) == KEPT
    assert latest_manifest(empty_facts.data_dir).version == KEPT + 5


def test_a_file_system_without_hard_links_is_refused_and_nothing_is_changed(
    empty_facts: Facts, write: Write, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(FactsError, match=r"cannot be published .*hard links"):
        load_table(empty_facts, "orders", [orders_file(write, "1")], **options)
    assert order_ids(empty_facts) == []
    assert list((empty_facts.data_dir / "manifests").iterdir()) == []
    assert list((empty_facts.data_dir / "orders").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99, "version": 1, "tables": {}, "attributes": {}}'])
def test_a_manifest_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data" / "manifests" / "00000001.json"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FactsError, match=r"00000001\.json: the manifest of the facts cannot be read"):
        open_facts("duckdb", data_dir=tmp_path / "data")


def test_a_vanished_file_is_an_error_that_says_what_to_do(
    empty_facts: Facts, write: Write, options: dict[str, Any]
) -> None:
    load_table(empty_facts, "orders", [orders_file(write, "1")], **options)
    for path in (empty_facts.data_dir / "orders").iterdir():
        path.unlink()
    with pytest.raises(FactsError, match="refused a query"):
        order_ids(empty_facts)
