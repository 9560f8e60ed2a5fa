"""Codes and tiers on their way from the file to the customer: reserved once, repeated in reminders, never used up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from campaigns.errors import CampaignError
from flows.steps.apply_plan import apply_plan
from flows.steps.deliver_messages import deliver_messages
from flows.steps.explain_customer import explain_customer
from flows.steps.import_codes import check_code, import_code_file, release_codes
from flows.steps.offer_codes import show_pools
from flows.steps.plan_campaign import PlannedCampaign, plan_campaign
from flows.steps.preview_messages import preview_messages
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from tests.together import together
from warehouse.ledger.code_pools import stock
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.experiments import experiments
from warehouse.ledger.promises import OverBudgetError, promised_cost

from .conftest import CAMPAIGN

POOL_OFFERS = """\
ten:
  kind: percent_off
  percent: 10%
  text: {en: 10% off}
  code: {kind: pool, pool: spring}
  valid_for: 14 days
  cost: {redeemed: 10%, value: 3 EUR}
"""
SAYING = "{{ offer.text }} {{ offer.code }} {{ offer.expires_on }} Reply STOP to opt out"

Shop = Callable[..., Workspace]


def pooled(shop: Shop, *, codes: int | None = 100, campaign: str = CAMPAIGN, **options: object) -> Workspace:
    """A shop whose offer draws on the pool `spring`, with so many codes in it."""
    ws = shop(campaign=campaign, **options)
    (ws.root / "campaigns" / "book" / "offers.yaml").write_text(POOL_OFFERS, encoding="utf-8")
    (ws.root / "templates" / "sms" / "hello.txt.j2").write_text(SAYING, encoding="utf-8")
    (ws.root / "templates" / "sms" / "bare.txt.j2").write_text("Hello. Reply STOP to opt out", encoding="utf-8")
    path = ws.root / "campaigns" / "book" / "back.yaml"
    text = campaign.replace(
        "steps:\n      - {channel: sms, template: hello}\n", "steps:\n      - {channel: sms, template: bare}\n"
    )
    path.write_text(text, encoding="utf-8")
    if codes:
        bring_in(ws, codes)
    return ws


def bring_in(ws: Workspace, n: int, *, expires_on: date | None = None, prefix: str = "SPRING") -> None:
    file = ws.root / f"{prefix}.csv"
    file.write_text("\n".join(f"{prefix}-{i:05d}" for i in range(n)) + "\n", encoding="utf-8")
    import_code_file(ws, "spring", file, expires_on=expires_on, now=datetime(2026, 3, 1).astimezone(), actor="test")


def outbox(ws: Workspace) -> list[tuple[str, int, str | None]]:
    """(customer, step, code) of every message of the arm with the offer."""
    with ws.ledger.read() as tx:
        query = "SELECT customer_id, step, code FROM outbox WHERE arm = 'mail' ORDER BY customer_id, step"
        return [tuple(row) for row in tx.execute(sa.text(query))]


def sent_texts(ws: Workspace) -> str:
    """Everything that the local providers wrote out."""
    return "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ws.root / "outbox").rglob("*")) if path.is_file()
    )


def free(ws: Workspace) -> int:
    with ws.ledger.read() as tx:
        return sum(row.free for row in stock(tx, at=datetime(2026, 3, 2).astimezone(), pools=["spring"]))


def test_every_customer_gets_one_code_and_the_reminder_shows_the_same(shop: Shop, monday: datetime) -> None:
    """The peers' mistake: a new code in every step."""
    ws = pooled(shop)
    run_campaign(ws, "back", as_of=monday)
    rows = outbox(ws)
    codes = {customer: code for customer, _, code in rows}
    assert rows == [(c, step, code) for c, code in sorted(codes.items()) for step in (1, 2)]
    assert len(codes) > 20
    assert None not in codes.values()
    assert len(set(codes.values())) == len(codes)
    deliver_messages(ws, now=monday, worker="t")
    deliver_messages(ws, now=monday + timedelta(days=3), worker="t")
    text = sent_texts(ws)
    assert all(text.count(code) >= 2 for code in codes.values())
    assert free(ws) == 100 - len(codes)


