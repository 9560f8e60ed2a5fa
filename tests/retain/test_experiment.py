"""measure, decide, report, analyze and power: what came of it, and what can be known."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

from tests.retain.conftest import AS_OF, CAMPAIGN, RIPE, Cli

KEYS = {
    "metric", "kind", "arm", "control", "n_arm", "n_control", "arm_value", "control_value", "difference", "low", "high",
    "p_value", "p_adjusted", "relative_lift", "relative_low", "relative_high", "method", "status",
}  # fmt: skip


def test_a_measurement_is_one_object_and_the_same_every_time(shop: Path, retain: Cli) -> None:
    first, second = (retain("measure", CAMPAIGN, "--now", RIPE, "--json") for _ in range(2))
    assert first.code == 0
    assert first.out == second.out
    measured = first.json
    assert set(measured) >= {"experiment", "as_of", "arms", "health", "results"}
    assert all({"assigned", "mature"} <= set(arm) for arm in measured["arms"].values())
    assert measured["health"]["srm_p"] > 0.001
    assert all(set(result) >= KEYS for result in measured["results"])


def test_people_read_a_table(shop: Path, retain: Cli) -> None:
    ripe = retain("measure", CAMPAIGN, "--now", RIPE)
    assert "repurchase" in ripe.out
    assert "split of assigned customers: p = " in ripe.out
    green = retain("measure", CAMPAIGN, "--now", AS_OF)
    assert "nothing is mature yet" in green.out
    assert "not_measured" in green.out


def test_before_anything_has_matured_the_decision_is_to_wait(bare: Path, retain: Cli, tmp_path: Path) -> None:
    lines = ["customer_id,created_at,email,consent_email,time_zone"]
    lines += [f"C{n},2025-01-01,c{n}@example.com,true,Europe/London" for n in range(12)]
    orders = [f"{n}-{day},C{n},2025-0{day}-01,10" for n in range(12) for day in (2, 3)]
    (tmp_path / "c.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "o.csv").write_text("\n".join(["order_id,customer_id,ordered_at,amount", *orders]), encoding="utf-8")
    retain("load", "customers", tmp_path / "c.csv")
    retain("load", "orders", tmp_path / "o.csv")
    assert retain("run", "winback-90d", "--as-of", "2025-09-01").code == 0
    outcome = retain("decide", "winback-90d", "--now", "2025-09-02", "--json")
    assert outcome.code == 0
    assert outcome.json["decision"]["verdict"] == "keep_testing"


def test_a_decision_is_told_with_its_gates_and_changes_nothing_without_a_winner(shop: Path, retain: Cli) -> None:
    path = shop / "campaigns" / "book" / f"{CAMPAIGN}.yaml"
    before = path.read_bytes()
    outcome = retain("decide", CAMPAIGN, "--now", RIPE)
    assert outcome.code == 0
    assert outcome.out.startswith("verdict: ")
    assert "integrity" in outcome.out
    decided = retain("decide", CAMPAIGN, "--now", RIPE, "--json").json
    assert decided["decision"]["verdict"] != "promote"
    assert decided["changed_files"] == []
    assert path.read_bytes() == before


def test_a_report_is_one_file_that_needs_nothing_else(shop: Path, retain: Cli, tmp_path: Path) -> None:
    outcome = retain("report", CAMPAIGN, "--now", RIPE, "--json")
    assert outcome.json == {
        "campaign": CAMPAIGN,
        "experiment": f"{CAMPAIGN}:1",
        "report": str(shop / "reports" / f"{CAMPAIGN}.html"),
    }
    elsewhere = retain("report", CAMPAIGN, "--now", RIPE, "--out", tmp_path / "r.html")
    assert elsewhere.out == f"{tmp_path / 'r.html'}\n"
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "@example." not in page


def test_there_is_nothing_to_undo_where_nothing_was_changed(shop: Path, retain: Cli) -> None:
    outcome = retain("undo", CAMPAIGN)
    assert outcome.code == 1
    assert "nothing to undo" in outcome.err


@pytest.mark.parametrize("command", ["measure", "decide", "report"])
def test_without_a_run_there_is_nothing_to_say_but_the_next_step(command: str, bare: Path, retain: Cli) -> None:
    outcome = retain(command, "winback-90d")
    assert (outcome.code, outcome.out) == (1, "")
    assert "start with `retain plan winback-90d`" in outcome.err


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two arms of 2,000 units; B converts 10 points more often and spends the same."""
    rng = random.Random(7)
    rows = [("AB"[n % 2], n) for n in range(4000)]
    lines = ["arm,visit,spend,before"]
    for arm, _ in rows:
        before = rng.gauss(50, 10)
        lines.append(
            f"{arm},{int(rng.random() < (0.3 if arm == 'B' else 0.2))},{before + rng.gauss(0, 5):.3f},{before:.3f}"
        )
    path = tmp_path / "test.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_any_experiments_table_is_analysed(table: Path, retain: Cli) -> None:
    words = ("analyze", table, "--arm", "arm", "--control", "A", "--metric", "visit:proportion")
    analysis = retain(
        *words, "--metric", "spend:mean", "--covariate", "spend=before", "--expect", "A=1,B=1", "--json"
    ).json
    assert {name: arm["n"] for name, arm in analysis["arms"].items()} == {"A": 2000, "B": 2000}
    assert set(analysis["srm"]) >= {"chi2", "p_value"}
    visit, spend = analysis["results"]
    assert set(visit) >= KEYS
    assert visit["difference"] == pytest.approx(0.1, abs=0.03)
    assert visit["p_value"] < 0.001
    assert spend["high"] - spend["low"] < 0.8  # without the covariate it would be 1.4
    pd.read_csv(table).to_parquet(table.with_suffix(".parquet"))
    words = ("analyze", table.with_suffix(".parquet"), *words[2:])
    shown = retain(*words)
    assert shown.code == 0
    assert "split: not tested; give the planned shares with --expect" in shown.out
    assert "split: as planned" in retain(*words, "--expect", "A=1,B=1").out
    assert "A: 2,000, B: 2,000" in shown.out


