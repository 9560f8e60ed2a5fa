"""deliver, status, pause, resume, suppress and explain: the operator's day."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.settings import read_settings
from flows.wiring import open_workspace
from tests.retain.conftest import CAMPAIGN, Cli
from warehouse.facts.contacts import look_up_contacts
from warehouse.ledger.accounts import News, learn

LATER, NOON = "2026-05-04", "2026-05-04T12:00:00+00:00"


@pytest.fixture
def queued(shop: Path, retain: Cli) -> Path:
    """A second run of the demonstration's campaign, whose messages wait."""
    assert retain("run", CAMPAIGN, "--as-of", LATER).code == 0
    return shop


def counts(retain: Cli) -> dict[str, int]:
    (entry,) = retain("status", CAMPAIGN, "--json").json["experiments"]
    return dict(entry["total"])


def test_deliver_sends_what_may_leave_and_status_adds_up(queued: Path, retain: Cli) -> None:
    before = counts(retain)
    limited = retain("deliver", "--now", NOON, "--limit", 3, "--json")
    assert limited.code == 0
    assert limited.err == ""
    assert limited.json["sent"] == 3
    rest = retain("deliver", "--now", NOON)
    assert rest.code == 0
    assert "sent" in rest.out
    after = counts(retain)
    assert after["sent"] > before["sent"] + 3
    assert after["planned"] == sum(after[fate] for fate in ("sent", "failed", "skipped", "in_doubt", "pending"))
    assert "deep-discount" in retain("status").out
    assert retain("status").out.startswith(f"{CAMPAIGN}:1 (running)")


def test_a_paused_channel_is_shown_with_its_reason_and_how_to_let_it_go_on(queued: Path, retain: Cli) -> None:
    scope = f"{CAMPAIGN}/sms"
    assert retain("pause", scope, "--by", "ann", "--reason", "the gateway").out == f"{scope}: paused\n"
    shown = retain("status")
    assert f"{scope} is paused by ann since" in shown.err
    assert f"the gateway; to let it go on: retain resume '{scope}'" in shown.err
    (because,) = retain("status", "--json").json["experiments"][0]["paused_because"]
    assert (because["scope"], because["by"], because["reason"]) == (scope, "ann", "the gateway")
    assert retain("deliver", "--json", "--now", "2026-03-02T10:00").json["paused"] == {scope: "the gateway"}
    assert retain("resume", scope).out == f"{scope}: goes on\n"
    assert retain("status", "--json").json["experiments"][0]["paused_because"] == []
    wrong = retain("pause", f"{CAMPAIGN}/fax")
    assert (wrong.code, "expected one of sms, email, push behind the slash" in wrong.err) == (1, True)


def test_status_names_an_account_that_rests_and_why(queued: Path, retain: Cli) -> None:
    with open_workspace(read_settings(queued)) as ws:
        news = News(worker="w", outcomes=["transient"], halt="20003: the account")
        learn(ws.ledger, "sms:local", news, now=datetime(2026, 3, 2, 10, tzinfo=UTC))
    told = "the account for sms rests: 20003: the account; its messages stay pending"
    assert told in retain("status", "--now", "2026-03-02T10:00:10").err
    assert retain("status", "--now", "2026-03-02T10:00:10", "--json").json["resting"] == {"sms": "20003: the account"}
    assert retain("status", "--now", "2026-03-02T10:01", "--json").json["resting"] == {}


def test_nothing_leaves_while_paused(queued: Path, retain: Cli) -> None:
    assert retain("pause", CAMPAIGN, "--by", "me", "--reason", "wrong price").out == f"{CAMPAIGN}: paused\n"
    assert retain("pause", CAMPAIGN).out == f"{CAMPAIGN}: was paused already\n"
    assert "(running, paused)" in retain("status").out
    assert retain("deliver", "--now", NOON, "--json").json["sent"] == 0
    assert retain("resume", CAMPAIGN).out == f"{CAMPAIGN}: goes on\n"
    assert retain("resume", CAMPAIGN).out == f"{CAMPAIGN}: was not paused\n"
    assert retain("deliver", "--now", NOON, "--json").json["sent"] > 0


