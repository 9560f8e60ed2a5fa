"""Effects by segments named beforehand: told by features of the assignment's day, believed only where Q says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from flows.steps.measure_experiment import measure_experiment
from flows.steps.run_campaign import run_campaign
from flows.steps.uplift_ranking import Halves, rank_uplift
from flows.wiring import Workspace

Arms = dict[str, list[str]]
Shops = Callable[..., Workspace]
DAY = timedelta(days=1)
RIPE = timedelta(days=33)

WITH_SEGMENTS = """\
campaign: back
status: active
audience:
  segment: recency_days >= 60 and orders >= 2
experiment:
  control: 50%
  horizon: 30 days
  primary: repurchase
  minimum_effect: 10pp
  segments: [club, rfm_m]
arms:
  mail:
    weight: 50%
    steps:
      - {channel: sms, template: hello}
"""


def buyers(arms: Arms, shares: dict[tuple[str, str], float]) -> Arms:
    """So many of each arm and club, evenly spread over the ids: (arm, club) -> share."""
    chosen: Arms = {}
    for (arm, club), share in shares.items():
        members = [c for c in arms[arm] if ("gold", "plain")[int(c[1:]) % 2] == club]
        chosen.setdefault(arm, []).extend(m for i, m in enumerate(members) if int((i + 1) * share) > int(i * share))
    return chosen


Measure = Callable[[Workspace, dict[tuple[str, str], float]], list[dict[str, Any]]]


@pytest.fixture
def segments_of(arms_of: Callable[..., Arms], answer: Callable[..., None], monday: datetime) -> Measure:
    """Runs the campaign, lets (arm, club) -> share buy, and gives the measured segments."""

    def measure(ws: Workspace, shares: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
        run_campaign(ws, "back", as_of=monday)
        answer(ws, buyers(arms_of(ws), shares), {"mail": 1.0, "control": 1.0}, at=monday)
        found: list[dict[str, Any]] = measure_experiment(ws, "back", now=monday + RIPE).to_json()["segments"]
        return found

    return measure


def test_segments_whose_effects_differ_are_told_apart(shop: Shops, segments_of: Measure) -> None:
    ws = shop(customers=1600, campaign=WITH_SEGMENTS)
    shares = {("mail", "gold"): 0.6, ("control", "gold"): 0.2, ("mail", "plain"): 0.1, ("control", "plain"): 0.1}
    report = next(r for r in segments_of(ws, shares) if r["feature"] == "club")
    assert report["differ"]
    assert report["p_adjusted"] < 0.001
    assert report["best"] == "gold"
    by_segment = {effect["segment"]: effect for effect in report["effects"]}
    assert by_segment["gold"]["group"] == "persuadables"
    assert by_segment["gold"]["difference"] == pytest.approx(0.4, abs=0.01)
    assert by_segment["plain"]["group"] == "lost_causes"
    assert by_segment["gold"]["n_arm"] + by_segment["gold"]["n_control"] == 800
    assert report["uplift"]["scores"]["gold"] > report["uplift"]["scores"]["plain"] + 0.2
    assert report["uplift"]["qini"] > 0.2


def test_without_a_difference_nobody_is_singled_out_however_large_the_effects(
    shop: Shops, segments_of: Measure
) -> None:
    ws = shop(customers=400, campaign=WITH_SEGMENTS)
    shares = {(arm, club): 0.6 if arm == "mail" else 0.1 for arm in ("mail", "control") for club in ("gold", "plain")}
    reports = segments_of(ws, shares)
    assert {report["feature"] for report in reports} == {"club", "rfm_m"}
    for report in reports:
        assert not report["differ"]
        assert report["best"] is None
        assert {effect["group"] for effect in report["effects"]} == {"unknown"}
        assert report["uplift"] is None  # too few to test a ranking
    quintiles = next(report for report in reports if report["feature"] == "rfm_m")["effects"]
    assert [effect["segment"] for effect in quintiles] == ["1", "2", "3", "4", "5"]


def test_a_feature_is_that_of_the_assignment_not_what_became_of_it(shop: Shops, segments_of: Measure) -> None:
    ws = shop(customers=400, campaign=WITH_SEGMENTS.replace("[club, rfm_m]", "[rfm_r]"))
    (report,) = segments_of(ws, {("mail", "gold"): 1.0, ("control", "gold"): 0.0})
    # everybody had bought last on one day, so that the quintiles go by id and each holds as many of both clubs;
    # those who bought since would all be in the best one
    assert {round(effect["difference"], 1) for effect in report["effects"]} == {0.5}


def test_segments_named_after_the_start_are_not_looked_at(
    shop: Shops, rewrite: Callable[..., Any], monday: datetime
) -> None:
    ws = shop(customers=100, campaign=WITH_SEGMENTS.replace("  segments: [club, rfm_m]\n", ""))
    run_campaign(ws, "back", as_of=monday)
    rewrite(ws, "  minimum_effect: 10pp\n", "  minimum_effect: 10pp\n  segments: [club]\n")
    measured = measure_experiment(ws, "back", now=monday + RIPE).to_json()
    assert measured["segments"] == []
    assert measured["experiment"] == "back:1"


def test_a_ranking_is_tested_on_the_customers_it_was_not_made_from() -> None:
    large = {False: Halves(500, 250, 500, 50), True: Halves(500, 240, 500, 60)}
    none = {False: Halves(500, 50, 500, 50), True: Halves(500, 55, 500, 45)}
    found = rank_uplift({"a": large, "b": none})
    assert found is not None
    assert found["n"] == 2000
    assert found["scores"] == {"a": 0.4, "b": 0.0}
    assert found["qini"] > 0
    turned = rank_uplift({"a": {False: large[False], True: none[True]}, "b": {False: none[False], True: large[True]}})
    assert turned is not None
    assert turned["qini"] < 0


def test_a_segment_too_small_for_an_effect_of_its_own_is_ranked_by_that_of_everybody() -> None:
    large = {False: Halves(500, 250, 500, 50), True: Halves(500, 250, 500, 50)}
    small = {False: Halves(20, 20, 20, 0), True: Halves(20, 20, 20, 0)}
    none = {False: Halves(500, 50, 500, 50), True: Halves(500, 50, 500, 50)}
    found = rank_uplift({"large": large, "small": small, "none": none})
    assert found is not None
    assert found["scores"]["none"] < found["scores"]["small"] < found["scores"]["large"]
    assert rank_uplift({"only": large}) is None
    assert rank_uplift({"a": small, "b": small}) is None
