"""Campaigns that want the same customers: rank decides, not the order of runs; control is as crowded as the arms."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from flows.steps.competition import due_campaigns
from flows.steps.deliver_messages import deliver_messages
from flows.steps.explain_customer import explain_customer
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from warehouse.ledger.results import record_measurement
from warehouse.ledger.schema import assignments, outbox

Shop = Callable[..., Workspace]
DAY = timedelta(days=1)
ONE_MAIL = """\
campaign: back
status: active
priority: 0
schedule: {cron: "0 9 * * 1", timezone: UTC}
audience: {segment: orders >= 2}
experiment: {control: 50%, horizon: 30 days, primary: repurchase, minimum_effect: 10pp}
arms:
  mail: {weight: 50%, steps: [{channel: sms, template: hello}]}
"""


def add(ws: Workspace, name: str, *changes: tuple[str, str], of: str = "back") -> Path:
    """Another campaign, written from the first."""
    path = ws.root / "campaigns" / "book" / f"{name}.yaml"
    text = (path.with_name(f"{of}.yaml")).read_text(encoding="utf-8").replace(f"campaign: {of}", f"campaign: {name}")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    ws.__dict__.pop("usable_book", None)
    return path


def arms_of(ws: Workspace, campaign: str) -> dict[str, str]:
    with ws.ledger.read() as tx:
        query = sa.select(assignments.c.customer_id, assignments.c.arm)
        return {row[0]: row[1] for row in tx.execute(query.where(assignments.c.experiment_id == f"{campaign}:1"))}


@pytest.mark.parametrize("first", ["a-offer", "z-offer"])
@pytest.mark.parametrize("important", ["a-offer", "z-offer"])
def test_priority_decides_who_has_a_layers_customers_whatever_ran_first(
    shop: Shop, monday: datetime, first: str, important: str
) -> None:
    ws = shop(campaign=ONE_MAIL.replace("orders >= 2", "orders >= 2, exclusive: offers"))
    for name in ("a-offer", "z-offer"):
        add(ws, name, ("priority: 0", f"priority: {int(name == important)}"))
    (ws.root / "campaigns" / "book" / "back.yaml").unlink()
    ws.__dict__.pop("usable_book", None)
    other = {"a-offer": "z-offer", "z-offer": "a-offer"}
    applied = {name: run_campaign(ws, name, as_of=monday) for name in (first, other[first])}
    assert applied[important].eligible == 60
    left_out = applied[other[important]]
    assert left_out.eligible == 0
    assert left_out.skipped == {"rival_campaign" if first == important else "outranked": 60}
    why = explain_customer(ws, other[important], "C0001", now=monday)["answer"]
    assert "rival_campaign: takes part in another campaign of the same exclusive layer" in why


def test_without_priorities_the_larger_expected_value_goes_first(shop: Shop, monday: datetime) -> None:
    ws = shop(campaign=ONE_MAIL.replace("orders >= 2", "orders >= 2, exclusive: offers"))
    add(ws, "worth")
    run_campaign(ws, "worth", as_of=monday - 60 * DAY)
    told = {"margin": [{"arm": "mail", "difference": 1.5}], "results": []}
    with ws.ledger.begin() as tx:
        record_measurement(tx, "worth:1", told, measured_at=monday - 20 * DAY)
    assert [due.campaign for due in due_campaigns(ws, now=monday)] == ["worth", "back"]


def test_campaigns_that_are_due_together_share_a_cap_by_rank_before_the_draw(shop: Shop, monday: datetime) -> None:
    ws = shop(campaign=ONE_MAIL + "caps: {per_customer: 1 per week}\n")
    add(ws, "news", ("priority: 0", "priority: 7"))
    low = run_campaign(ws, "back", as_of=monday)
    assert low.skipped == {"outranked": 60}
    high = run_campaign(ws, "news", as_of=monday)
    assert high.eligible == 60
    assert run_campaign(ws, "back", as_of=monday + timedelta(hours=1)).skipped == {"capped": 60}


def test_a_control_customer_is_left_out_by_a_cap_exactly_as_one_who_was_written_to(
    shop: Shop, monday: datetime
) -> None:
    """The peers' mistake: caps that only the treated ever reach, so that control gets the other campaigns instead."""
    ws = shop(customers=200, campaign=ONE_MAIL + "caps: {per_customer: 1 per 7 days}\n")
    run_campaign(ws, "back", as_of=monday)
    add(ws, "news", ("0 9 * * 1", "0 9 * * 2"), ("1 per 7 days", "1 per 2 days"))
    run_campaign(ws, "news", as_of=monday + DAY)
    arms = arms_of(ws, "back")
    assert set(arms.values()) == {"mail", "control"}
    assert arms_of(ws, "news") == {}  # everybody of the first campaign was capped, its control as well
    add(ws, "later", ("0 9 * * 1", "0 9 * * 5"), ("1 per 7 days", "1 per 2 days"))
    run_campaign(ws, "later", as_of=monday + 4 * DAY)
    assert arms_of(ws, "later").keys() == arms.keys()


