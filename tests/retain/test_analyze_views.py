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


def test_a_segment_that_cannot_be_compared_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small.csv"
    small.write_text("arm,tier,visit\nA,x,1\nB,y,0\nA,x,0\nB,x,1\n", encoding="utf-8")
    words = ["analyze", str(small), "--arm", "arm", "--control", "A", "--metric", "visit:proportion"]
    assert cli.run([*words, "--segment", "tier"]) == 0
    assert capsys.readouterr().out.split("By segment")[1].count("insufficient_data") == 2


@pytest.mark.parametrize("look", ["x", "1", "1/2:y", "1/2/3"])
def test_a_look_that_cannot_be_read_is_said(table: Path, capsys: pytest.CaptureFixture[str], look: str) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "visit:proportion", "--look", look]
    assert cli.run(words) == 1
    assert "expected K/N such as 2/4" in capsys.readouterr().err


def test_what_stands_above_a_view_says_its_test_and_its_boundary(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "visit:proportion"]
    words += ["--metric", "again=days/back:survival", "--horizon", "14", "--segment", "tier", "--look", "2/4:0.5"]
    assert cli.run(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Look 2 of 4, information 50%, boundary z 2.96" in shown
    assert "again, to 14, log-rank p" in shown
    assert "visit, A by tier: effects differ (Cochran's Q, p" in shown
    assert "persuadables" in shown
    assert "relative_undefined" not in shown  # a time has a method and no relative lift


def test_arms_can_be_adjusted_under_any_dependence(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "visit:proportion", "--json"]
    by_method = {}
    for method in ("none", "benjamini_yekutieli"):
        assert cli.run([*words, "--adjust", method]) == 0
        results = json.loads(capsys.readouterr().out)["results"]
        by_method[method] = [result["p_adjusted"] for result in results]
    small, large = sorted(by_method["none"])
    assert sorted(by_method["benjamini_yekutieli"]) == pytest.approx(
        sorted(min(1.0, p) for p in (min(3.0 * small, 1.5 * large), 1.5 * large))
    )  # two arms: 1 + 1/2 times Benjamini and Hochberg's factors 2 and 1


def test_less_may_be_better_and_money_may_be_capped(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "visit:proportion"]
    words += ["--metric", "days:mean", "--bayes", "--json"]
    assert cli.run(words) == 0
    plain = json.loads(capsys.readouterr().out)
    assert cli.run([*words, "--lower-is-better", "visit", "--winsorise", "days=0.5"]) == 0
    turned = json.loads(capsys.readouterr().out)
    chances = [found["bayes"][0]["chance_to_beat_control"] for found in (plain, turned)]
    assert chances[0] > 0.99
    assert chances[1] == pytest.approx(1.0 - chances[0])
    means = [next(r for r in found["results"] if r["metric"] == "days")["arm_value"] for found in (plain, turned)]
    assert means[0] == pytest.approx(14.5, abs=0.5)
    assert means[1] == pytest.approx(10.9, abs=0.5)  # the mean of min(1..28, 14.5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--winsorise", "visit=2"], "a quantile between 0 and 1"),
        (["--winsorise", "visit"], "expected METRIC=QUANTILE"),
        (["--winsorise", "again=0.9"], "give it a horizon instead"),
        (["--lower-is-better", "nothing"], "'nothing' is not asked for"),
    ],
)
def test_caps_and_directions_that_cannot_be_are_said(
    table: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "visit:proportion"]
    assert cli.run([*words, "--metric", "again=days/back:survival", *more]) == 1
    assert said in " ".join(capsys.readouterr().err.split())


def test_guardrails_are_held_against_their_margins_and_the_reached_stand_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A works on half of its customers, whom it reaches; nobody complains more, but of B more do than is tolerated."""
    lines = ["arm,visit,complained,got"]
    for n in range(6000):
        arm, got = ("A", "B", "C")[n % 3], n // 3 % 2
        visit = int(n % 10 < (4 if arm == "A" and got else 2))
        lines.append(f"{arm},{visit},{int(n % 20 < (2 if arm == 'B' else 1))},{got if arm != 'C' else 0}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["analyze", str(path), "--arm", "arm", "--control", "C", "--metric", "visit:proportion"]
    words += ["--metric", "complained:proportion", "--lower-is-better", "complained"]
    words += ["--margin", "complained=0.02", "--delivered", "got"]
    assert cli.run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    against = {row["arm"]: row for row in found["noninferior"]}
    results = {(row["metric"], row["arm"]): row for row in found["results"]}
    assert against["A"]["noninferior"] is True
    assert against["B"]["noninferior"] is False
    assert against["B"]["worst"] == pytest.approx(results["complained", "B"]["upper_95"])
    reached = {(row["metric"], row["arm"]): row for row in found["reached"]}
    assert reached["visit", "A"]["first_stage"] == pytest.approx(0.5)
    assert reached["visit", "A"]["effect"] == pytest.approx(2 * results["visit", "A"]["difference"])
    assert cli.run(words) == 0
    shown = capsys.readouterr().out
    assert "Against margins" in shown
    assert "On those whom the messages reached" in shown


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--margin", "visit=0"], "must be above 0"),
        (["--margin", "visit=much"], "expected METRIC=WORSENING"),
        (["--margin", "other=0.1"], "'other' is not asked for"),
        (["--delivered", "days"], "delivered needs 1"),
        (["--delivered", "nothing"], "no column 'nothing'"),
    ],
)
def test_margins_and_deliveries_that_cannot_be_are_said(
    table: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    words = ["analyze", str(table), "--arm", "arm", "--control", "C", "--metric", "visit:proportion", *more]
    assert cli.run(words) == 1
    assert said in " ".join(capsys.readouterr().err.split())