def test_a_split_that_is_not_as_planned_is_told(table: Path, retain: Cli) -> None:
    outcome = retain(
        "analyze", table, "--arm", "arm", "--control", "A", "--metric", "visit:proportion", "--expect", "A=1,B=2"
    )
    assert outcome.code == 0
    assert "NOT as planned" in outcome.out


def test_what_missing_values_mean_must_be_said(tmp_path: Path, retain: Cli) -> None:
    (tmp_path / "t.csv").write_text("arm,spend\nA,1\nB,2\nA,\nB,4\nA,3\n", encoding="utf-8")
    words = ("analyze", tmp_path / "t.csv", "--arm", "arm", "--control", "A", "--metric", "spend:mean")
    assert "1 of 5 values are missing" in retain(*words).err
    (zero,) = retain(*words, "--missing", "zero", "--json").json["results"]
    (drop,) = retain(*words, "--missing", "drop", "--json").json["results"]
    assert (zero["n_control"], drop["n_control"], drop["control_value"]) == (3, 2, 2.0)
    assert "drop" in retain(*words, "--missing", "skip").err


def test_a_broken_parquet_file_is_named(tmp_path: Path, retain: Cli) -> None:
    (tmp_path / "t.parquet").write_bytes(b"junk")
    outcome = retain("analyze", tmp_path / "t.parquet", "--arm", "a", "--control", "A", "--metric", "spend:mean")
    assert outcome.code == 1
    assert "t.parquet: not a readable Parquet file; expected Parquet" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--arm", "amr", "--control", "A", "--metric", "visit:proportion"), "amr"),
        (("--arm", "arm", "--control", "Z", "--metric", "visit:proportion"), "Z"),
        (("--arm", "arm", "--control", "A", "--metric", "vsit:proportion"), "vsit"),
        (("--arm", "arm", "--control", "A", "--metric", "visit:share"), "share"),
    ],
)
def test_what_the_table_lacks_is_named(words: tuple[str, ...], said: str, table: Path, retain: Cli) -> None:
    outcome = retain("analyze", table, *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert said in outcome.err
    assert "unexpected" not in outcome.err
