"""Consent, opt-outs and addresses that stay out: when planning, when dispatching, and after an import."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from channels.message import Address
from channels.receipts import Inbound, Receipt
from flows.steps.deliver_messages import deliver_messages
from flows.steps.import_consents import import_consents, record_consent
from flows.steps.load_facts import load_facts
from flows.steps.plan_campaign import plan_campaign
from flows.steps.receive_receipts import receive_inbound, receive_receipts
from flows.steps.run_campaign import run_campaign
from flows.steps.suppress_customer import import_suppressions, release_customer, suppress_customer
from flows.steps.unsubscribe import Link, offered_topics, set_preferences, stopped_channels, unsubscribe
from flows.wiring import Workspace
from warehouse.facts.errors import FactsError
from warehouse.ledger.audit import audit_log
from warehouse.ledger.consents import Statement, consents_of
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.history import customer_history
from warehouse.ledger.suppressions import suppress

from .conftest import CAMPAIGN, open_shop, write_book

HOUR = timedelta(hours=1)
Shop = Callable[..., Workspace]


def reason_of(ws: Workspace, customer: str, at: datetime) -> str | None:
    """Why a plan leaves the customer out, None where it does not."""
    reasons = plan_campaign(ws, "back", as_of=at).plan.reasons.set_index("customer_id")["reason"]
    return str(reasons[customer]) if customer in reasons.index else None


def load_customers(ws: Workspace, text: str, at: datetime) -> None:
    """Load customers from CSV text."""
    path = ws.root / "more.csv"
    path.write_text(text, encoding="utf-8")
    load_facts(ws, "customers", [path], renames={}, now=at)


def fates(ws: Workspace, customer: str) -> list[tuple[str, str | None]]:
    """State and reason of a customer's messages."""
    with ws.ledger.read() as tx:
        return [(m["state"], m["reason"]) for m in customer_history(tx, customer).messages]


def stop(number: str, message: str = "SM1", wish: str = "stop") -> Inbound:
    """An inbound SMS."""
    return Inbound(Address("sms", number), wish, f"twilio:{message}:inbound")  # type: ignore[arg-type]  # a wish


def test_a_stop_from_a_number_nobody_has_holds_for_whoever_gets_it(shop: Shop, monday: datetime) -> None:
    ws = shop()
    assert receive_inbound(ws, stop("+447700900999"), now=monday).customers == 0
    load_customers(ws, "customer_id,phone,country\nC0005,07700 900999,GB\n", monday)
    assert reason_of(ws, "C0005", monday) == "suppressed_address"
    assert reason_of(ws, "C0006", monday) is None
    receive_inbound(ws, stop("+447700900999", "SM2", "start"), now=monday)
    assert reason_of(ws, "C0005", monday) is None


def test_a_stop_that_comes_again_after_a_start_changes_nothing(shop: Shop, monday: datetime) -> None:
    ws = shop()
    receive_inbound(ws, stop("+447700900999"), now=monday)
    receive_inbound(ws, stop("+447700900999", "SM2", "start"), now=monday)
    receive_inbound(ws, stop("+447700900999"), now=monday)
    load_customers(ws, "customer_id,phone\nC0005,+447700900999\n", monday)
    assert reason_of(ws, "C0005", monday) is None


def test_start_releases_only_what_stop_did(shop: Shop, monday: datetime) -> None:
    ws = shop()
    suppress_customer(ws, "C0007", channel="sms", reason="complaint", by="desk", at=monday)
    receive_inbound(ws, stop("+442079460007"), now=monday)
    receive_inbound(ws, stop("+442079460007", "SM2", "start"), now=monday)
    assert reason_of(ws, "C0007", monday) == "suppressed"


def test_a_bounce_keeps_the_address_out_for_every_other_customer_too(shop: Shop, monday: datetime) -> None:
    ws = shop()
    bounce = Receipt(
        "sendgrid",
        "email",
        "bounce",
        "E1",
        "failed",
        None,
        suppress="bounce",
        address=Address("email", "C3@Example.com"),
    )
    assert receive_receipts(ws, [bounce], now=monday).unknown == 1
    assert reason_of(ws, "C0003", monday) == "suppressed_address"


