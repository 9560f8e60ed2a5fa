"""Delivery: what leaves, what does not and why, and what a second run does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa

from channels.errors import ChannelError
from channels.message import Outgoing
from channels.provider import Capability, Outcome, SendResult
from flows.steps.deliver_messages import Delivered, deliver_messages
from flows.steps.load_facts import load_facts
from flows.steps.pause_campaign import pause_campaign, resume_campaign
from flows.steps.run_campaign import run_campaign
from flows.steps.show_status import show_status
from flows.steps.suppress_customer import suppress_customer
from flows.wiring import Workspace
from warehouse.ledger.deliveries import sent_messages
from warehouse.ledger.errors import LedgerError

from .conftest import CAMPAIGN

Rewrite = Callable[[Workspace, str, str], Path]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class ScriptedProvider:
    """A provider that answers as told and remembers what it was given."""

    def __init__(self, channel: Any, outcome: Outcome = "accepted", capability: Capability = "N") -> None:
        self.name, self.channel, self.capability = "scripted", channel, capability
        self.outcome: Outcome = outcome
        self.seen: list[Outgoing] = []
        self.broken = False

    async def send(self, batch: Sequence[Outgoing], *, now: datetime) -> list[SendResult]:
        self.seen += batch
        if self.broken:
            raise ChannelError("the line went dead")
        return [SendResult(message.key, self.outcome, provider_id=f"P{message.key}", code="X1") for message in batch]

    async def close(self) -> None:
        """Nothing is held open."""


def deliver(ws: Workspace, now: datetime, **more: Any) -> Delivered:
    ws.__dict__.pop("usable_book", None)
    return deliver_messages(ws, now=now, worker="test", **more)


def totals(ws: Workspace) -> dict[str, int]:
    return dict(show_status(ws, "back")[0]["total"])


def with_provider(ws: Workspace, provider: ScriptedProvider) -> Workspace:
    others = {**ws.providers, provider.channel: provider}
    return replace(ws, providers=MappingProxyType(others))


def test_messages_leave_inside_their_window_and_only_once(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    outcome = run_campaign(ws, "back", as_of=monday)
    first_steps = outcome.assigned["mail"] + outcome.assigned["text"]
    assert deliver(ws, monday).counts()["sent"] == first_steps
    assert deliver(ws, monday + HOUR).counts()["sent"] == 0
    assert len(list((ws.root / "outbox").iterdir())) == first_steps
    assert totals(ws)["planned"] == sum(n for state, n in totals(ws).items() if state != "planned")


def test_nothing_leaves_before_the_window_opens(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday - 3 * HOUR)
    assert deliver(ws, monday - HOUR).counts()["sent"] == 0
    assert deliver(ws, monday).counts()["sent"] > 0


def test_a_limit_is_kept_and_the_rest_leaves_later(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    assert deliver(ws, monday, limit=7).counts()["sent"] == 7
    assert deliver(ws, monday).counts()["sent"] > 7


def test_a_reminder_is_left_out_for_those_who_bought(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    outcome = run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    with ws.ledger.read() as tx:
        mailed = sent_messages(tx, outcome.experiment).query("arm == 'mail'")["customer_id"].tolist()
    lines = ["order_id,customer_id,ordered_at,amount"]
    lines += [f"L{c},{c},{(monday + DAY).isoformat()},10" for c in mailed[:5]]
    late = ws.root / "late.csv"
    late.write_text("\n".join(lines) + "\n", encoding="utf-8")
    load_facts(ws, "orders", [late], renames={}, now=monday + DAY)
    reminded = deliver(ws, monday + 3 * DAY)
    assert reminded.skipped["purchased"] == 5
    assert reminded.sent == len(mailed) - 5


def test_a_late_message_waits_for_the_next_window(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    night = deliver(ws, monday + 12 * HOUR)
    assert (night.sent, night.put_off) == (0, totals(ws)["pending"] - _reminders(ws))
    assert deliver(ws, monday + DAY).sent == night.put_off


def test_a_message_too_late_for_its_campaign_is_skipped_with_its_reason(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    rewrite(ws, 'to: "19:00"}}', 'to: "19:00"}, if_late: skip}')
    run_campaign(ws, "back", as_of=monday)
    assert deliver(ws, monday + 12 * HOUR).skipped["expired"] > 0
    assert totals(ws)["sent"] == 0


def test_if_late_send_leaves_at_the_next_permitted_minute(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    rewrite(ws, 'to: "19:00"}}', 'to: "19:00"}, if_late: send}')
    run_campaign(ws, "back", as_of=monday)
    evening = deliver(ws, monday + 10.5 * HOUR)  # 19:30 in London: outside the window, within the legal hours
    assert evening.sent == evening.put_off > 0


def test_a_step_that_the_file_lost_is_skipped_when_late(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    rewrite(ws, "      - {channel: sms, template: hello, after: 3 days, unless: purchased}\n", "")
    assert deliver(ws, monday + 3 * DAY + 12 * HOUR).skipped["too_late"] > 0


def test_a_budget_holds_for_what_messages_really_cost(shop: Callable[..., Workspace], monday: datetime) -> None:
    """Planned as one SMS of 0.05 EUR each, they turn out to have three segments."""
    limit = "budget: {cost: 1.07 EUR}\nfeedback:"
    ws = shop(campaign=CAMPAIGN.replace("feedback:", limit))
    long = "Hello {{ customer.first_name }}. " + "long words here " * 20 + " Reply STOP to opt out"
    (ws.settings.root / "templates/sms/hello.txt.j2").write_text(long, encoding="utf-8")
    run_campaign(ws, "back", as_of=monday)
    delivered = [deliver(ws, monday + n * DAY) for n in range(4)]
    with ws.ledger.read() as tx:
        spent = tx.execute(sa.text("SELECT cost_micros FROM budgets")).scalar_one()
        rows = tx.execute(sa.text("SELECT state, cost_micros FROM outbox WHERE channel = 'sms'")).all()
    sent = [cost for state, cost in rows if state == "sent"]
    assert sent == [150_000] * len(sent)
    assert 1_070_000 - 150_000 < spent <= 1_070_000
    assert sum(step.skipped["over_budget"] for step in delivered) == sum(state == "skipped" for state, _ in rows)


@pytest.mark.parametrize("who", ["C0000", "C0001", "C0002"])
def test_a_suppression_holds_for_messages_that_wait_already(
    shop: Callable[..., Workspace], monday: datetime, who: str
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    assert suppress_customer(ws, who, channel="all", reason="stop", by="test", at=monday)
    assert not suppress_customer(ws, who, channel="all", reason="stop", by="test", at=monday)
    deliver(ws, monday)
    with ws.ledger.read() as tx:
        assert who not in set(sent_messages(tx, "back:1")["customer_id"])


def test_a_wrong_channel_or_reason_of_a_suppression_is_refused(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop(customers=1)
    with pytest.raises(LedgerError, match="expected one of sms"):
        suppress_customer(ws, "C0000", channel="fax", reason="stop", by="test", at=monday)
    with pytest.raises(LedgerError, match="expected one of stop"):
        suppress_customer(ws, "C0000", channel="all", reason="mood", by="test", at=monday)


def test_a_withdrawn_consent_holds_at_the_last_moment(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    people = (ws.root / "customers.csv").read_text(encoding="utf-8").replace(",yes,yes,", ",no,no,")
    people = people.replace("+442079460001", "")
    (ws.root / "customers.csv").write_text(people, encoding="utf-8")
    load_facts(ws, "customers", [ws.root / "customers.csv"], renames={}, now=monday)
    delivered = deliver(ws, monday)
    assert delivered.sent == 0
    assert delivered.skipped["no_consent"] > 0


def test_an_address_that_is_gone_is_a_reason(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=20)
    run_campaign(ws, "back", as_of=monday)
    lines = (ws.root / "customers.csv").read_text(encoding="utf-8").splitlines()
    header, rows = lines[0], [line.split(",") for line in lines[1:]]
    emptied = [",".join([*row[:2], "", "", *row[4:]]) for row in rows]
    (ws.root / "customers.csv").write_text("\n".join([header, *emptied]) + "\n", encoding="utf-8")
    load_facts(ws, "customers", [ws.root / "customers.csv"], renames={}, now=monday)
    assert deliver(ws, monday).skipped["no_address"] > 0


def test_pausing_stops_everything_and_resuming_lets_it_go_on(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    assert pause_campaign(ws, "back", by="ann", reason="test", at=monday)
    assert not pause_campaign(ws, "back", by="ann", reason="test", at=monday)
    assert deliver(ws, monday).sent == 0
    assert show_status(ws, "back")[0]["paused"]
    assert resume_campaign(ws, "back", by="ann", reason="test", at=monday)
    assert pause_campaign(ws, "*", by="ann", reason="test", at=monday)
    assert deliver(ws, monday).sent == 0
    assert resume_campaign(ws, "*", by="ann", reason="test", at=monday)
    assert deliver(ws, monday).sent > 0


def test_a_campaign_paused_in_its_file_or_gone_from_the_book_is_held(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    path = rewrite(ws, "status: active", "status: paused")
    assert deliver(ws, monday).held == {"back": "its file says status: paused"}
    path.unlink()
    assert deliver(ws, monday).held == {"back": "its file is no longer in campaigns/book"}
    assert totals(ws)["sent"] == 0


def test_a_mistake_in_another_campaigns_file_does_not_stop_this_one(
    shop: Callable[..., Workspace], monday: datetime, rewrite: Rewrite
) -> None:
    ws = shop()
    path = rewrite(ws, "mode: apply", "mode: propose")
    run_campaign(ws, "back", as_of=monday)
    other = path.with_name("other.yaml")
    other.write_text("campaign: other\nstatus: actvie\n", encoding="utf-8")
    assert deliver(ws, monday).sent > 0
    path.write_text(path.read_text(encoding="utf-8").replace("status: active", "status: actvie"), encoding="utf-8")
    held = deliver(ws, monday + 3 * DAY)
    assert held.sent == 0
    assert "no sound file of back" in held.held["back"]


def test_a_broken_template_holds_its_campaign_and_burns_no_message(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    (ws.root / "templates" / "sms" / "hello.txt.j2").write_text("{{ customer.nonsense }}", encoding="utf-8")
    delivered = deliver(ws, monday)
    assert "hello.txt.j2" in delivered.held["back"]
    assert totals(ws)["failed"] == 0
    assert totals(ws)["pending"] > 0


def test_values_of_one_customer_that_do_not_fit_fail_only_that_message(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    (ws.root / "templates" / "email" / "hello.subject.j2").write_text("Hi {{ customer.first_name }}", encoding="utf-8")
    people = (ws.root / "customers.csv").read_text(encoding="utf-8")
    outcome = run_campaign(ws, "back", as_of=monday)
    for n in range(60):
        people = people.replace(f",Ann{n},", ',"An\nn",' if n % 2 else f",Ann{n},")
    (ws.root / "customers.csv").write_text(people, encoding="utf-8")
    load_facts(ws, "customers", [ws.root / "customers.csv"], renames={}, now=monday)
    delivered = deliver(ws, monday)
    assert 0 < delivered.failed < outcome.assigned["mail"]
    assert delivered.held == {}


@pytest.mark.parametrize("field", ["first_name", "club"])
def test_a_field_that_two_customers_lack_fails_their_messages_alone(
    shop: Callable[..., Workspace], monday: datetime, field: str
) -> None:
    ws = saying(shop(), field, monday)
    texts = {row[0] for row in texted(ws)}
    without = sorted(texts)[:2]
    blank_out(ws, field, without, monday)
    delivered = deliver(ws, monday)
    assert delivered.held == {}
    assert {row[0] for row in texted(ws) if row[1:] == ("failed", "render_failed")} == set(without)
    assert {row[0] for row in texted(ws) if row[1] == "sent"} == texts - set(without)


@pytest.mark.parametrize("field", ["first_name", "club"])
def test_a_field_that_nobody_has_any_longer_holds_the_campaign(
    shop: Callable[..., Workspace], monday: datetime, field: str
) -> None:
    ws = saying(shop(), field, monday)
    blank_out(ws, field, [f"C{n:04d}" for n in range(60)], monday)
    delivered = deliver(ws, monday)
    assert f"unknown field '{field}'" in delivered.held["back"]
    assert {row[1] for row in texted(ws)} == {"pending"}


def saying(ws: Workspace, field: str, now: datetime) -> Workspace:
    """The campaign has run, and its text names a field of the customer."""
    words = f"Hello {{{{ customer.{field} }}}}. Reply STOP to opt out"
    (ws.root / "templates" / "sms" / "hello.txt.j2").write_text(words, encoding="utf-8")
    run_campaign(ws, "back", as_of=now)
    return ws


def texted(ws: Workspace) -> list[tuple[str, str, str | None]]:
    """Whose text is in which state, and why."""
    with ws.ledger.read() as tx:
        found = tx.exec_driver_sql("SELECT customer_id, state, reason FROM outbox WHERE arm = 'text' ORDER BY 1")
        return [(row[0], row[1], row[2]) for row in found]


def blank_out(ws: Workspace, field: str, customers: Collection[str], now: datetime) -> None:
    """Load the customers again, some without a field."""
    path = ws.root / "customers.csv"
    head, *rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row[0] in customers:
            row[head.index(field)] = ""
    path.write_text("".join(",".join(row) + "\n" for row in [head, *rows]), encoding="utf-8")
    load_facts(ws, "customers", [path], renames={}, now=now)


@pytest.mark.parametrize(
    ("outcome", "fate"),
    [("accepted", "sent"), ("permanent", "failed"), ("unknown", "in_doubt"), ("transient", "pending")],
)
def test_what_the_provider_says_is_what_is_recorded(
    shop: Callable[..., Workspace], monday: datetime, outcome: Outcome, fate: str
) -> None:
    ws = shop()
    applied = run_campaign(ws, "back", as_of=monday)
    provider = ScriptedProvider("sms", outcome)
    deliver(with_provider(ws, provider), monday)
    row = next(r for r in show_status(ws, "back")[0]["messages"] if (r["arm"], r["channel"]) == ("text", "sms"))
    assert row[fate] == applied.assigned["text"] == len(provider.seen)


def test_a_message_in_doubt_is_not_sent_again_where_the_provider_knows_no_key(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    provider = ScriptedProvider("sms", "unknown", "N")
    for hours in range(3):
        deliver(with_provider(ws, provider), monday + hours * HOUR)
    assert len({message.key for message in provider.seen}) == len(provider.seen)


def test_a_message_in_doubt_is_sent_again_under_its_key_where_the_provider_honours_it(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    provider = ScriptedProvider("sms", "unknown", "K")
    deliver(with_provider(ws, provider), monday)
    provider.outcome = "accepted"
    again = deliver(with_provider(ws, provider), monday + HOUR)
    assert again.sent == len(provider.seen) / 2 > 0
    assert totals(ws)["in_doubt"] == 0


def test_a_doubt_of_one_provider_is_not_sent_again_by_another_that_honours_keys(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    """The first may have taken it, and the second knows no key of its."""
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    doubtful = deliver(with_provider(ws, ScriptedProvider("sms", "unknown")), monday).in_doubt
    assert doubtful > 0
    other = ScriptedProvider("sms", capability="K")
    other.name = "another"
    deliver(with_provider(ws, other), monday + HOUR)
    assert other.seen == []
    assert totals(ws)["in_doubt"] == doubtful


def test_a_provider_that_breaks_down_leaves_its_batch_in_doubt_and_says_so(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    provider = ScriptedProvider("sms")
    provider.broken = True
    with pytest.raises(ChannelError, match="the line went dead"):
        deliver(with_provider(ws, provider), monday)
    assert totals(ws)["in_doubt"] == len(provider.seen) > 0


def test_a_shared_secret_gives_every_step_of_a_customer_the_same_code(
    shop: Callable[..., Workspace], monday: datetime
) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    deliver(ws, monday + 3 * DAY)
    with ws.ledger.read() as tx:
        mail = sent_messages(tx, "back:1").query("arm == 'mail'")
    assert set(mail.groupby("customer_id")["code"].nunique()) == {1}
    assert mail["code"].nunique() == mail["customer_id"].nunique()


def test_no_address_is_in_the_ledger(shop: Callable[..., Workspace], monday: datetime) -> None:
    ws = shop(customers=30)
    run_campaign(ws, "back", as_of=monday)
    deliver(ws, monday)
    ws.ledger.close()
    stored = b"".join(path.read_bytes() for path in (ws.root / "data").glob("ledger.db*"))
    assert b"C0001" in stored
    assert b"example.com" not in stored
    assert b"+44207946" not in stored


def _reminders(ws: Workspace) -> int:
    return sum(
        r["pending"] for r in show_status(ws, "back")[0]["messages"] if (r["arm"], r["channel"]) == ("mail", "sms")
    )
