"""simulate on the command line: one JSON object, or a table; nothing of the campaign changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., Any]
CAMPAIGN = "winback-demo"
AS_OF = "2026-03-02T09:00:00+00:00"


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
