"""Loyalty points: earned once, taken back with the order, frozen, run out, handed on in exactly one file."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from campaigns.errors import CampaignError
from campaigns.offer_terms import Points
from campaigns.points import points_of_order
from flows.steps.export_points import export_points
from flows.steps.post_points import balance_of, freeze_points, post_points
from flows.wiring import Workspace
from tests.together import together
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.points import balances, postings_of

from .conftest import read_arms
from .test_offer_kinds import COST, campaign_shop, order, run

Shop = Callable[..., Workspace]
TRIPLE = f"kind: points, multiplier: 3, {COST}"
BONUS = f"kind: points, bonus: 500, code: {{kind: shared, value: SPRING}}, {COST}"


def points_shop(shop: Shop, monday: datetime, offer: str) -> tuple[Workspace, list[str]]:
    """A delivered campaign of points, and the customers who were promised them."""
    ws = campaign_shop(shop, offer)
    return ws, sorted(run(ws, monday))


def balance(ws: Workspace, customer: str, at: datetime) -> int:
    return int(balance_of(ws, customer, now=at)["balance"])


def test_a_multiplier_earns_what_is_above_the_usual_points_once_for_each_order(shop: Shop, monday: datetime) -> None:
    ws, (first, second, *_) = points_shop(shop, monday, TRIPLE)
    later = monday + timedelta(days=20)
    at = monday + timedelta(days=5)
    order(ws, [("P1", first, at, 30.0, None), ("P2", first, at, 9.99, None), ("P3", second, at, 10.0, None)])
    order(ws, [("P4", first, monday + timedelta(days=15), 50.0, None)])  # the offer held for 14 days
    order(ws, [("P5", read_arms(ws)["control"][0], at, 50.0, None)])
    done = post_points(ws, now=later)
    assert (done.new, done.points) == ({"multiplier": 3}, 60 + 19 + 20)
    assert post_points(ws, now=later).new == {}
    assert (balance(ws, first, later), balance(ws, second, later)) == (79, 20)
    with ws.ledger.read() as tx:
        assert balances(postings_of(tx)) == {first: 79, second: 20}


def test_a_bonus_is_earned_once_by_the_first_order_with_the_code(shop: Shop, monday: datetime) -> None:
    ws, (first, second, *_) = points_shop(shop, monday, BONUS)
    at = monday + timedelta(days=5)
    order(ws, [("P1", first, at, 30.0, "spring "), ("P2", first, at, 30.0, "SPRING"), ("P3", second, at, 30.0, None)])
    for _ in range(2):
        post_points(ws, now=at + timedelta(days=1))
    assert (balance(ws, first, at + timedelta(days=1)), balance(ws, second, at + timedelta(days=1))) == (500, 0)


def test_a_bonus_by_the_message_is_given_to_those_whom_it_reached(shop: Shop, monday: datetime) -> None:
    ws, customers = points_shop(shop, monday, f"kind: points, bonus: 50, earned: message, {COST}")
    with ws.ledger.begin() as tx:
        lost = {"c": customers[0]}
        tx.execute(sa.text("UPDATE outbox SET state = 'failed', reason = 'x' WHERE customer_id = :c"), lost)
    assert post_points(ws, now=monday + timedelta(days=4)).new == {"bonus": len(customers) - 1}
    assert balance(ws, customers[0], monday + timedelta(days=4)) == 0


def test_an_order_that_comes_to_nothing_takes_its_points_back_once(shop: Shop, monday: datetime) -> None:
    ws, (first, second, *_) = points_shop(shop, monday, TRIPLE)
    at = monday + timedelta(days=5)
    order(ws, [("P1", first, at, 30.0, None), ("P2", second, at, 40.0, None)])
    post_points(ws, now=at + timedelta(days=1))
    order(ws, [("P1", first, at, 30.0, None)], status="refunded")
    order(ws, [("P2-back", second, at + timedelta(days=2), -15.0, None)])
    assert post_points(ws, now=at + timedelta(days=4)).new == {"refund": 2}
    assert post_points(ws, now=at + timedelta(days=5)).new == {}
    assert (balance(ws, first, at + timedelta(days=5)), balance(ws, second, at + timedelta(days=5))) == (0, 50)


def test_a_bonus_goes_when_its_order_is_given_back_whole_and_stays_for_a_part(shop: Shop, monday: datetime) -> None:
    ws, (first, second, *_) = points_shop(shop, monday, BONUS)
    at = monday + timedelta(days=5)
    order(ws, [("P1", first, at, 30.0, "SPRING"), ("P2", second, at, 30.0, "SPRING")])
    post_points(ws, now=at + timedelta(days=1))
    back = at + timedelta(days=2)
    order(ws, [("B1", first, back, -30.0, None), ("B2", second, back, -10.0, None)])
    post_points(ws, now=back + timedelta(days=2))
    assert (balance(ws, first, back + timedelta(days=2)), balance(ws, second, back + timedelta(days=2))) == (0, 500)


def test_a_refund_of_an_order_that_earned_nothing_takes_nothing(shop: Shop, monday: datetime) -> None:
    ws, (first, *_) = points_shop(shop, monday, TRIPLE)
    at = monday + timedelta(days=5)
    order(ws, [("P1", first, at, 30.0, None), ("OLD-back", first, at + timedelta(days=1), -80.0, None)])
    assert post_points(ws, now=at + timedelta(days=3)).new == {"multiplier": 1}


def test_points_run_out_without_those_that_were_taken_back(shop: Shop, monday: datetime) -> None:
    ws, (first, *_) = points_shop(shop, monday, f"{TRIPLE}, expire_after: 60 days")
    at = monday + timedelta(days=5)
    order(ws, [("P1", first, at, 30.0, None)])
    post_points(ws, now=at + timedelta(days=1))
    order(ws, [("B1", first, at + timedelta(days=2), -10.0, None)])
    assert post_points(ws, now=at + timedelta(days=59)).new == {"refund": 1}
    assert post_points(ws, now=at + timedelta(days=60)).new == {"expiry": 1}
    assert post_points(ws, now=at + timedelta(days=90)).new == {}
    assert balance(ws, first, at + timedelta(days=90)) == 0


def test_a_frozen_customer_is_posted_and_exported_only_after_going_on(shop: Shop, monday: datetime) -> None:
    ws, (first, second, *_) = points_shop(shop, monday, TRIPLE)
    at = monday + timedelta(days=5)
    order(ws, [("P1", first, at, 30.0, None), ("P2", second, at, 30.0, None)])
    later = at + timedelta(days=1)
    assert freeze_points(ws, first, frozen=True, by="t", reason="fraud?", now=later)
    assert not freeze_points(ws, first, frozen=True, by="t", reason="fraud?", now=later)
    done = post_points(ws, now=later)
    assert (done.new, done.frozen) == ({"multiplier": 1}, 1)
    assert export_points(ws, ws.root / "one.csv", now=later, actor="t")["postings"] == 1
    freeze_points(ws, first, frozen=False, by="t", reason="cleared", now=later)
    assert post_points(ws, now=later).new == {"multiplier": 1}
    assert balance_of(ws, first, now=later)["not_exported"] == 60
    assert export_points(ws, ws.root / "two.csv", now=later, actor="t")["postings"] == 1


def read_keys(ws: Workspace, name: str) -> list[str]:
    with (ws.root / name).open(encoding="utf-8", newline="") as file:
        return [row["posting_key"] for row in csv.DictReader(file)]


def test_every_posting_is_in_exactly_one_file_even_after_a_crash(
    shop: Shop, monday: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, customers = points_shop(shop, monday, TRIPLE)
    at = monday + timedelta(days=5)
    later = at + timedelta(days=1)
    order(ws, [(f"P{n}", customer, at, 30.0, None) for n, customer in enumerate(customers[:6])])
    post_points(ws, now=later)
    for place in ("_write_whole", "finish_export"):  # before the file, and between the file and its being known
        with monkeypatch.context() as patch:
            patch.setattr(
                f"flows.steps.export_points.{place}", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                export_points(ws, ws.root / "one.csv", now=later, actor="t")
    order(ws, [("Q1", customers[7], at, 30.0, None)])
    post_points(ws, now=later)
    with pytest.raises(LedgerError, match="finish it first: retain points export"):
        export_points(ws, ws.root / "two.csv", now=later, actor="t")
    done = export_points(ws, ws.root / "one.csv", now=later, actor="t")
    assert (done["resumed"], done["postings"], done["points"]) == (True, 6, 360)
    assert export_points(ws, ws.root / "two.csv", now=later, actor="t")["postings"] == 1
    assert len(set(read_keys(ws, "one.csv") + read_keys(ws, "two.csv"))) == 7
    assert export_points(ws, ws.root / "three.csv", now=later, actor="t")["postings"] == 0


def test_a_file_that_is_there_already_is_left_alone(shop: Shop, monday: datetime) -> None:
    ws, _ = points_shop(shop, monday, TRIPLE)
    (ws.root / "one.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(CampaignError, match="exists already; name a new file"):
        export_points(ws, ws.root / "one.csv", now=monday, actor="t")
    assert (ws.root / "one.csv").read_text(encoding="utf-8") == "mine"
    assert export_points(ws, ws.root / "two.csv", now=monday, actor="t")["export"] == 1


def test_posting_at_the_same_time_posts_once(shop: Shop, monday: datetime) -> None:
    ws, customers = points_shop(shop, monday, TRIPLE)
    at = monday + timedelta(days=5)
    order(ws, [(f"P{n}", customer, at, 30.0, None) for n, customer in enumerate(customers[:5])])
    together(*[partial(post_points, ws, now=at + timedelta(days=1))] * 3)
    with ws.ledger.read() as tx:
        assert balances(postings_of(tx)) == dict.fromkeys(customers[:5], 60)


def test_a_posting_cannot_be_changed_or_removed_even_by_hand(shop: Shop, monday: datetime) -> None:
    ws, (first, *_) = points_shop(shop, monday, TRIPLE)
    at = monday + timedelta(days=5)
    order(ws, [("P1", first, at, 30.0, None)])
    post_points(ws, now=at + timedelta(days=1))
    for statement in ("UPDATE point_postings SET points = 1000", "DELETE FROM point_postings"):
        with pytest.raises(LedgerError, match="point_postings"), ws.ledger.begin() as tx:
            tx.execute(sa.text(statement))


@pytest.mark.parametrize(
    ("multiplier", "amount", "points"), [(2.0, 10.0, 10), (1.1, 30.0, 3), (1.5, 9.99, 4), (3.0, 0.0, 0), (2.0, 0.5, 0)]
)
def test_points_above_the_usual_are_rounded_down(multiplier: float, amount: float, points: int) -> None:
    cost = {"redeemed": "1%", "value": "1 EUR"}
    terms = Points.model_validate({"kind": "points", "text": "t", "cost": cost, "multiplier": multiplier})
    assert points_of_order(terms, amount, per_hundred=100, first=False) == points