def test_what_control_would_have_been_sent_also_counts_when_another_campaigns_message_leaves(
    shop: Shop, monday: datetime
) -> None:
    """Both were planned before either left: at the claim control's place is as used up as everybody's."""
    ws = shop(customers=200, campaign=ONE_MAIL)
    add(ws, "news", ("priority: 0", "priority: -1"), ("0 9 * * 1", "0 10 * * 1"))
    run_campaign(ws, "back", as_of=monday)
    run_campaign(ws, "news", as_of=monday)
    for name in ("back", "news"):
        path = ws.root / "campaigns" / "book" / f"{name}.yaml"
        path.write_text(path.read_text() + "caps: {per_customer: 1 per 7 days}\n")
    ws.__dict__.pop("usable_book", None)
    deliver_messages(ws, now=monday + timedelta(hours=1), worker="test")
    with ws.ledger.read() as tx:
        left = sa.select(outbox.c.customer_id).where(outbox.c.experiment_id == "news:1", outbox.c.state == "sent")
        assert not tx.execute(left).all()


def test_a_layers_customers_rest_before_the_next_campaign_has_them(shop: Shop, monday: datetime) -> None:
    ws = shop(campaign=ONE_MAIL.replace("orders >= 2", "orders >= 2, exclusive: offers"))
    run_campaign(ws, "back", as_of=monday)
    add(ws, "next", ("exclusive: offers", "exclusive: offers, cool_off: 14 days"), ("0 9 * * 1", "0 9 * * 2"))
    assert run_campaign(ws, "next", as_of=monday + 29 * DAY).skipped == {"rival_campaign": 60}
    assert run_campaign(ws, "next", as_of=monday + 43 * DAY).skipped == {"cooling_off": 60}
    assert run_campaign(ws, "next", as_of=monday + 45 * DAY).eligible == 60


def test_the_companys_time_of_rest_holds_for_every_campaign(shop: Shop, monday: datetime) -> None:
    ws = shop(campaign=ONE_MAIL, policy={"cool_off": "10 days", "default_time_zone": "UTC"})
    run_campaign(ws, "back", as_of=monday)
    add(ws, "next", ("0 9 * * 1", "0 9 * * 2"))
    assert run_campaign(ws, "next", as_of=monday + 9 * DAY).skipped == {"cooling_off": 60}
    assert run_campaign(ws, "next", as_of=monday + 11 * DAY).eligible == 60


def test_the_strictest_of_the_campaigns_and_the_companys_caps_wins(shop: Shop, monday: datetime) -> None:
    from flows.steps.sending_rules import read_sending

    ws = shop(campaign=ONE_MAIL + "caps: {per_customer: {topic: 2 per week}, min_gap: 2 hours}\n",
              caps={"per_customer": {"sms": ["1 per day", "3 per 7 days"]}, "topics": {"marketing": "4 per week", "x": "1 per day"}})  # fmt: skip
    caps = read_sending(ws).rules["back"].caps
    assert [(cap.messages, cap.window.days, cap.channel, cap.topic, cap.period) for cap in caps] == [
        (2, 7, None, "marketing", "week"),
        (1, 0, None, None, None),
        (1, 1, "sms", None, "day"),
        (3, 7, "sms", None, None),
        (4, 7, None, "marketing", "week"),
    ]


def test_control_stays_control_and_the_winner_never_gets_it_back(shop: Shop, monday: datetime) -> None:
    """The peers' mistake: customers of control who come again and are given the winner, and are measured so."""
    ws = shop(customers=120, campaign=ONE_MAIL.replace("orders >= 2", "orders >= 2, reentry_after: 5 days"))
    run_campaign(ws, "back", as_of=monday)
    before = arms_of(ws, "back")
    again = run_campaign(ws, "back", as_of=monday + 7 * DAY)
    assert again.skipped == {"already_assigned": 120}
    assert arms_of(ws, "back") == before
    with ws.ledger.read() as tx:
        written = set(tx.execute(sa.select(outbox.c.customer_id)).scalars())
    assert not written & {customer for customer, arm in before.items() if arm == "control"}


def test_explain_says_in_words_who_took_the_place_of_a_message(shop: Shop, monday: datetime) -> None:
    ws = shop(customers=40, campaign=ONE_MAIL)
    add(ws, "news", ("priority: 0", "priority: 3"))
    for name in ("back", "news"):
        run_campaign(ws, name, as_of=monday)
        path = ws.root / "campaigns" / "book" / f"{name}.yaml"
        path.write_text(path.read_text() + "caps: {per_customer: 1 per 7 days}\n")
    ws.__dict__.pop("usable_book", None)
    deliver_messages(ws, now=monday + timedelta(hours=1), worker="test")
    both = {customer for customer, arm in arms_of(ws, "back").items() if arm == "mail"}
    both &= {customer for customer, arm in arms_of(ws, "news").items() if arm == "mail"}
    story = explain_customer(ws, "back", min(both), now=monday + DAY)
    why = [event["why"] for event in story["events"]]
    assert any(reason.startswith("outranked: put off, or skipped: a campaign of higher priority") for reason in why), (
        why
    )