def test_running_again_and_delivering_again_uses_up_no_code(shop: Shop, monday: datetime) -> None:
    ws = pooled(shop)
    run_campaign(ws, "back", as_of=monday)
    before, left = outbox(ws), free(ws)
    assert run_campaign(ws, "back", as_of=monday).already_applied
    deliver_messages(ws, now=monday, worker="t")
    deliver_messages(ws, now=monday, worker="t")
    assert (outbox(ws), free(ws)) == (before, left)


def test_a_killed_run_is_resumed_with_the_codes_it_had_reserved(
    shop: Shop, monday: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = pooled(shop)
    planned = plan_campaign(ws, "back", as_of=monday)
    with monkeypatch.context() as patch:
        patch.setattr("flows.steps.apply_plan.with_codes", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            apply_plan(ws, planned, now=monday)
    left = free(ws)
    assert left < 100
    run_campaign(ws, "back", as_of=monday)
    assert free(ws) == left
    assert len({customer for customer, _, _ in outbox(ws)}) == 100 - left


def test_planning_and_previews_use_up_no_code_and_show_a_placeholder(shop: Shop, monday: datetime) -> None:
    ws = pooled(shop)
    plan_campaign(ws, "back", as_of=monday)
    shown = preview_messages(ws, "back", customer_id="C0001", as_of=monday)
    assert any("CODE-OF-POOL" in str(entry["content"]) for entry in shown)
    assert "SPRING-" not in str(shown)
    assert free(ws) == 100


def test_ten_thousand_customers_and_one_code_too_few_records_nothing_at_all(shop: Shop, monday: datetime) -> None:
    everyone = CAMPAIGN.replace("control: 20%", "control: 1%").replace(
        "weight: 40%\n    offer", "weight: 98%\n    offer"
    )
    ws = pooled(shop, customers=10_000, codes=None, campaign=everyone.replace("weight: 40%", "weight: 1%"))
    needed = len(plan_campaign(ws, "back", as_of=monday).plan.messages.query("arm == 'mail'")["customer_id"].unique())
    bring_in(ws, needed - 1)
    planned = plan_campaign(ws, "back", as_of=monday)
    assert planned.summary["codes"] == {"spring": {"needed": needed, "free": needed - 1}}
    assert any("it cannot be applied" in warning for warning in planned.summary["warnings"])
    with pytest.raises(CampaignError, match=r"bring more in: retain codes import spring FILE; nothing was recorded"):
        apply_plan(ws, planned, now=monday)
    with ws.ledger.read() as tx:
        assert experiments(tx, "back") == []
    assert (outbox(ws), free(ws)) == ([], needed - 1)
    bring_in(ws, 1, prefix="MORE")
    assert run_campaign(ws, "back", as_of=monday).assigned["mail"] == needed


def test_codes_taken_by_another_run_since_the_check_stop_the_run_before_its_first_row(
    shop: Shop, monday: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = pooled(shop, codes=5)
    monkeypatch.setattr("flows.steps.apply_plan.refuse_low_stock", lambda *_: None)
    with pytest.raises(LedgerError, match="pool spring has 5 codes that hold long enough"):
        run_campaign(ws, "back", as_of=monday)
    with ws.ledger.read() as tx:
        assert [tx.execute(sa.text(f"SELECT count(*) FROM {t}")).scalar() for t in ("waves", "assignments")] == [0, 0]
    assert free(ws) == 5


def test_a_code_that_ends_soon_is_not_given_out_and_one_that_ends_bounds_its_messages(
    shop: Shop, monday: datetime
) -> None:
    ws = pooled(shop, codes=None)
    bring_in(ws, 100, expires_on=date(2026, 3, 3), prefix="EARLY")  # the reminder leaves on the fifth
    bring_in(ws, 100, expires_on=date(2026, 3, 5), prefix="LATER")
    run_campaign(ws, "back", as_of=monday)
    assert {code[:5] for _, _, code in outbox(ws) if code} == {"LATER"}
    with ws.ledger.read() as tx:
        ends = set(tx.execute(sa.text("SELECT max(expires_at) FROM outbox WHERE arm = 'mail'")).scalars())
    assert ends == {"2026-03-06T00:00:00.000000Z"}
    deliver_messages(ws, now=monday + timedelta(days=3), worker="t")
    assert "5 March 2026" in sent_texts(ws)
    assert "6 March 2026" not in sent_texts(ws)


def test_a_pool_that_runs_low_is_said_by_plan_and_status(shop: Shop, monday: datetime) -> None:
    ws = pooled(shop, codes=30)
    planned = plan_campaign(ws, "back", as_of=monday)
    needed = planned.summary["codes"]["spring"]["needed"]
    assert any(f"runs low: {30 - needed}" in warning for warning in planned.summary["warnings"])
    assert show_pools(ws, at=monday)[0]["low"] is False
    apply_plan(ws, planned, now=monday)
    assert show_pools(ws, at=monday) == [
        {"pool": "spring", "free": 30 - needed, "reserved": needed, "expired": 0, "low": True}
    ]


def test_a_code_stands_in_no_log_no_audit_no_plan_and_no_story(
    shop: Shop, monday: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ws = pooled(shop)
    planned = plan_campaign(ws, "back", as_of=monday)
    apply_plan(ws, planned, now=monday)
    deliver_messages(ws, now=monday, worker="t")
    customer = outbox(ws)[0][0]
    story = explain_customer(ws, "back", customer, now=monday)
    release_codes(ws, "spring", now=monday, actor="t")
    with ws.ledger.read() as tx:
        audit = str(tx.execute(sa.text("SELECT * FROM audit")).all())
    assert "SPRING-" not in caplog.text + audit + str(story) + str(planned.summary)
    assert "codes imported" in audit
    assert "a code of its own of pool spring" in str(story)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("code,day\nAAA,2026-01-01\n", r"codes.csv:1: unknown column day"),
        ("AAA\nB B B\n", r"codes.csv:2: expected a code"),
        ("code,expires_on\nAAA,soon\n", r"codes.csv:2: expires_on: expected a day"),
        ("code,expires_on\nAAA\n", r"codes.csv:2: expected 2 columns, got 1"),
        ("\n", "holds no codes"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_its_line_and_imports_nothing(
    shop: Shop, monday: datetime, text: str, said: str
) -> None:
    ws = shop()
    (ws.root / "codes.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CampaignError, match=said) as error:
        import_code_file(ws, "spring", ws.root / "codes.csv", expires_on=None, now=monday, actor="t")
    assert "B B B" not in str(error.value)
    assert show_pools(ws, at=monday) == []


def test_the_shop_can_check_a_code_of_each_kind(shop: Shop, monday: datetime) -> None:
    ws = pooled(shop, codes=1)
    bring_in(ws, 1, expires_on=date(2026, 2, 1), prefix="OVER")
    assert check_code(ws, " spring-00000 ", now=monday) == {
        "known": True,
        "kind": "pool",
        "pool": "spring",
        "offers": ["ten"],
        "reserved": False,
        "expires_at": None,
        "holds": True,
    }
    assert check_code(ws, "OVER-00000", now=monday)["holds"] is False
    assert check_code(ws, "NONSENSE", now=monday) == {"known": False, "kind": None, "offers": []}


def test_a_generated_code_is_told_from_one_with_a_wrong_symbol(shop: Shop, monday: datetime) -> None:
    ws = shop()
    run_campaign(ws, "back", as_of=monday)
    code = outbox(ws)[0][2]
    assert code
    assert check_code(ws, code.lower(), now=monday) == {"known": True, "kind": "generated", "offers": ["ten"]}
    wrong = code[:-1] + ("A" if code[-1] != "A" else "B")
    assert check_code(ws, wrong, now=monday)["known"] is False


def test_two_runs_at_once_stay_within_the_budget_of_discounts(shop: Shop, monday: datetime) -> None:
    """Each of the plans fits into the budget by itself; both together do not."""
    ws = shop(campaign=CAMPAIGN + "budget: {discounts: 12 EUR}\n", customers=120)
    first = plan_campaign(ws, "back", as_of=monday)
    second = plan_campaign(ws, "back", as_of=monday + timedelta(hours=1))
    assert first.plan.discount_liability > 6.0

    def run(planned: PlannedCampaign) -> str:
        try:
            apply_plan(ws, planned, now=planned.as_of)
        except OverBudgetError:
            return "over the budget"
        return "applied"

    assert sorted(together(partial(run, first), partial(run, second))) == ["applied", "over the budget"]
    with ws.ledger.read() as tx:
        assert promised_cost(tx, "back") <= 12_000_000


TIERED = """\
ten:
  kind: tiered
  by: average_order
  least: {big: 23 EUR, small: 0 EUR}
  valid_for: 14 days
  tiers:
    big: {kind: percent_off, percent: 20%, text: twenty off, code: {kind: shared, value: BIG20}, cost: {redeemed: 10%, value: 6 EUR}}
    small: {kind: gift, item: a cup, text: a cup, code: {kind: generated, prefix: CUP}, cost: {redeemed: 5%, value: 2 EUR}}
"""


def tiered(shop: Shop, **options: object) -> Workspace:
    ws = shop(**options)
    (ws.root / "campaigns" / "book" / "offers.yaml").write_text(TIERED, encoding="utf-8")
    (ws.root / "templates" / "sms" / "hello.txt.j2").write_text("{{ offer.tier }}: " + SAYING, encoding="utf-8")
    (ws.root / "templates" / "sms" / "bare.txt.j2").write_text("Hello. Reply STOP to opt out", encoding="utf-8")
    path: Path = ws.root / "campaigns" / "book" / "back.yaml"
    text = CAMPAIGN.replace(
        "steps:\n      - {channel: sms, template: hello}\n", "steps:\n      - {channel: sms, template: bare}\n"
    )
    path.write_text(text, encoding="utf-8")
    return ws


def test_each_customer_gets_the_promise_of_the_own_tier_and_keeps_it_in_the_reminder(
    shop: Shop, monday: datetime
) -> None:
    ws = tiered(shop)
    run_campaign(ws, "back", as_of=monday)
    with ws.ledger.read() as tx:
        query = "SELECT customer_id, step, offer, code FROM outbox WHERE arm = 'mail' ORDER BY customer_id, step"
        rows = tx.execute(sa.text(query)).all()
    for customer, _, offer, code in rows:
        is_big = 20.0 + int(customer[1:]) % 7 >= 23.0
        assert offer == ("ten/big" if is_big else "ten/small")
        assert code == "BIG20" if is_big else str(code).startswith("CUP")
    assert {row.offer for row in rows} == {"ten/big", "ten/small"}
    assert len({(row.customer_id, row.offer, row.code) for row in rows}) == len(rows) / 2


def test_a_customer_who_rises_to_another_tier_is_reminded_of_what_was_promised(shop: Shop, monday: datetime) -> None:
    ws = tiered(shop)
    run_campaign(ws, "back", as_of=monday)
    with ws.ledger.read() as tx:
        small = tx.execute(sa.text("SELECT min(customer_id) FROM outbox WHERE offer = 'ten/small'")).scalar()
    from flows.steps.load_facts import load_facts

    (ws.root / "more.csv").write_text(
        f"order_id,customer_id,ordered_at,amount\nX1,{small},2026-01-02T00:00:00Z,900\n", encoding="utf-8"
    )
    load_facts(ws, "orders", [ws.root / "more.csv"], renames={}, now=monday)
    deliver_messages(ws, now=monday + timedelta(days=3), worker="t")
    with ws.ledger.read() as tx:
        code = tx.execute(sa.text(f"SELECT DISTINCT code FROM outbox WHERE customer_id = '{small}'")).scalar_one()
    assert f"small: a cup {code}" in sent_texts(ws)


def test_the_tiers_are_counted_with_their_own_cost(shop: Shop, monday: datetime) -> None:
    ws = tiered(shop)
    planned = plan_campaign(ws, "back", as_of=monday)
    by_offer = {row["offer"]: row for row in planned.summary["offers"]}
    expected = by_offer["ten/big"]["customers"] * 0.6 + by_offer["ten/small"]["customers"] * 0.1
    assert planned.plan.discount_liability == pytest.approx(expected)
    assert by_offer["ten/big"]["cost"] == f"{by_offer['ten/big']['customers'] * 0.6:.2f} EUR"
    apply_plan(ws, planned, now=monday)
    with ws.ledger.read() as tx:
        assert promised_cost(tx, "back") == round(expected * 1_000_000)


def test_every_tier_is_previewed(shop: Shop, monday: datetime) -> None:
    ws = tiered(shop)
    shown = preview_messages(ws, "back", customer_id="C0001", as_of=monday)
    reminders = {
        entry["tier"]: entry["content"]["body"]
        for entry in shown
        if entry["arm"] == "mail" and entry["channel"] == "sms"
    }
    assert reminders["big"].startswith("big: twenty off BIG20")
    assert reminders["small"].startswith("small: a cup CUP")
