"""`retain demo`: the whole loop in one command, for people and for machines."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from retain.cli import run
from retain.stages import Stages
from tests.retain.conftest import CUSTOMERS, Cli, Demo


def test_the_demonstration_prints_one_object_with_everything(demo: Demo) -> None:
    outcome = json.loads(demo.out)
    assert set(outcome) >= {
        "selected", "assigned", "messages", "results", "decision", "truth", "changed_files", "report", "seconds"
    }  # fmt: skip
    messages = outcome["messages"]
    fates = ("sent", "skipped", "failed", "in_doubt", "pending")
    assert messages["planned"] == sum(messages[fate] for fate in fates) > 0
    assert set(outcome["truth"]) == set(outcome["assigned"]) - {"control"}
    assert sum(outcome["assigned"].values()) == outcome["eligible"] <= outcome["selected"] < CUSTOMERS
    assert {"verdict", "arm", "reasons"} <= set(outcome["decision"])
    assert Path(outcome["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    for result in outcome["results"]:
        assert result["low"] is None or math.isfinite(result["low"])


def test_people_see_the_truth_beside_the_estimate_in_a_place_made_for_it(
    tmp_path: Path, retain: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outcome = retain("demo", "--customers", 300, "--seed", 1)
    assert outcome.code == 0
    assert f"\nworkspace {tmp_path}/retain-demo-" in outcome.out
    for said in (
        "customers at risk",
        "true lift",
        "verdict: ",
        "not double-points: ",
        "report ",
        "next: retain status",
    ):
        assert said in outcome.out
    assert outcome.err.splitlines()[0] == "invent customers: 1 of 1"
    assert "measure and decide: 1 of 1" in outcome.err


def test_a_workspace_is_never_made_over_another(demo: Demo, retain: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.root.rglob("*")}
    outcome = retain("demo", "--workspace", demo.root, "--customers", 300)
    assert outcome.code == 1
    assert "holds campaigns/book" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in demo.root.rglob("*")} == before


def test_on_a_terminal_stages_are_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Stages() as stages:
        stages.show("deliver", 1, 2)
        stages.show("deliver", 2, 2)
    shown = capsys.readouterr().err
    assert "deliver" in shown
    assert "2/2" in shown


def test_elsewhere_every_finished_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages() as stages:
        stages.show("deliver", 1, 2000)
        stages.show("deliver", 2000, 2000)
        stages.show("deliver", 2000, 2000)
    assert capsys.readouterr().err == "deliver: 2,000 of 2,000\n"


def test_too_few_customers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--customers", "10"]) == 1
    assert "--customers" in capsys.readouterr().err
