"""Other readings of a measurement: survival over all waves, strata of wave, and the effect on the reached."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from flows.steps.decide_experiment import decide_experiment
from flows.steps.deliver_messages import deliver_messages
from flows.steps.gather_report import gather_report
from flows.steps.load_facts import load_facts
from flows.steps.measure_experiment import measure_experiment
from flows.steps.run_campaign import run_campaign
from flows.steps.suppress_customer import suppress_customer
from flows.wiring import Workspace
from warehouse.ledger.results import looks

Arms = dict[str, list[str]]
Shops = Callable[..., Workspace]
Go = Callable[..., Arms]
DAY = timedelta(days=1)
RIPE = timedelta(days=33)
BUYS = {"mail": 0.5, "text": 0.2, "control": 0.2}


@pytest.fixture
def two_waves(shop: Shops, go_round: Go, monday: datetime, rewrite: Callable[..., object]) -> tuple[Workspace, Arms]:
    """Two runs a week apart, 200 customers each; of the second wave twice as many buy. Gives the first wave's arms."""
    ws = shop(customers=400)
    rewrite(ws, "orders >= 2\n", "orders >= 2\n  limit: 200\n")
    first = go_round(ws, monday, BUYS)
    go_round(ws, monday + 7 * DAY, {arm: 2 * share for arm, share in BUYS.items()}, number=1)
    return ws, first


def test_survival_follows_every_wave_the_immature_ones_up_to_where_the_facts_are_complete(
    two_waves: tuple[Workspace, Arms], monday: datetime
) -> None:
    ws, first = two_waves
    measured = measure_experiment(ws, "back", now=monday + 18 * DAY).to_json()
    survival = measured["survival"]
    assert {arm["mature"] for arm in measured["arms"].values()} == {0}
    assert survival["waves"] == 2
    assert survival["arms"]["mail"]["n"] == measured["arms"]["mail"]["assigned"]
    # facts are complete until day 15: the second wave has been followed for 8 days, and its purchases are on the 7th
    assert survival["arms"]["mail"]["events"] > round(0.5 * len(first["mail"]))
    points = {point["day"]: point for point in survival["arms"]["mail"]["points"]}
    assert points[7]["away"] == 1.0
    assert points[7]["low"] is None
    assert points[10]["low"] < points[10]["away"] < points[10]["high"]
    assert max(points) <= 15


def test_the_log_rank_test_and_restricted_means_tell_the_arms_apart(
    two_waves: tuple[Workspace, Arms], monday: datetime
) -> None:
    ws, _ = two_waves
    survival = measure_experiment(ws, "back", now=monday + 40 * DAY).to_json()["survival"]
    assert survival["horizon_days"] == 30
    assert survival["log_rank"]["p_value"] < 0.001
    by_arm = {result["arm"]: result for result in survival["rmst"]}
    assert by_arm["mail"]["high"] < 0  # they came back sooner: fewer days away
    assert by_arm["text"]["low"] < 0 < by_arm["text"]["high"]


def test_nobody_followed_for_a_day_has_no_curve(shop: Shops, monday: datetime) -> None:
    ws = shop(customers=20)
    run_campaign(ws, "back", as_of=monday)
    assert measure_experiment(ws, "back", now=monday + DAY).to_json()["survival"] is None


def test_effects_are_put_together_over_the_waves_beside_the_plain_ones(
    two_waves: tuple[Workspace, Arms], monday: datetime
) -> None:
    ws, _ = two_waves
    one = measure_experiment(ws, "back", now=monday + RIPE).to_json()
    assert [wave["mature"] for wave in one["waves"]] == [True, False]
    assert one["stratified"] == []
    both = measure_experiment(ws, "back", now=monday + RIPE + 7 * DAY).to_json()
    row = find(both["stratified"], "repurchase", "mail")
    plain = next(r for r in both["results"] if (r["metric"], r["arm"]) == ("repurchase", "mail"))
    assert row["strata"] == 2
    assert row["plain_difference"] == pytest.approx(plain["difference"])
    sizes = [wave["assigned"]["mail"] + wave["assigned"]["control"] for wave in both["waves"]]
    expected = (0.3 * sizes[0] + 0.6 * sizes[1]) / sum(sizes)  # 50 % less 20 %, and 100 % less 40 %
    assert row["difference"] == pytest.approx(expected, abs=0.02)  # some 30 customers of control a wave
    assert row["se"] < plain["se"]  # the waves differ, and that difference is no noise any more
    assert row["cmh_p_value"] < 0.001


