"""Too many complaints or bounces pause what causes them; a person lets it go on; a few among few change nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from channels.receipts import Receipt
from flows.settings import Reputation
from flows.steps.deliver_messages import Delivered, deliver_messages
from flows.steps.gather_report import gather_report
from flows.steps.guard_reputation import pause_harmful, why_harmful
from flows.steps.pause_campaign import pause_campaign, resume_campaign
from flows.steps.receive_receipts import receive_receipts
from flows.steps.run_campaign import run_campaign
from flows.steps.show_status import show_status
from flows.wiring import Workspace
from warehouse.ledger.audit import audit_log
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.history import customer_history
from warehouse.ledger.reputation import Tally, count_sent, count_troubles
from web.report import report_html

Shop = Callable[..., Workspace]
HOUR = timedelta(hours=1)


def deliver(ws: Workspace, at: datetime) -> Delivered:
    return deliver_messages(ws, now=at, worker="test")


def sent_mails(ws: Workspace) -> list[str]:
    keys = []
    for n in range(60):
        with ws.ledger.read() as tx:
            messages = customer_history(tx, f"C{n:04d}").messages
        keys += [str(m["message_key"]) for m in messages if (m["channel"], m["state"]) == ("email", "sent")]
    return keys


def complaints(keys: list[str], kind: str = "complaint") -> list[Receipt]:
    state = "failed" if kind == "bounce" else "delivered"
    return [
        Receipt("sendgrid", "email", kind, f"sendgrid:{kind}:{key}", state, message_key=key, suppress=kind)  # type: ignore[arg-type]
        for key in keys
    ]


@pytest.fixture
def campaign(shop: Shop, monday: datetime) -> Workspace:
    """A shop with some twenty e-mails sent, where ten messages are enough to tell."""
    ws = shop(reputation={"least_messages": 10})
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    return ws


@pytest.mark.parametrize("kind", ["complaint", "bounce"])
def test_too_many_pause_the_campaigns_channel_and_say_so_everywhere(
    campaign: Workspace, monday: datetime, kind: str
) -> None:
    keys = sent_mails(campaign)
    received = receive_receipts(campaign, complaints(keys[:3], kind), now=monday + HOUR)
    assert received.suppressed == 3
    word = {"complaint": "were complained about", "bounce": "bounced"}[kind]
    (status,) = show_status(campaign, "back")
    (because,) = status["paused_because"]
    assert (because["scope"], because["by"]) == ("back/email", "retain")
    assert because["reason"].startswith(f"3 of {len(keys)} messages of the last 24 hours {word} (")
    assert not status["paused"]  # its other channels go on
    with campaign.ledger.read() as tx:
        (line,) = audit_log(tx, subject="back/email")
    assert (line.actor, line.action, line.detail) == ("retain", "pause", {"reason": because["reason"]})
    assert deliver(campaign, monday + 2 * HOUR).paused == {"back/email": because["reason"]}
    data = gather_report(campaign, "back", now=monday + 2 * HOUR)
    assert data["paused"] == {"back/email": because["reason"]}
    assert "Paused: back/email." in report_html(data)


def test_what_was_heard_again_counts_once(campaign: Workspace, monday: datetime) -> None:
    keys = sent_mails(campaign)
    for _ in range(5):
        receive_receipts(campaign, complaints(keys[:2]), now=monday + HOUR)
    assert show_status(campaign, "back")[0]["paused_because"] == []


def test_after_a_resume_only_what_leaves_from_then_on_counts(campaign: Workspace, monday: datetime) -> None:
    keys = sent_mails(campaign)
    receive_receipts(campaign, complaints(keys[:4]), now=monday + HOUR)
    assert resume_campaign(campaign, "back/email", by="ann", reason="the list is mended", at=monday + 2 * HOUR)
    receive_receipts(campaign, complaints(keys[4:9]), now=monday + 3 * HOUR)
    assert deliver(campaign, monday + 3 * HOUR).paused == {}
    late = monday + 4 * HOUR
    count_sent(campaign.ledger, [("back", "email")] * 40, at=late)
    assert pause_harmful(campaign, now=late) == {}


def test_refused_numbers_count_as_bounces_at_once(campaign: Workspace, monday: datetime) -> None:
    at = monday + HOUR
    count_sent(campaign.ledger, [("back", "email")] * 100, at=at)
    count_troubles(campaign.ledger, [(key, "bounce") for key in sent_mails(campaign)[:12]], at=at)
    assert deliver(campaign, at).paused.keys() == {"back/email"}


def test_a_channel_is_paused_as_a_whole_when_the_harm_is_spread(shop: Shop, monday: datetime) -> None:
    ws = shop(reputation={"least_messages": 100})
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    keys = sent_mails(ws)
    for campaign in ("one", "other", "third"):
        count_sent(ws.ledger, [(campaign, "email")] * 90, at=monday)
    count_troubles(ws.ledger, [(key, "complaint") for key in keys[:5]], at=monday)
    assert pause_harmful(ws, now=monday + HOUR).keys() == {"*/email"}
    assert deliver(ws, monday + timedelta(days=3)).sent > 0  # the text messages go on


def tally(sent: int, *, bounced: int = 0, complained: int = 0) -> Tally:
    return Tally("a", "email", datetime.min.replace(tzinfo=UTC), sent, bounced, complained)


def test_few_among_few_stop_nothing() -> None:
    rules = Reputation()
    assert why_harmful([tally(3, bounced=1)], rules) is None
    assert why_harmful([tally(199, bounced=100)], rules) is None
    assert why_harmful([tally(200, complained=2)], rules) is None
    assert why_harmful([tally(1_000, complained=3, bounced=50)], rules) is None  # at the limit, not above it
    assert "limit 0.30%" in str(why_harmful([tally(900, complained=3)], rules))
    assert "limit 5.00%" in str(why_harmful([tally(500), tally(500, bounced=51)], rules))


def test_a_person_may_pause_a_channel_and_must_name_one_that_there_is(campaign: Workspace, monday: datetime) -> None:
    assert pause_campaign(campaign, "*/sms", by="ann", reason="the gateway", at=monday)
    with pytest.raises(LedgerError, match="expected one of sms, email, push behind the slash, got 'fax'"):
        pause_campaign(campaign, "back/fax", by="ann", reason="?", at=monday)
