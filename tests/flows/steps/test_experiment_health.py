"""Health: other experiments, strayed and late messages, late orders, the calendar, and the split of every wave."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.settings import SettingsError, read_settings
from flows.steps.deliver_messages import deliver_messages
from flows.steps.load_facts import load_facts
from flows.steps.measure_experiment import measure_experiment
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from warehouse.ledger.experiments import start_experiment
from warehouse.ledger.waves import Wave, record_wave, wave_batches

Shops = Callable[..., Workspace]
DAY = timedelta(days=1)
RIPE = timedelta(days=33)


def measured(ws: Workspace, now: datetime) -> dict[str, Any]:
    return measure_experiment(ws, "back", now=now).to_json()


def take_part_elsewhere(ws: Workspace, members: dict[str, str], at: datetime) -> None:
    """Another campaign's experiment, in which these customers have these arms."""
    import pandas as pd

    from experiments.design import Design

    design = Design(
        experiment_id="rival:1",
        campaign="rival",
        salt="s",
        weights=(("sale", 0.5), ("control", 0.5)),
        primary="repurchase",
        horizon_days=10.0,
    )
    with ws.ledger.begin() as tx:
        start_experiment(tx, design.to_json(), design_hash=design.content_hash(), started_at=at)
    planned = {arm: list(members.values()).count(arm) for arm in ("sale", "control")}
    wave = Wave(
        experiment_id="rival:1",
        as_of=at,
        assigned_at=at,
        plan_hash="p",
        config_hash="c",
        facts_fingerprint="f",
        planned=planned,
    )
    frame = pd.DataFrame({"customer_id": list(members), "arm": list(members.values())})
    record_wave(ws.ledger, wave, wave_batches(frame))


def test_a_healthy_experiment_says_so_in_plain_numbers(round_of: Shops, monday: datetime) -> None:
    health = measured(round_of(customers=200), monday + RIPE)["health"]
    assert health["srm_wave_p"] == pytest.approx(health["srm_p"])
    assert health["crossover"] == health["contamination"] == health["overlap_share"] == 0
    assert health["late_messages"] == health["calendar_events"] == 0
    assert health["overlap_p"] is health["late_orders"] is None


def test_another_experiment_that_draws_by_itself_is_named_and_harmless(
    round_of: Shops, arms_of: Callable[..., dict[str, list[str]]], monday: datetime
) -> None:
    ws = round_of(customers=200)
    everyone = sorted(customer for members in arms_of(ws).values() for customer in members)
    take_part_elsewhere(ws, {c: ("sale", "control")[n % 2] for n, c in enumerate(everyone)}, monday + 5 * DAY)
    found = measured(ws, monday + RIPE)
    (other,) = found["circumstances"]["overlapping"]
    assert other["experiment"] == "rival:1"
    assert other["share"] == pytest.approx(0.5, abs=0.01)
    assert set(other["treated_elsewhere"]) == {"mail", "text", "control"}
    assert found["health"]["overlap_p"] > 0.001


def test_another_experiment_that_follows_our_arms_is_seen(
    round_of: Shops, arms_of: Callable[..., dict[str, list[str]]], monday: datetime
) -> None:
    ws = round_of(customers=200)
    take_part_elsewhere(ws, dict.fromkeys(arms_of(ws)["mail"], "sale"), monday + 5 * DAY)
    found = measured(ws, monday + RIPE)
    assert found["health"]["overlap_p"] < 1e-6
    assert found["circumstances"]["overlapping"][0]["treated_elsewhere"] == {"mail": 1.0, "text": 0.0, "control": 0.0}


def test_an_experiment_whose_window_was_over_does_not_overlap(
    round_of: Shops, arms_of: Callable[..., dict[str, list[str]]], monday: datetime
) -> None:
    ws = round_of(customers=200)
    take_part_elsewhere(ws, dict.fromkeys(arms_of(ws)["mail"], "sale"), monday - 10 * DAY)
    assert measured(ws, monday + RIPE)["circumstances"]["overlapping"] == []


def test_messages_that_missed_their_slot_are_counted(shop: Shops, monday: datetime) -> None:
    ws = shop(customers=60)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday + timedelta(hours=12), worker="test")  # the windows of the day are over
    deliver_messages(ws, now=monday + DAY, worker="test")
    assert measured(ws, monday + 2 * DAY)["health"]["late_messages"] == 1.0


