"""The demonstration goes once round the loop: everybody accounted for, control left alone, the same every time."""

from __future__ import annotations

import csv
import json
import shutil
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from flows.demo.dirt import BAD_LINES
from flows.demo.loop import DemoRun, run_demo
from flows.demo.reactions import WINBACK_EFFECTS
from flows.settings import SettingsError
from web.report import render_report

CUSTOMERS = 2000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    return run_demo(tmp_path_factory.mktemp("demo") / "shop", customers=CUSTOMERS, seed=3, progress=lambda *_: None)


def test_the_bad_lines_end_in_quarantine_and_nothing_else_does(run: DemoRun) -> None:
    for table, lines in BAD_LINES.items():
        (file,) = (run.root / "data" / "quarantine").glob(f"{table}-*.csv")
        with file.open(encoding="utf-8", newline="") as text:
            assert len(list(csv.DictReader(text))) == len(lines)


def test_everybody_is_accounted_for_and_control_gets_nothing(run: DemoRun) -> None:
    outcome = run.to_json(report=None)
    assert sum(outcome["assigned"].values()) == outcome["eligible"] <= outcome["selected"]
    assert set(outcome["assigned"]) == {*WINBACK_EFFECTS, "control"}
    assert outcome["eligible"] == pytest.approx(0.4 * CUSTOMERS, rel=0.12)
    messages = outcome["messages"]
    assert messages["planned"] == sum(n for state, n in messages.items() if state != "planned")
    assert messages["planned"] == messages["sent"] == outcome["eligible"] - outcome["assigned"]["control"]
    assert len([path for path in (run.root / "outbox").iterdir() if path.is_file()]) == messages["sent"]


def test_truth_stands_beside_the_estimates(run: DemoRun) -> None:
    outcome = run.to_json(report=None)
    assert set(outcome["truth"]) == set(WINBACK_EFFECTS)
    for arm, effect in WINBACK_EFFECTS.items():
        assert outcome["truth"][arm] == pytest.approx(effect.lift, abs=0.005)
    estimates = {r["arm"]: r for r in outcome["results"] if r["metric"] == "repurchase"}
    assert set(estimates) == set(WINBACK_EFFECTS)
    for arm, row in estimates.items():  # four standard errors: these are single draws
        assert row["difference"] == pytest.approx(outcome["truth"][arm], abs=4 * row["se"])


def test_its_words_are_whole_in_every_language(run: DemoRun) -> None:
    mails = [
        message_from_bytes(path.read_bytes(), policy=policy.default) for path in (run.root / "outbox").glob("*.eml")
    ]
    texts = [str(mail.get_body(("plain",)).get_content()) for mail in mails]  # type: ignore[union-attr]  # each has one
    assert all("{{" not in text and "{%" not in text for text in texts)
    assert any("退订" in text for text in texts)
    assert all(mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click" for mail in mails)
    assert all(str(mail["To"]).endswith(("@example.com", "@example.org")) for mail in mails)


def test_the_report_of_the_demonstration_shows_truth_and_decision(run: DemoRun, tmp_path: Path) -> None:
    html = render_report(run.report_data, out=tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("winback-demo", "double-points", "Truth", "How the decision was made", "EUR"):
        assert words in html
    assert len(html) < 300_000


def test_the_same_seed_gives_the_same_outcome(tmp_path: Path) -> None:
    outcomes = []
    for name in "ab":
        outcome = run_demo(tmp_path / name / "shop", customers=400, seed=9, progress=lambda *_: None).to_json(
            report=None
        )
        for key in ("seconds", "workspace", "changed_files"):
            del outcome[key]
        outcomes.append(json.dumps(outcome, sort_keys=True))
    assert outcomes[0] == outcomes[1]


def test_a_place_that_is_taken_is_left_alone(run: DemoRun, tmp_path: Path) -> None:
    shutil.copyfile(run.root / "retain.toml", tmp_path / "retain.toml")
    with pytest.raises(SettingsError, match=r"retain\.toml"):
        run_demo(tmp_path, customers=100, seed=1, progress=lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["retain.toml"]
