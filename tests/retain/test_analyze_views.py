"""retain analyze: the views beside the plain results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retain import cli


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two arms and a control; the arm A works among the old only."""
    lines = ["arm,tier,visit,days,back"]
    for n in range(3000):
        arm, tier = ("A", "B", "C")[n % 3], ("old", "new")[n // 3 % 2]
        visit = int(n % 10 < (5 if arm == "A" and tier == "old" else 2))
        lines.append(f"{arm},{tier},{visit},{1 + n % 28},{visit}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_view_is_shown_when_asked_for(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "visit:proportion"]
    assert cli.run(words) == 0
    assert "At this look" not in capsys.readouterr().out
    more = ["--strata", "tier", "--segment", "tier", "--look", "2/4:0.5", "--bayes", "--adjust", "dunnett"]
    assert cli.run([*words, *more]) == 0
    shown = capsys.readouterr().out
    for title in ("Within strata", "By segment", "At this look", "With what was believed before"):
        assert title in shown
    assert cli.run([*words, *more, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["look"]["number"] == 2
    assert found["segments"][0]["differ"]


def test_survival_is_counted_up_to_a_horizon(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "again=days/back:survival"]
    assert cli.run([*words, "--horizon", "14"]) == 0
    assert "Until it happens" in capsys.readouterr().out


@pytest.mark.parametrize("look", ["x", "1", "1/2:y", "1/2/3"])
def test_a_look_that_cannot_be_read_is_said(table: Path, capsys: pytest.CaptureFixture[str], look: str) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "visit:proportion", "--look", look]
    assert cli.run(words) == 1
    assert "expected K/N such as 2/4" in capsys.readouterr().err