def test_the_setting_says_who_paused_where_by_does_not(
    queued: Path, retain: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIN_OPERATOR", "ben")
    retain("pause", CAMPAIGN)
    assert f"{CAMPAIGN} is paused by ben since" in retain("status").err


def test_switches_speak_json(shop: Path, retain: Cli) -> None:
    assert retain("pause", "*", "--json").json == {"campaign": "*", "paused": True, "changed": True}
    assert retain("resume", "*", "--json").json == {"campaign": "*", "paused": False, "changed": True}


def one_that_may_leave(root: Path) -> str:
    """A customer whose message is due at NOON."""
    due = "SELECT min(customer_id) FROM outbox WHERE state = 'pending' AND closes_at LIKE '2026-05-04T19%'"
    with contextlib.closing(sqlite3.connect(root / "data" / "ledger.db")) as ledger:
        return str(ledger.execute(due).fetchone()[0])


def test_a_suppressed_customer_gets_nothing_and_explain_says_why(queued: Path, retain: Cli) -> None:
    customer = one_that_may_leave(queued)
    assert retain("suppress", customer, "--now", LATER, "--reason", "stop").out == f"{customer}: suppressed on all\n"
    assert "already" in retain("suppress", customer, "--now", LATER, "--reason", "stop").out
    assert retain("deliver", "--now", NOON).code == 0
    story = retain("explain", CAMPAIGN, customer, "--now", NOON)
    assert story.code == 0
    assert "skipped (suppressed)" in story.out
    assert any(event["why"] == "stop" for event in retain("explain", CAMPAIGN, customer, "--json").json["events"])


def test_an_unknown_customer_is_suppressed_with_a_warning(shop: Path, retain: Cli) -> None:
    outcome = retain("suppress", "nobody", "--channel", "sms", "--json")
    assert outcome.code == 0
    assert outcome.json == {
        "customer_id": "nobody", "channel": "sms", "topic": "all", "reason": "manual", "changed": True, "loaded": False
    }  # fmt: skip
    assert "check that the id is the right one" in outcome.err
    assert retain("suppress", "nobody", "--channel", "fax").code == 1


def test_explain_tells_of_customers_who_are_not_there(shop: Path, retain: Cli) -> None:
    outcome = retain("explain", CAMPAIGN, "nobody", "--now", LATER)
    assert outcome.code == 0
    assert "no such customer is loaded, check the id" in outcome.out
    assert len(outcome.out.splitlines()) == 1


def test_status_before_the_first_run_names_the_next_step(bare: Path, retain: Cli) -> None:
    assert retain("status").out == "nothing has been applied yet; next: retain plan CAMPAIGN\n"
    assert retain("status", "winback-90d").code == 0


def test_a_campaign_with_a_broken_template_is_held_and_the_reason_told(queued: Path, retain: Cli) -> None:
    for path in (queued / "templates").rglob("winback_*"):
        path.write_text("{{ customer.nothing_of_that_name }}", encoding="utf-8")
    outcome = retain("deliver", "--now", NOON)
    assert outcome.code == 0
    assert f"warning: {CAMPAIGN} is held: " in outcome.err
    assert "nothing_of_that_name" in outcome.err


def test_messages_that_came_too_late_are_counted_by_reason(queued: Path, retain: Cli) -> None:
    outcome = retain("deliver", "--now", "2026-09-01T12:00")
    assert outcome.code == 0
    assert "skipped because" in outcome.out
    assert counts(retain)["pending"] == 0


def test_no_address_is_printed_by_any_command(shop: Path, retain: Cli) -> None:
    said = [
        retain(*words)
        for words in (
            ("features", "C0000001", "--now", LATER),
            ("preview", CAMPAIGN, "--customer", "C0000001", "--now", LATER),
            ("explain", CAMPAIGN, "C0000001", "--now", LATER),
            ("status",),
        )
    ]
    assert all(outcome.code == 0 for outcome in said)
    with open_workspace(read_settings(shop)) as ws:
        contact = look_up_contacts(ws.facts, ["C0000001"])["C0000001"]
    addresses = [address for address in (contact.email, contact.phone, contact.push_token) if address]
    assert len(addresses) >= 2
    printed = "".join(outcome.out + outcome.err for outcome in said)
    assert [address for address in (*addresses, "@example.") if address in printed] == []
