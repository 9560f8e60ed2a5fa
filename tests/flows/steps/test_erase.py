"""Erasure and export: nothing of the customer is left anywhere, the counts stay, and the address stays out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from flows.steps.deliver_messages import deliver_messages
from flows.steps.erase_customer import erase_customer
from flows.steps.export_customer import export_customer
from flows.steps.load_facts import load_facts
from flows.steps.measure_experiment import measure_experiment
from flows.steps.plan_campaign import plan_campaign
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from warehouse.facts.contacts import customer_rows
from warehouse.facts.erase import erase_from_facts
from warehouse.ledger.audit import audit_log
from warehouse.ledger.counts import counts

from .conftest import open_shop

WHO = "C0003"
CANARIES = (b"c3@example.com", b"+442079460003", WHO.encode())
DAY = timedelta(days=1)
Shop = Callable[..., Workspace]


def lived(shop: Shop, monday: datetime) -> Workspace:
    """A shop whose campaign has run: first messages sent, reminders waiting, a plan stored, refused rows set aside."""
    ws = shop(customers=60)
    refused = ws.root / "refused.csv"
    refused.write_text(
        "customer_id,created_at,email\nC0003,never,c3@example.com\nC0004,never,c4@example.com\n", "utf-8"
    )
    load_facts(ws, "customers", [refused], renames={}, now=monday)
    events = ws.root / "events.csv"
    text = "event_id,customer_id,occurred_at,event,properties\nE1,C0003,2026-02-01,visit,c3@example.com\n"
    events.write_text(text, encoding="utf-8")
    load_facts(ws, "events", [events], renames={}, now=monday)
    plan_campaign(ws, "back", as_of=monday).write(ws.root / ".retain" / "plans" / "back")
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    for path in (*ws.root.glob("*.csv"),):
        path.unlink()  # the company's own files are the company's to delete
    return ws


def found(root: Path) -> list[str]:
    """Files below a folder that hold anything of the customer, Parquet read as rows."""
    import duckdb

    hits = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data = str(duckdb.sql(f"SELECT * FROM '{path}'").fetchall()).encode()
        hits += [f"{path.relative_to(root)}: {canary!r}" for canary in CANARIES if canary in data]
    return hits


def numbers_in(measured: object) -> list[float]:
    """Every number of a measurement, sorted."""
    return sorted(map(float, re.findall(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e-?\d+)?", str(measured))))


def test_after_an_erasure_no_file_of_the_workspace_holds_anything_of_the_customer(shop: Shop, monday: datetime) -> None:
    ws = lived(shop, monday)
    assert len({hit.split("/")[0] for hit in found(ws.root)}) >= 3
    done = erase_customer(ws, WHO, by="ann", at=monday + DAY)
    assert done.known
    assert done.facts is not None
    assert (done.facts.customers, done.facts.orders, done.facts.events) == (1, 2, 1)
    assert found(ws.root) == []
    assert customer_rows(ws.facts, WHO) == {"customers": [], "orders": [], "events": []}


def test_an_erasure_leaves_every_count_and_every_measured_number_as_it_was(shop: Shop, monday: datetime) -> None:
    ws = lived(shop, monday)
    bought = ws.root / "bought.csv"
    bought.write_text(
        f"order_id,customer_id,ordered_at,amount\nN1,{WHO},2026-03-05,31\nN2,C0004,2026-03-05,17\n", "utf-8"
    )
    load_facts(ws, "orders", [bought], renames={}, now=monday + 4 * DAY)
    ripe = monday + 40 * DAY

    def measured() -> tuple[object, object]:
        with ws.ledger.read() as tx:
            planned = {arm: n["planned"] for arm, n in counts(tx, "back:1").by_arm.items()}
        return planned, measure_experiment(ws, "back", now=ripe)

    before = measured()
    erase_customer(ws, WHO, by="ann", at=ripe)
    after = measured()
    assert after[0] == before[0]
    # the pseudonym sorts elsewhere: the same numbers, summed in another order
    assert numbers_in(after[1]) == pytest.approx(numbers_in(before[1]))


def test_an_erased_customer_who_comes_back_with_an_import_stays_out(shop: Shop, monday: datetime) -> None:
    ws = lived(shop, monday)
    erase_customer(ws, WHO, by="ann", at=monday + DAY)
    again = ws.root / "again.csv"
    again.write_text(
        "customer_id,created_at,email,phone,consent_email,consent_sms,time_zone\n"
        f"{WHO},2024-01-01,other@example.com,+447700900001,yes,yes,Europe/London\n"
        "C0900,2024-01-01,C3@example.com,+44 20 7946 0003,yes,yes,Europe/London\n",
        encoding="utf-8",
    )
    load_facts(ws, "customers", [again], renames={}, now=monday + DAY)
    orders = ws.root / "more.csv"
    lines = [f"{who}-{n},{who},2025-1{n}-01,20" for who in (WHO, "C0900") for n in range(2)]
    orders.write_text("\n".join(["order_id,customer_id,ordered_at,amount", *lines]) + "\n", encoding="utf-8")
    load_facts(ws, "orders", [orders], renames={}, now=monday + DAY)
    reasons = plan_campaign(ws, "back", as_of=monday + DAY).plan.reasons.set_index("customer_id")["reason"]
    assert (reasons[WHO], reasons["C0900"]) == ("erased", "suppressed_address")


def test_messages_that_wait_are_skipped_and_none_leaves_after_an_erasure(shop: Shop, monday: datetime) -> None:
    ws = lived(shop, monday)
    with ws.ledger.read() as tx:
        waiting = tx.execute(sa.text("SELECT customer_id FROM outbox WHERE state = 'pending' LIMIT 1")).scalar_one()
    done = erase_customer(ws, waiting, by="ann", at=monday + DAY)
    assert done.ledger.skipped == 1
    deliver_messages(ws, now=monday + 3 * DAY, worker="test")
    with ws.ledger.read() as tx:
        query = sa.text("SELECT state, reason FROM outbox WHERE customer_id = :who AND step = 2")
        assert [tuple(row) for row in tx.execute(query, {"who": done.pseudonym})] == [("skipped", "erased")]


def test_an_erasure_may_be_repeated_and_is_in_the_log_without_the_id(shop: Shop, monday: datetime) -> None:
    ws = lived(shop, monday)
    first = erase_customer(ws, WHO, by="ann", at=monday + DAY)
    again = erase_customer(ws, WHO, by="ben", at=monday + DAY)
    assert (again.known, again.ledger.was_erased, again.facts is not None and again.facts.customers) == (False, True, 0)
    with ws.ledger.read() as tx:
        lines = audit_log(tx)
    assert [(line.actor, line.action) for line in lines[:2]] == [("ben", "erase"), ("ann", "erase")]
    assert lines[1].subject == first.pseudonym
    assert all(WHO not in f"{line.subject}{line.detail}" for line in lines)


def test_a_killed_erasure_is_finished_by_the_next(
    shop: Shop, monday: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = lived(shop, monday)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("flows.steps.erase_customer.erase_from_facts", die)
        with pytest.raises(KeyboardInterrupt):
            erase_customer(ws, WHO, by="ann", at=monday + DAY)
    erase_customer(ws, WHO, by="ann", at=monday + DAY)
    assert [hit for hit in found(ws.root) if not hit.startswith("outbox/")] == []


def test_a_load_and_an_erasure_at_once_lose_nothing(
    shop: Shop, monday: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = lived(shop, monday)
    from warehouse.facts import erase
    from warehouse.facts.manifests import publish

    calls: list[int] = []

    def publish_late(data_dir: Path, manifest: object) -> None:
        if not calls:
            calls.append(1)
            path = ws.root / "between.csv"
            path.write_text("customer_id,created_at\nC0777,2024-01-01\n", encoding="utf-8")
            load_facts(ws, "customers", [path], renames={}, now=monday)
        publish(data_dir, manifest)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(erase, "publish", publish_late)
    assert erase_from_facts(ws.facts, WHO, "erased-x").customers == 1
    assert len(customer_rows(ws.facts, "C0777")["customers"]) == 1
    assert customer_rows(ws.facts, WHO)["customers"] == []


def test_a_warehouse_that_is_only_read_is_told_what_to_delete_and_keeps_the_customer_out(
    shop: Shop, monday: datetime, tmp_path: Path
) -> None:
    source = shop()
    database = tmp_path / "company.db"
    engine = sa.create_engine(f"sqlite:///{database}")
    for table in ("customers", "orders", "events"):
        selected = getattr(source.facts.tables, table)
        frame = source.facts.frame(sa.select(*selected.c))
        frame.to_sql({"customers": "people"}.get(table, table), engine, index=False)
    engine.dispose()
    from contextlib import ExitStack

    with ExitStack() as stack:
        facts = {"customers": {"table": "people", "columns": {}}}
        ws = open_shop(stack, source.root, facts_url=f"sqlite:///{database}", facts=facts)
        done = erase_customer(ws, WHO, by="ann", at=monday)
        assert done.facts is None
        assert done.by_hand[0] == f"DELETE FROM people WHERE customer_id = '{WHO}';"
        reasons = plan_campaign(ws, "back", as_of=monday).plan.reasons.set_index("customer_id")["reason"]
        assert reasons[WHO] == "erased"


def test_an_export_holds_all_that_is_known_and_is_audited(shop: Shop, monday: datetime) -> None:
    ws = lived(shop, monday)
    told = export_customer(ws, WHO, by="ann", at=monday + DAY)
    json.dumps(told, allow_nan=False)
    assert told["facts"]["customers"][0]["email"] == "c3@example.com"
    assert (len(told["facts"]["orders"]), len(told["facts"]["events"])) == (2, 1)
    assert told["features"]["orders"] == 2
    assert [row["experiment_id"] for row in told["ledger"]["assignments"]] == ["back:1"]
    assert {"outbox", "message_events", "suppressions", "consents", "exits", "audit"} <= set(told["ledger"])
    assert told["ledger"]["audit"][-1]["action"] == "export"
    with ws.ledger.read() as tx:
        assert [(line.actor, line.action) for line in audit_log(tx, subject=WHO)] == [("ann", "export")]
