"""A campaign with a clear winner, told as a story on the command line: decide, apply or propose, undo."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from retain.cli import run
from tests.retain.conftest import Cli

MONDAY, NOON, BOUGHT, RIPE = "2026-03-02T09:00", "2026-03-02T12:00", "2026-03-05T10:00:00Z", "2026-03-20T09:00"

CAMPAIGN = """\
campaign: back
status: active
audience: {segment: recency_days >= 60}
experiment:
  control: 50%          # a comment that stays
  horizon: 10 days
  primary: repurchase
  guardrails: {unsubscribed: {max_increase: 2pp}}
  minimum_effect: 5pp
  looks: 1
arms:
  note:
    weight: 50%
    steps:
      - {channel: sms, template: hello}
timing: {window: {from: "09:00", to: "20:00"}}
feedback: {mode: apply, holdback: 10%}
"""


@pytest.fixture(scope="module")
def decided_next(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose experiment is over: of those who got the note 40 % bought, of control 10 %."""
    root = tmp_path_factory.mktemp("winner") / "shop"

    def retain(*words: object) -> None:
        assert run([*map(str, words), "--workspace", str(root)]) in (0, 2)

    assert run(["init", str(root)]) == 0
    for sample in (root / "campaigns" / "book").glob("*.yaml"):
        sample.unlink()
    (root / "campaigns" / "book" / "back.yaml").write_text(CAMPAIGN, encoding="utf-8")
    (root / "templates" / "sms" / "hello.txt.j2").write_text("Hi! Reply STOP to opt out", encoding="utf-8")
    people = [f"C{n:04d},2024-01-01,+4420794{n:05d},true,Europe/London" for n in range(1000)]
    orders = [f"o{n},C{n:04d},2025-12-01,20,8" for n in range(1000)]
    write(root / "c.csv", "customer_id,created_at,phone,consent_sms,time_zone", people)
    write(root / "o.csv", "order_id,customer_id,ordered_at,amount,margin", orders)
    retain("load", "customers", root / "c.csv")
    retain("load", "orders", root / "o.csv")
    retain("plan", "back", "--as-of", MONDAY, "--out", root / "plan")
    retain("apply", root / "plan" / "plan.json", "--now", MONDAY)
    retain("deliver", "--now", NOON)
    with (root / "plan" / "assignments.csv").open(encoding="utf-8", newline="") as file:
        drawn = [(row["customer_id"], row["arm"]) for row in csv.DictReader(file)]
    bought = [c for n, (c, arm) in enumerate(drawn) if n % 10 < (4 if arm == "note" else 1)]
    write(root / "n.csv", "order_id,customer_id,ordered_at,amount,margin", [f"n{c},{c},{BOUGHT},20,8" for c in bought])
    retain("load", "orders", root / "n.csv")
    return root


def write(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


@pytest.fixture
def shop(decided_next: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "shop"
    shutil.copytree(decided_next, root, ignore=shutil.ignore_patterns("outbox"))
    monkeypatch.setenv("RETAIN_WORKSPACE", str(root))
    return root


def test_the_winner_is_written_into_the_file_and_undo_takes_it_back(shop: Path, retain: Cli) -> None:
    path = shop / "campaigns" / "book" / "back.yaml"
    outcome = retain("decide", "back", "--now", RIPE)
    assert outcome.code == 0
    assert outcome.out.startswith("verdict: promote note\n")
    assert "+    weight: 90%" in outcome.out
    assert f"changed {path}; take it back with: retain undo back\n" in outcome.out
    changed = path.read_text(encoding="utf-8")
    assert "  control: 10%          # a comment that stays\n" in changed
    assert retain("undo", "back").out == f"{path}: as it was before\n"
    assert path.read_bytes() == CAMPAIGN.encode()


def test_a_proposal_is_a_patch_that_can_be_applied_as_told(shop: Path, retain: Cli) -> None:
    path = shop / "campaigns" / "book" / "back.yaml"
    proposing = CAMPAIGN.replace("mode: apply", "mode: propose")
    path.write_text(proposing, encoding="utf-8")
    outcome = retain("decide", "back", "--now", RIPE)
    assert path.read_text(encoding="utf-8") == proposing
    command = re.search(r"proposed in (\S+); make it so with: (git -C \S+ apply \S+)\n", outcome.out)
    assert command is not None
    assert Path(command[1]).is_file()
    subprocess.run(command[2].split(), check=True, capture_output=True)
    assert "    weight: 90%\n" in path.read_text(encoding="utf-8")
    assert retain("validate", "back").code == 0


def test_a_winner_whose_file_is_gone_is_decided_with_a_warning_and_written_once_it_is_back(
    shop: Path, retain: Cli
) -> None:
    path = shop / "campaigns" / "book" / "back.yaml"
    path.unlink()
    outcome = retain("decide", "back", "--now", RIPE)
    assert outcome.code == 0
    assert outcome.out.startswith("verdict: promote note\n")
    assert 'the file was not changed: no campaign "back" in campaigns/book' in outcome.err
    path.write_text(CAMPAIGN, encoding="utf-8")
    assert f"changed {path}" in retain("decide", "back", "--now", RIPE).out