def test_a_suppressed_address_is_found_at_dispatch(shop: Shop, monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    with ws.ledger.read() as tx:
        texted = next(
            c for c in (f"C{n:04d}" for n in range(60)) if [m["step"] for m in customer_history(tx, c).messages] == [1]
        )
    load_customers(ws, f"customer_id,phone\n{texted},+447700900999\n", monday)
    receive_inbound(ws, stop("+447700900999"), now=monday)
    load_customers(ws, f"customer_id,phone\n{texted},+447700900111\n", monday)
    with ws.ledger.begin() as tx:  # leave only the address's suppression
        tx.exec_driver_sql(
            f"UPDATE suppressions SET released_at = at, release_source = 'test' WHERE customer_id = '{texted}'"
        )
    load_customers(ws, f"customer_id,phone\n{texted},+44 7700 900999\n", monday)
    assert deliver_messages(ws, now=monday, worker="test").skipped["suppressed_address"] == 1
    assert fates(ws, texted) == [("skipped", "suppressed_address")]


def test_customers_who_share_an_address_take_part_once(shop: Shop, monday: datetime) -> None:
    ws = shop()
    load_customers(ws, "customer_id,phone\nC0009,+442079460007\nC0011, +442079460007\n", monday)
    assert [reason_of(ws, c, monday) for c in ("C0007", "C0009", "C0011")] == [None, "shared_address", "shared_address"]
    run_campaign(ws, "back", as_of=monday)
    assert reason_of(ws, "C0009", monday + HOUR) == "shared_address"


def test_an_opt_out_of_one_topic_leaves_the_other_campaigns_alone(shop: Shop, monday: datetime) -> None:
    ws = shop(campaign=CAMPAIGN.replace("status: active\n", "status: active\ntopic: offers\n"))
    suppress_customer(ws, "C0001", channel="all", topic="offers", reason="manual", by="desk", at=monday)
    suppress_customer(ws, "C0002", channel="all", topic="news", reason="manual", by="desk", at=monday)
    assert reason_of(ws, "C0001", monday) == "suppressed"
    assert reason_of(ws, "C0002", monday) is None
    assert release_customer(ws, "C0001", channel="all", topic="offers", by="desk", at=monday) == 3
    assert reason_of(ws, "C0001", monday) is None
    assert release_customer(ws, "C0001", channel="all", topic="offers", by="desk", at=monday) == 0


def test_an_opt_out_of_the_topic_after_the_plan_stops_what_waits(shop: Shop, monday: datetime) -> None:
    ws = shop(campaign=CAMPAIGN.replace("status: active\n", "status: active\ntopic: offers\n"))
    run_campaign(ws, "back", as_of=monday)
    write_book(ws.root, CAMPAIGN)  # the file's topic may change; what was promised as offers stays offers
    ws.__dict__.pop("usable_book", None)
    for n in range(60):
        suppress(ws.ledger, f"C{n:04d}", "all", "unsubscribe", "page", monday)
    with ws.ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE suppressions SET released_at = at, release_source = 'test'")
    for n in range(60):
        record_consent(ws, Statement(f"C{n:04d}", "all", False, monday, "form", topic="offers"), by="desk")
    delivered = deliver_messages(ws, now=monday, worker="test")
    assert delivered.sent == 0
    states = {fate for n in range(60) for fate in fates(ws, f"C{n:04d}") if fate[0] != "pending"}
    assert states == {("skipped", "suppressed")}


def test_a_grant_counts_where_the_facts_say_nothing_and_not_where_they_say_no(shop: Shop, monday: datetime) -> None:
    ws = shop()
    load_customers(ws, "customer_id,consent_sms,consent_email\nC0001,,\nC0002,no,no\n", monday)
    load_customers(ws, "customer_id,email,phone\nC0100,new@example.com,+447700900100\n", monday)
    assert [reason_of(ws, c, monday) for c in ("C0001", "C0002")] == ["no_consent", "no_consent"]
    for customer in ("C0001", "C0002"):
        record_consent(ws, Statement(customer, "all", True, monday, "form", "v2"), by="desk")
    assert [reason_of(ws, c, monday) for c in ("C0001", "C0002")] == [None, "no_consent"]
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    assert fates(ws, "C0001") == [("sent", None), ("pending", None)]


def test_of_two_statements_the_newest_counts_in_whatever_order_they_come(shop: Shop, monday: datetime) -> None:
    ws = shop()
    record_consent(ws, Statement("C0001", "sms", True, monday, "form"), by="desk")
    record_consent(ws, Statement("C0001", "sms", False, monday - HOUR, "old form"), by="desk")
    assert reason_of(ws, "C0001", monday) is None
    record_consent(ws, Statement("C0001", "sms", False, monday + HOUR, "form"), by="desk")
    assert reason_of(ws, "C0001", monday + HOUR) == "suppressed"
    assert not record_consent(ws, Statement("C0001", "sms", False, monday + HOUR, "form"), by="desk")
    record_consent(ws, Statement("C0001", "sms", True, monday + 2 * HOUR, "form"), by="desk")
    assert reason_of(ws, "C0001", monday + 2 * HOUR) is None


def test_an_import_of_consents_counts_sets_bad_rows_aside_and_may_be_repeated(
    shop: Shop, monday: datetime, tmp_path: Path
) -> None:
    ws = shop()
    path = tmp_path / "consents.csv"
    path.write_text(
        "id,channel,topic,given,at,wording\n"
        "C0001,sms,,no,2026-02-01,v1\n"
        "C0002,email,news,yes,2026-02-01T10:00:00+01:00,v1\n"
        ",sms,,yes,2026-02-01,v1\n"
        "C0003,fax,,yes,2026-02-01,v1\n"
        "C0003,sms,No News!,yes,2026-02-01,v1\n"
        "C0003,sms,,perhaps,2026-02-01,v1\n"
        "C0003,sms,,yes,yesterday,v1\n"
        "C0003,sms,,yes,2027-01-01,v1\n",
        encoding="utf-8",
    )
    first = import_consents(ws, [path], renames={"customer_id": "id"}, source="shop", by="ann", now=monday)
    assert (first.read, first.added, first.unchanged, first.quarantined) == (8, 2, 0, 6)
    assert set(first.reasons) == {
        "missing_key", "bad_channel", "bad_topic", "bad_statement", "bad_time", "future_time",
    }  # fmt: skip
    assert first.quarantine_file is not None
    assert first.quarantine_file.read_text(encoding="utf-8").splitlines()[1] == f"missing_key,{path},3"
    again = import_consents(ws, [path], renames={"customer_id": "id"}, source="shop", by="ann", now=monday)
    assert (again.added, again.unchanged) == (0, 2)
    with ws.ledger.read() as tx:
        (row,) = consents_of(tx, "C0001")
        assert (row["given"], row["source"], row["wording"], row["topic"]) == (False, "shop", "v1", "all")
        assert [line.actor for line in audit_log(tx, subject="consents.csv")] == ["ann", "ann"]
    assert reason_of(ws, "C0001", monday) == "suppressed"
    with pytest.raises(FactsError, match="no column customer_id"):
        import_consents(ws, [path], renames={}, source=None, by="ann", now=monday)


def test_a_suppression_list_of_addresses_leaves_only_hashes_behind(
    shop: Shop, monday: datetime, tmp_path: Path
) -> None:
    ws = shop()
    path = tmp_path / "list.csv"
    path.write_text(
        "customer_id,email,phone,channel\nC0001,,,\n,C2@EXAMPLE.com,,\n,,+44 20 7946 0003,sms\n,,,\n,c9@example.com,,fax\n",
        encoding="utf-8",
    )
    done = import_suppressions(ws, [path], renames={}, reason="manual", by="ann", now=monday)
    assert (done.read, done.added, done.quarantined, dict(done.reasons)) == (
        5,
        3,
        2,
        {"missing_key": 1, "bad_channel": 1},
    )
    assert import_suppressions(ws, [path], renames={}, reason="manual", by="ann", now=monday).added == 0
    found = [reason_of(ws, f"C000{n}", monday) for n in (1, 2, 3, 4)]
    assert found == ["suppressed", "suppressed_address", "suppressed_address", None]
    everything = b"".join(
        p.read_bytes() for p in (ws.root / "data").rglob("*") if p.is_file() and "parquet" not in p.name
    )
    for canary in (b"C2@EXAMPLE.com", b"c2@example.com", b"7946 0003", b"79460003", b"c9@example.com"):
        assert canary not in everything
    with pytest.raises(LedgerError, match="boredom"):
        import_suppressions(ws, [path], renames={}, reason="boredom", by="ann", now=monday)


def test_a_key_that_is_gone_stops_planning_and_sending_and_an_old_key_keeps_addresses_out(
    shop: Shop, monday: datetime
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    (ws.root / ".retain" / "key").unlink(missing_ok=True)
    receive_inbound(ws, stop("+447700900999"), now=monday)
    load_customers(ws, "customer_id,phone\nC0005,+447700900999\n", monday)
    with ExitStack() as stack:
        old = ["a key for tests only, never used"]
        rotated = open_shop(stack, ws.root, secret="another key for tests", old_secrets=old)
        assert deliver_messages(rotated, now=monday, worker="test").sent > 0
        lost = open_shop(stack, ws.root, secret="another key for tests")
        with pytest.raises(LedgerError, match="RETAIN_OLD_SECRETS"):
            plan_campaign(lost, "back", as_of=monday)
        with pytest.raises(LedgerError, match="RETAIN_OLD_SECRETS"):
            deliver_messages(lost, now=monday + timedelta(days=3), worker="test")


def test_an_old_key_keeps_its_addresses_out(shop: Shop, monday: datetime) -> None:
    ws = shop()
    receive_inbound(ws, stop("+447700900999"), now=monday)
    load_customers(ws, "customer_id,phone\nC0005,+447700900999\n", monday)
    with ExitStack() as stack:
        old = ["a key for tests only, never used"]
        rotated = open_shop(stack, ws.root, secret="another key for tests", old_secrets=old)
        assert reason_of(rotated, "C0005", monday) == "suppressed_address"
        receive_inbound(rotated, stop("+447700900999", "SM2", "start"), now=monday)
        assert reason_of(rotated, "C0005", monday) is None


def test_the_preference_page_keeps_what_was_said_and_the_address(shop: Shop, monday: datetime) -> None:
    ws = shop()
    link = Link("C0001", "email", "marketing")
    assert unsubscribe(ws, link, at=monday) == ("email", "all")
    load_customers(ws, "customer_id,email\nC0002,C1@example.com\n", monday)
    assert reason_of(ws, "C0002", monday) == "suppressed_address"
    assert set_preferences(ws, link, wanted=["sms", "email", "push"], at=monday + HOUR)["email"] == set()
    assert reason_of(ws, "C0002", monday + HOUR) == "shared_address"
    with ws.ledger.read() as tx:
        said = [(row["channel"], row["given"], row["wording"]) for row in consents_of(tx, "C0001")]
    assert said == [("email", False, "preference page 1"), ("email", True, "preference page 1")]


def test_one_click_ends_what_the_setting_says(shop: Shop, monday: datetime) -> None:
    ws = shop(policy={"opt_out_scope": "topic"})
    link = Link("C0001", "email", "marketing")
    assert unsubscribe(ws, link, at=monday) == ("email", "marketing")
    assert stopped_channels(ws, "C0001")["email"] == set()
    assert reason_of(ws, "C0001", monday) == "suppressed"


def test_a_topic_is_left_and_taken_up_again_on_the_page(shop: Shop, monday: datetime) -> None:
    ws = shop(campaign=CAMPAIGN.replace("status: active\n", "status: active\ntopic: offers\n"))
    link = Link("C0001", "email", "offers")
    assert offered_topics(ws, "C0001") == {"offers": True}
    set_preferences(ws, link, wanted=["sms", "email", "push"], topics=[], at=monday)
    assert offered_topics(ws, "C0001") == {"offers": False}
    assert reason_of(ws, "C0001", monday) == "suppressed"
    set_preferences(ws, link, wanted=["sms", "email", "push"], topics=["offers"], at=monday + HOUR)
    assert reason_of(ws, "C0001", monday + HOUR) is None
