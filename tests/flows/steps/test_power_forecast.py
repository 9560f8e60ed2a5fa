"""Power before a run: what guardrails need, how fast the segment fills, and what is out of reach is said or refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from campaigns.errors import CampaignError
from flows.steps.plan_campaign import plan_campaign
from flows.steps.run_campaign import run_campaign
from flows.steps.show_power import show_power
from flows.steps.suppress_customer import suppress_customer
from flows.wiring import Workspace
from warehouse.ledger.experiments import current_experiment

Shops = Callable[..., Workspace]
DAY = timedelta(days=1)

CAMPAIGN = """\
campaign: back
status: active
schedule: {cron: "0 9 * * 1", timezone: UTC}
audience: {segment: recency_days >= 30 and orders >= 2}
experiment:
  control: 50%
  horizon: 30 days
  primary: repurchase
  guardrails: {unsubscribed: {max_increase: 0.5pp}, orders: {max_decrease: 50%}}
  minimum_effect: 10pp
arms:
  text: {weight: 50%, steps: [{channel: sms, template: hello}]}
"""


@pytest.fixture
def filling(shop: Shops, monday: datetime) -> Callable[..., Workspace]:
    """Makes a shop of 400: 60 came into the segment within 30 days, 20 of those in it before have bought since."""

    def make(campaign: str = CAMPAIGN, **options: Any) -> Workspace:
        bought = {n: [(monday - 35 * DAY, 9.0)] for n in range(60)}
        bought |= {n: [(monday - 10 * DAY, 9.0)] for n in range(60, 80)}
        return shop(customers=400, campaign=campaign, bought=bought, **options)

    return make


def test_a_plan_tells_what_every_guardrail_needs(filling: Shops, monday: datetime) -> None:
    power = plan_campaign(filling(), "back", as_of=monday).summary["power"]
    unsubscribed, orders = power["guardrails"]
    # z(0.95) + z(0.8) = 2.4865: 2.4865**2 * 0.003 * 0.997 * 2 / 0.005**2
    assert (unsubscribed["baseline"], unsubscribed["margin"]) == (0.003, 0.005)
    assert unsubscribed["needed_per_arm"] == 1480
    assert orders["baseline"] == pytest.approx(20 / 340)
    assert orders["margin"] == pytest.approx(10 / 340)
    assert power["needed_customers"] == 2 * max(power["needed_per_arm"], 1480, orders["needed_per_arm"])


def test_the_day_of_the_decision_follows_from_what_comes_in(filling: Shops, monday: datetime) -> None:
    planned = plan_campaign(filling(), "back", as_of=monday)
    power = planned.summary["power"]
    assert planned.summary["eligible"] == 380
    assert power["inflow_per_day"] == pytest.approx(2.0)
    assert power["days_to_decision"] == pytest.approx((power["needed_customers"] - 380) / 2.0 + 33)
    assert any(text.startswith("underpowered: unsubscribed needs") for text in planned.summary["warnings"])


def test_a_limit_slows_the_decision_down(filling: Shops, monday: datetime) -> None:
    campaign = CAMPAIGN.replace("orders >= 2}", "orders >= 2, limit: 7}").replace("10pp", "20pp")
    campaign = campaign.replace("unsubscribed: {max_increase: 0.5pp}, orders: {max_decrease: 50%}", "")
    power = plan_campaign(filling(campaign), "back", as_of=monday).summary["power"]
    assert power["guardrails"] == []
    assert power["days_to_decision"] == pytest.approx((power["needed_customers"] - 7) / 1.0 + 33)  # 7 a week


def test_without_a_schedule_one_run_must_do(filling: Shops, monday: datetime) -> None:
    campaign = CAMPAIGN.replace('schedule: {cron: "0 9 * * 1", timezone: UTC}\n', "")
    said = plan_campaign(filling(campaign), "back", as_of=monday).summary["warnings"]
    assert any("this run makes it 380, and no schedule repeats it" in text for text in said)
    easy = campaign.replace("10pp", "20pp").replace("0.5pp", "5pp").replace("50%}}", "400%}}")
    said = plan_campaign(filling(easy, name="easy"), "back", as_of=monday).summary["warnings"]
    assert not any("underpowered" in text for text in said)


def test_what_is_out_of_reach_is_refused_where_the_settings_say_so(filling: Shops, monday: datetime) -> None:
    ws = filling(measurement={"underpowered": "refuse"})
    with pytest.raises(CampaignError, match="back is underpowered: unsubscribed needs 2,960 customers, which the seg"):
        run_campaign(ws, "back", as_of=monday)
    assert show_power(ws, "back", as_of=monday)["guardrails"][0]["needed_per_arm"] == 1480  # asking is not refused
    with ws.ledger.read() as tx:
        assert current_experiment(tx, "back") is None
    promoted = CAMPAIGN.replace("  minimum_effect: 10pp\n", "  minimum_effect: 10pp\n  expected_lift: 12pp\n")
    holdback = filling(promoted, name="promoted", measurement={"underpowered": "refuse"})
    assert run_campaign(holdback, "back", as_of=monday).eligible == 380


def test_rates_are_the_ledgers_own_once_it_knows_enough(round_of: Shops, monday: datetime) -> None:
    ws = round_of()
    guard = plan_campaign(ws, "back", as_of=monday + 100 * DAY).summary["power"]["guardrails"][0]
    assert guard["baseline"] == 0.003  # nobody unsubscribed yet: the usual rate stays
    for number in range(20):
        suppress_customer(ws, f"C{number:04d}", channel="sms", reason="stop", by="test", at=monday + DAY)
    guard = plan_campaign(ws, "back", as_of=monday + 100 * DAY).summary["power"]["guardrails"][0]
    assert 0.006 < guard["baseline"] < 0.012


def test_the_frozen_sizes_are_those_that_the_primary_and_every_guardrail_need(filling: Shops, monday: datetime) -> None:
    ws = filling()
    power = plan_campaign(ws, "back", as_of=monday).summary["power"]
    own = {guard["metric"]: guard["needed_per_arm"] for guard in power["guardrails"]}
    assert max(own.values()) > power["needed_per_arm"]  # half a point of unsubscribes takes more than ten of purchases
    run_campaign(ws, "back", as_of=monday)
    with ws.ledger.read() as tx:
        row = current_experiment(tx, "back")
    assert row is not None
    assert row.design["planned_n"] == max(own.values())
    assert dict(row.design["guardrail_n"]) == own


def test_plan_and_power_say_from_which_effect_on_a_promotion_is_as_likely_as_planned(
    filling: Shops, monday: datetime
) -> None:
    ws = filling()
    shown = show_power(ws, "back", as_of=monday, baseline=0.2, customers=2 * 294)  # what 80 % power at 10 points needs
    assert shown["power"] == pytest.approx(0.8, abs=0.01)
    assert shown["promoted_from"] == pytest.approx(1.3 * shown["minimum_effect"], rel=0.02)
    many = show_power(ws, "back", as_of=monday, baseline=0.2, customers=200_000)
    assert 1.0 < many["promoted_from"] / many["minimum_effect"] < 1.03
    few = show_power(ws, "back", as_of=monday, baseline=0.2, customers=100)
    assert few["promoted_from"] == pytest.approx(few["detectable"], rel=0.01)
    assert plan_campaign(ws, "back", as_of=monday).summary["power"]["promoted_from"] > 0.1