def test_orders_that_came_after_they_were_counted_are_seen(
    round_of: Shops, arms_of: Callable[..., dict[str, list[str]]], monday: datetime
) -> None:
    ws = round_of(customers=200)
    first = measured(ws, monday + RIPE)
    assert measured(ws, monday + RIPE + DAY)["health"]["late_orders"] == 0
    known = sum(first["totals"]["orders"].values())
    path = ws.root / "late.csv"
    path.write_text(
        "order_id,customer_id,ordered_at,amount,margin\n"
        f"L1,{arms_of(ws)['control'][-1]},{(monday + 9 * DAY).isoformat()},30.00,12.00\n",
        encoding="utf-8",
    )
    load_facts(ws, "orders", [path], renames={}, now=monday + RIPE + 2 * DAY)
    late = measured(ws, monday + RIPE + 2 * DAY)["health"]["late_orders"]
    assert late == pytest.approx(1 / (known + 1))


def test_days_of_the_calendar_are_named_where_they_touch_the_window(round_of: Shops, monday: datetime) -> None:
    days = [
        {"name": "sale", "from": date(2026, 3, 30), "to": date(2026, 4, 3)},
        {"name": "outage", "from": date(2026, 4, 2)},
        {"name": "last year", "from": date(2025, 3, 10)},
    ]
    found = measured(round_of(customers=200, calendar=days), monday + RIPE)
    assert found["health"]["calendar_events"] == 1
    assert found["circumstances"]["calendar"] == [{"name": "sale", "from": "2026-03-30", "to": "2026-04-03"}]


def test_the_calendar_stands_in_the_settings_file_and_is_checked(tmp_path: Path) -> None:
    text = '[[calendar]]\nname = "Black Friday"\nfrom = 2026-11-27\nto = 2026-11-30\n'
    (tmp_path / "retain.toml").write_text(text, encoding="utf-8")
    (entry,) = read_settings(tmp_path).calendar
    assert (entry.name, entry.starts_on, entry.ends_on) == ("Black Friday", date(2026, 11, 27), date(2026, 11, 30))
    (tmp_path / "retain.toml").write_text(text.replace("2026-11-30", "2026-11-20"), encoding="utf-8")
    with pytest.raises(SettingsError, match="Black Friday ends on 2026-11-20, before it starts"):
        read_settings(tmp_path)


def test_an_effect_that_another_campaign_takes_away_is_found_by_the_two_by_two(
    shop: Shops,
    arms_of: Callable[..., dict[str, list[str]]],
    answer: Callable[..., None],
    monday: datetime,
) -> None:
    ws = shop(customers=1200)
    run_campaign(ws, "back", as_of=monday)
    deliver_messages(ws, now=monday, worker="test")
    arms = arms_of(ws)
    # every other customer of each arm is treated by the rival: there nobody of mail buys more than control does
    members = {c: ("sale", "control")[n % 2] for arm in arms.values() for n, c in enumerate(arm)}
    take_part_elsewhere(ws, members, monday + DAY)
    sides = {
        arm: {kind: [c for c in customers if members[c] == kind] for kind in ("sale", "control")}
        for arm, customers in arms.items()
    }
    answer(ws, {arm: parts["sale"] for arm, parts in sides.items()}, dict.fromkeys(arms, 0.3), at=monday)
    alone = {arm: parts["control"] for arm, parts in sides.items()}
    answer(ws, alone, {"mail": 0.6, "text": 0.3, "control": 0.3}, at=monday + DAY)
    found = measured(ws, monday + RIPE)
    (other,) = found["circumstances"]["overlapping"]
    by_arm = {row["arm"]: row for row in other["interaction"]}
    assert by_arm["mail"]["difference_treated"] == pytest.approx(0.0, abs=0.02)
    assert by_arm["mail"]["difference_control"] == pytest.approx(0.3, abs=0.02)
    assert by_arm["mail"]["p_adjusted"] < 0.001
    assert by_arm["text"]["p_adjusted"] > 0.05
    assert found["health"]["interaction_p"] == by_arm["mail"]["p_adjusted"]
    assert found["health"]["overlap_p"] > 0.001  # the draws are independent: only the effects are not


def test_too_few_customers_of_another_campaign_are_no_test(
    round_of: Shops, arms_of: Callable[..., dict[str, list[str]]], monday: datetime
) -> None:
    ws = round_of(customers=200)
    everyone = sorted(customer for members in arms_of(ws).values() for customer in members)
    take_part_elsewhere(ws, {c: ("sale", "control")[n % 2] for n, c in enumerate(everyone)}, monday + 5 * DAY)
    found = measured(ws, monday + RIPE)
    assert found["circumstances"]["overlapping"][0]["interaction"] == []
    assert found["health"]["interaction_p"] is None
