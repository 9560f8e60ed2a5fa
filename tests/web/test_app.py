"""The analyst's pages: a list and a report for each experiment, on this machine only, and nothing that acts."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from flows.settings import Settings, SettingsError, read_settings
from flows.steps.decide_experiment import decide_experiment
from flows.steps.deliver_messages import deliver_messages
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace, open_workspace
from web.app import create_app, index_html, serve

MONDAY, TUESDAY, RIPE = "2026-03-02T09:00", "2026-03-03T12:00", "2026-04-20T09:00"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A workspace with one experiment that was measured and decided, and one that only began."""
    root = tmp_path_factory.mktemp("pages") / "shop"
    make_workspace(root)
    people = ["customer_id,created_at,email,phone,consent_email,consent_sms,time_zone"]
    orders = ["order_id,customer_id,ordered_at,amount"]
    for n in range(80):
        people.append(f"C{n:02d},2024-01-01,c{n}@example.com,+4420794600{n:02d},true,true,Europe/London")
        orders += [f"{n}a,C{n:02d},2025-06-01,20", f"{n}b,C{n:02d},2025-11-22,30"]
    (root / "customers.csv").write_text("\n".join(people) + "\n", encoding="utf-8")
    (root / "orders.csv").write_text("\n".join(orders) + "\n", encoding="utf-8")
    read = read_settings(root)
    with open_workspace(read) as ws:
        for table in ("customers", "orders"):
            load_facts(ws, table, [root / f"{table}.csv"], renames={}, now=at(MONDAY))
        run_campaign(ws, "winback-90d", as_of=at(MONDAY))
        deliver_messages(ws, now=at(TUESDAY), worker="test")
        decide_experiment(ws, "winback-90d", now=at(RIPE))
        begin_another(ws)
    return read


def begin_another(ws: Workspace) -> None:
    """A second campaign for the same customers, planned an hour later and never measured."""
    book = ws.root / "campaigns" / "book"
    text = (book / "winback-90d.yaml").read_text(encoding="utf-8")
    text = text.replace("campaign: winback-90d", "campaign: again").replace("exclusive: winback", "exclusive: other")
    (book / "again.yaml").write_text(text.replace("caps: ", "caps: {} #"), encoding="utf-8")
    run_campaign(ws, "again", as_of=at("2026-03-02T10:00"))


@pytest.fixture
def browser(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def test_the_list_shows_every_experiment_with_a_link_to_its_report(browser: TestClient) -> None:
    page = browser.get("/")
    assert page.status_code == 200
    assert page.text.index('href="/experiments/again%3A1"') < page.text.index('href="/experiments/winback-90d%3A1"')
    for said in ("Northwind Coffee", "2026-03-02 09:00 UTC", "Not decided yet"):
        assert said in page.text


def test_a_report_shows_what_was_measured_and_decided_last(browser: TestClient, settings: Settings) -> None:
    page = browser.get("/experiments/winback-90d:1")
    assert page.status_code == 200
    assert "<title>winback-90d: " in page.text
    assert "Bring back customers who went quiet for 90 days" in page.text
    assert "sms: winback_ten_percent" in page.text
    assert "2026-04-20 09:00 UTC" in page.text
    assert page.text == browser.get("/experiments/winback-90d%3A1").text


def test_an_experiment_that_was_never_measured_has_a_page_too(browser: TestClient) -> None:
    page = browser.get("/experiments/again:1")
    assert page.status_code == 200
    assert "Nothing has been measured yet" in page.text
    assert "Not decided yet" in page.text


def test_looking_changes_nothing(browser: TestClient, settings: Settings) -> None:
    def ledger_rows() -> str:
        with closing(sqlite3.connect(settings.root / "data" / "ledger.db")) as ledger:
            return "\n".join(ledger.iterdump())

    before = ledger_rows()
    browser.get("/")
    browser.get("/experiments/winback-90d:1")
    browser.get("/experiments/again:1")
    assert ledger_rows() == before


def test_an_experiment_outlives_its_campaigns_file(settings: Settings, browser: TestClient) -> None:
    path = settings.root / "campaigns" / "book" / "again.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("horizon: 30 days", "horizon: 20 days"), encoding="utf-8")
    assert "Bring back customers" in browser.get("/experiments/again:1").text
    path.unlink()
    page = browser.get("/experiments/again:1")
    path.write_text(text, encoding="utf-8")
    assert page.status_code == 200
    assert "Bring back customers" not in page.text


@pytest.mark.parametrize("path", ["/", "/experiments/winback-90d:1", "/experiments/none", "/nowhere"])
def test_every_answer_forbids_all_but_its_own_style(path: str, browser: TestClient) -> None:
    page = browser.get(path)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text
    assert "@example.com" not in page.text
    assert "+44207946" not in page.text


def test_the_style_of_a_page_is_the_one_that_its_policy_allows(browser: TestClient) -> None:
    for path in ("/", "/experiments/winback-90d:1", "/nowhere"):
        page = browser.get(path)
        style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/experiments/none", "/experiments/..%2f..%2fetc%2fpasswd", "/nowhere", "/docs"])
def test_what_is_not_there_is_said_kindly(path: str, browser: TestClient) -> None:
    page = browser.get(path)
    assert page.status_code == 404
    assert "There is no such page" in page.text


def test_nothing_can_be_sent_to_these_pages(browser: TestClient) -> None:
    assert browser.post("/").status_code == 405
    assert browser.delete("/experiments/winback-90d:1").status_code == 405


def test_another_name_for_this_machine_is_refused(browser: TestClient) -> None:
    """A page of somebody else whose name leads here must not read these."""
    assert browser.get("/", headers={"host": "evil.example"}).status_code == 400


def test_names_are_text_and_nothing_else() -> None:
    entry = {
        "experiment": "<b>x</b>:1",
        "status": "<i>",
        "started_at": "2026-03-02T09:00:00+00:00",
        "assigned": 1,
        "messages": {"sent": 0},
        "measured_at": None,
        "verdict": "promote",
        "arm": "<u>a</u>",
    }
    page = index_html([entry], company="A & B")
    assert "<b>" not in page
    assert "Promote &lt;u&gt;a&lt;/u&gt;" in page
    assert "A &amp; B" in page


def test_before_the_first_run_the_list_names_the_next_step(tmp_path: Path) -> None:
    make_workspace(tmp_path / "new")
    with TestClient(create_app(read_settings(tmp_path / "new")), base_url="http://localhost") as client:
        assert "retain plan CAMPAIGN" in client.get("/").text


def test_it_listens_on_this_machine_only_and_tells_where(settings: Settings) -> None:
    """`ready` comes when the socket listens; ending there ends the server before its first answer."""
    told: list[str] = []

    def ready(address: str) -> None:
        told.append(address)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(settings, port=0, ready=ready)
    assert told[0].startswith("http://127.0.0.1:")
    with pytest.raises(httpx.ConnectError):
        httpx.get(told[0])


def test_a_taken_port_is_refused(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SettingsError, match="choose another one with --port"):
            serve(settings, port=other.getsockname()[1], ready=print)