def test_where_messages_did_not_arrive_the_effect_on_the_reached_stands_beside_the_effect_of_intent(
    shop: Shops, arms_of: Callable[..., Arms], answer: Callable[..., None], monday: datetime
) -> None:
    ws = shop(customers=300)
    run_campaign(ws, "back", as_of=monday)
    arms = arms_of(ws)
    lost = arms["text"][: len(arms["text"]) // 2]
    for customer in lost:
        suppress_customer(ws, customer, channel="sms", reason="manual", by="test", at=monday)
    deliver_messages(ws, now=monday, worker="test")
    deliver_messages(ws, now=monday + 3 * DAY, worker="test")
    answer(ws, arms | {"text": arms["text"][len(lost) :]}, {"mail": 0.5, "text": 0.6, "control": 0.2}, at=monday)
    measured = measure_experiment(ws, "back", now=monday + RIPE).to_json()
    row = find(measured["cace"], "repurchase", "text")
    intent = next(r for r in measured["results"] if (r["metric"], r["arm"]) == ("repurchase", "text"))
    assert row["reached"] == pytest.approx(0.5, abs=0.02)
    assert row["itt"] == pytest.approx(intent["difference"])
    assert row["effect"] == pytest.approx(intent["difference"] / row["reached"])
    assert row["low"] < row["effect"] < row["high"]


def test_where_every_message_arrived_there_is_only_the_effect_of_intent(round_of: Shops, monday: datetime) -> None:
    ws = round_of(customers=200)
    assert measure_experiment(ws, "back", now=monday + RIPE).to_json()["cace"] == []


def test_a_report_holds_the_curves(round_of: Shops, monday: datetime) -> None:
    ws = round_of(customers=200)
    assert gather_report(ws, "back", now=monday + RIPE)["survival"]["arms"]["control"]["points"]


def test_measuring_every_day_spends_no_look_and_deciding_between_looks_neither(
    round_of: Shops, monday: datetime
) -> None:
    ws = round_of(customers=200)
    for day in range(1, 33, 4):
        measure_experiment(ws, "back", now=monday + day * DAY)
    assert decide_experiment(ws, "back", now=monday + 32 * DAY).verdict.verdict == "keep_testing"
    with ws.ledger.read() as tx:
        assert looks(tx, "back:1") == []


def find(rows: list[dict[str, Any]], metric: str, arm: str) -> dict[str, Any]:
    return next(row for row in rows if (row["metric"], row["arm"]) == (metric, arm))


def test_money_is_capped_at_one_quantile_of_all_arms_beside_the_plain_result(
    shop: Shops, go_round: Go, answer: Callable[..., None], monday: datetime, rewrite: Callable[..., object]
) -> None:
    ws = shop(customers=400)
    rewrite(ws, "  minimum_effect: 10pp\n", "  minimum_effect: 10pp\n  winsorise: 99%\n")
    arms = go_round(ws, monday, BUYS)
    huge = ws.root / "huge.csv"
    bought_at = (monday + 5 * DAY).isoformat()
    huge.write_text(
        f"order_id,customer_id,ordered_at,amount,margin\nH1,{arms['text'][0]},{bought_at},9000.00,4000.00\n",
        encoding="utf-8",
    )
    load_facts(ws, "orders", [huge], renames={}, now=monday + 8 * DAY)
    measured = measure_experiment(ws, "back", now=monday + RIPE).to_json()
    capped = measured["winsorised"]
    assert capped["quantile"] == 0.99
    assert capped["caps"] == {"revenue": 30.0, "margin": 12.0}  # 99 % of all 400 spent no more
    assert capped["customers"] == {"revenue": 1, "margin": 1}
    plain = find(measured["results"], "revenue", "text")
    beside = find(capped["results"], "revenue", "text")
    assert plain["high"] - plain["low"] > 10 * (beside["high"] - beside["low"])
    assert beside["low"] < 0 < beside["high"]
    assert find(capped["results"], "margin", "mail")["low"] > 0


def test_time_to_repurchase_is_a_metric_that_a_file_may_report(
    shop: Shops, go_round: Go, monday: datetime, rewrite: Callable[..., object]
) -> None:
    ws = shop(customers=400)
    rewrite(ws, "metrics: [revenue,", "metrics: [time_to_repurchase, revenue,")
    go_round(ws, monday, BUYS)
    early = measure_experiment(ws, "back", now=monday + 2 * DAY).to_json()
    assert find(early["results"], "time_to_repurchase", "mail")["status"] == "not_measured"
    measured = measure_experiment(ws, "back", now=monday + RIPE).to_json()
    row = find(measured["results"], "time_to_repurchase", "mail")
    assert row == find(measured["survival"]["rmst"], "time_to_repurchase", "mail")
    assert (row["kind"], row["status"]) == ("survival", "relative_undefined")
    assert row["high"] < 0  # they came back sooner
    assert len(measured["survival"]["arms"]["mail"]["curve"]) == 30
    decided = decide_experiment(ws, "back", now=monday + RIPE)
    assert [r for r in decided.verdict.reasons if r.metric == "time_to_repurchase" and r.passed is False] == []
