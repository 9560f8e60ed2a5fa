"""The other readings of a measurement, as a person reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retain.views import show_views

Cli = Callable[..., Any]
EMPTY: dict[str, Any] = {
    "primary": "repurchase",
    "survival": None,
    "stratified": [],
    "cace": [],
    "segments": [],
    "bayesian": [],
    "circumstances": {"overlapping": [], "calendar": []},
}


def test_measure_tells_how_much_sooner_an_arms_customers_came_back(shop: Path, retain: Cli) -> None:
    shown = retain("measure", "winback-demo", "--now", "2026-04-20")
    assert shown.code == 0
    assert "days until the next purchase within 30 (p = " in shown.out


def test_nothing_is_said_of_what_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    show_views(EMPTY)
    assert capsys.readouterr().out == ""


def test_every_reading_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    effect = {"segment": "gold", "n_arm": 400, "n_control": 600, "difference": 0.125, "group": "persuadables"}
    report = {"arm": "mail", "feature": "club", "differ": True, "p_adjusted": 0.001, "effects": [effect]}
    posterior = {"arm": "mail", "prior": "flat", "mean": 0.1}
    posterior |= {"chance_to_beat_control": 0.98, "loss_of_arm": 0.001, "loss_of_control": 0.1}
    show_views(
        EMPTY
        | {
            "stratified": [{"metric": "repurchase", "arm": "mail", "difference": 0.05, "strata": 3}],
            "cace": [{"metric": "repurchase", "arm": "mail", "effect": 0.1, "reached": 0.5}],
            "segments": [report, report | {"arm": "text", "differ": False, "p_adjusted": 0.4}],
            "bayesian": [posterior],
            "circumstances": {
                "overlapping": [{"experiment": "rival:1", "share": 0.25, "p_value": 0.7}],
                "calendar": [{"name": "sale", "from": "2026-03-30", "to": "2026-04-03"}],
            },
        }
    )
    out = capsys.readouterr().out
    for text in (
        "mail: repurchase +0.05 put together over 3 runs",
        "mail: 50.00% of its customers were reached, repurchase of these +0.1",
        "mail: effects by club differ (p = 0.001)",
        "1,000",
        "text: effects by club do not differ by more than chance (p = 0.4)",
        "0.98",
        "rival:1 treated 25.00% of these customers at the same time (p of dependence 0.7)",
        "in the window: sale, 2026-03-30 to 2026-04-03",
    ):
        assert text in out
