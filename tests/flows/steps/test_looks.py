"""Looks: only a planned one can decide and is spent once; harm may stop an experiment on any day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from flows.steps.decide_experiment import decide_experiment
from flows.steps.deliver_messages import deliver_messages
from flows.steps.measure_experiment import measure_experiment
from flows.steps.run_campaign import run_campaign
from flows.steps.suppress_customer import suppress_customer
from flows.wiring import Workspace
from warehouse.ledger.results import decisions, looks

Arms = dict[str, list[str]]
Shops = Callable[..., Workspace]
DAY = timedelta(days=1)
RIPE = timedelta(days=33)

TWO_LOOKS = """\
campaign: back
status: active
audience: {segment: orders >= 2, limit: 1000}
experiment:
  control: 40%
  horizon: 30 days
  primary: repurchase
  guardrails: {unsubscribed: {max_increase: 2pp}}
  minimum_effect: 1pp
  looks: 2
arms:
  text: {weight: 60%, steps: [{channel: sms, template: hello}]}
feedback: {mode: apply}
"""


def taken(ws: Workspace) -> list[int]:
    with ws.ledger.read() as tx:
        return [look.look for look in looks(tx, "back:1")]


def recorded(ws: Workspace) -> list[str]:
    with ws.ledger.read() as tx:
        return [row.verdict for row in decisions(tx, "back:1")]


def test_a_look_is_spent_when_it_is_due_and_only_then(
    shop: Shops, answer: Callable[..., None], arms_of: Callable[..., Arms], monday: datetime
) -> None:
    ws = shop(customers=2000, campaign=TWO_LOOKS)
    nobody_differs = {"text": 0.1, "control": 0.1}
    for number, at in enumerate((monday, monday + 14 * DAY)):
        run_campaign(ws, "back", as_of=at)
        deliver_messages(ws, now=at, worker="test")
        answer(ws, arms_of(ws, number=number), nobody_differs, at=at)
    for day in range(1, 33, 8):
        measure_experiment(ws, "back", now=monday + day * DAY)
        assert decide_experiment(ws, "back", now=monday + day * DAY).verdict.verdict == "keep_testing"
    assert taken(ws) == []
    first = decide_experiment(ws, "back", now=monday + RIPE)  # the first wave is half of what was planned
    assert first.verdict.verdict == "keep_testing"
    assert taken(ws) == [1]
    for day in (1, 5, 13):
        between = decide_experiment(ws, "back", now=monday + RIPE + day * DAY)
        assert between.verdict.verdict == "keep_testing"
        unplanned = next(reason for reason in between.verdict.reasons if reason.code == "information")
        assert unplanned.passed is False
    assert taken(ws) == [1]
    last = decide_experiment(ws, "back", now=monday + RIPE + 14 * DAY)
    assert taken(ws) == [1, 2]
    assert last.verdict.verdict != "keep_testing"
    assert decide_experiment(ws, "back", now=monday + RIPE + 15 * DAY).decided_before


def test_an_unplanned_measurement_is_shown_and_decides_nothing_however_clear_it_is(
    shop: Shops, answer: Callable[..., None], arms_of: Callable[..., Arms], monday: datetime
) -> None:
    ws = shop(customers=2000, campaign=TWO_LOOKS.replace("looks: 2", "looks: 1"))
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    answer(ws, arms_of(ws), {"text": 0.9, "control": 0.1}, at=monday)
    shown = measure_experiment(ws, "back", now=monday + RIPE).to_json()
    clear = next(r for r in shown["results"] if r["metric"] == "repurchase")
    assert clear["p_value"] < 1e-6
    assert decide_experiment(ws, "back", now=monday + RIPE).verdict.verdict == "keep_testing"
    assert taken(ws) == []


def test_harm_stops_an_experiment_on_any_day_and_spends_no_look(
    shop: Shops, arms_of: Callable[..., Arms], monday: datetime
) -> None:
    ws = shop(customers=2000, campaign=TWO_LOOKS)
    run_campaign(ws, "back", as_of=monday)
    assert decide_experiment(ws, "back", now=monday + DAY).verdict.verdict == "keep_testing"
    for customer in arms_of(ws)["text"][:150]:
        suppress_customer(ws, customer, channel="sms", reason="stop", by="test", at=monday + 2 * DAY)
    stopped = decide_experiment(ws, "back", now=monday + 3 * DAY)  # long before anything is mature
    assert (stopped.verdict.verdict, stopped.verdict.arm) == ("stop_harm", "text")
    assert taken(ws) == []
    assert recorded(ws) == ["keep_testing", "stop_harm"]
    assert ws.campaign("back").campaign.status == "paused"
