"""power and simulate on the command line: one JSON object, or a table; nothing of the campaign changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import AS_OF, CAMPAIGN, Cli


def test_power_tells_what_the_campaign_can_show(shop: Path, retain: Cli) -> None:
    known = retain("power", CAMPAIGN, "--as-of", AS_OF, "--json").json
    assert known["metric"] == "repurchase"
    assert known["history"] > 200
    assert known["needed_customers"] > known["needed_per_arm"] > known["customers"] / 4
    powers = [point["power"] for point in known["curve"]]
    assert powers == sorted(powers)
    assert powers[-1] > 0.9
    shown = retain("power", CAMPAIGN, "--as-of", AS_OF)
    assert "customers of the segment did before" in shown.out
    assert "runs like this one" in shown.out


def test_power_can_be_asked_for_any_size_and_baseline(bare: Path, retain: Cli) -> None:
    """Sample size of two proportions, 10 % against 11.5 %, two-sided 5 %/2 (Holm of two arms), power 80 %.

    By the normal approximation: n of the arm = (2.241 sqrt(2 pq) ... )^2 / 0.015^2, with two controls for four: ~6,100.
    """
    known = retain("power", "winback-90d", "--customers", 30000, "--baseline", "0.1", "--json").json
    assert (known["baseline"], known["history"], known["customers"]) == (0.1, 0, 30000)
    assert known["needed_per_arm"] == pytest.approx(6135, rel=1e-4)
    assert known["runs_needed"] == 1
    assert "as given" in retain("power", "winback-90d", "--customers", 500, "--baseline", "0.1").out


def test_without_history_power_asks_for_a_baseline(bare: Path, retain: Cli) -> None:
    outcome = retain("power", "winback-90d", "--now", AS_OF)
    assert outcome.code == 0
    assert "give one with --baseline" in outcome.out
    empty = retain("power", "winback-90d", "--now", AS_OF, "--baseline", "0.1", "--json").json
    assert (empty["customers"], empty["curve"], empty["runs_needed"]) == (0, [], None)
    assert empty["needed_per_arm"] > 5000


def test_a_baseline_that_does_not_fit_is_refused(bare: Path, retain: Cli) -> None:
    assert "expected a share between 0 and 1" in retain("power", "winback-90d", "--baseline", "3").err
    path = bare / "campaigns" / "book" / "winback-90d.yaml"
    text = path.read_text(encoding="utf-8").replace("primary: repurchase ", "primary: revenue ")
    text = text.replace("metrics: [revenue, ", "metrics: [")
    path.write_text(text.replace("minimum_effect: 1.5pp ", "minimum_effect: 5% "), encoding="utf-8")
    outcome = retain("power", "winback-90d", "--baseline", "0.1")
    assert outcome.code == 1
    assert "for a proportion of the facts only" in outcome.err


def test_simulate_tells_how_often_the_rule_is_right(shop: Path, retain: Cli) -> None:
    words = ("simulate", CAMPAIGN, "--runs", 2, "--seed", 5, "--as-of", AS_OF)
    known = retain(*words, "--json").json
    assert [scenario["scenario"] for scenario in known["scenarios"]][:2] == ["none", "minimum_effect"]
    assert {scenario["runs"] for scenario in known["scenarios"]} == {2}
    stored = json.loads(Path(known.pop("stored")).read_text(encoding="utf-8"))
    assert stored == known
    shown = retain(*words)
    assert shown.code == 0
    assert "wrongly promoted" in shown.out
    assert "2 replays of each scenario, seed 5" in shown.out
    assert "none: 2 of 2" in shown.err


def test_simulate_without_a_past_says_what_is_missing(bare: Path, retain: Cli) -> None:
    outcome = retain("simulate", "winback-90d", "--runs", 1, "--as-of", AS_OF)
    assert outcome.code == 1
    assert "past runs would have met 0 customers, a simulation needs 200" in outcome.err
