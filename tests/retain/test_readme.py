"""The README and the way to it: what the demonstration really prints, and a promotion taken back byte for byte."""

from __future__ import annotations

import contextlib
import io
import re

import pytest
from typer.main import get_command

from flows.demo.story import BOOK, CAMPAIGN
from flows.steps.make_workspace import TREE
from retain.cli import app, run
from retain.showcase import CUSTOMERS, SEED, shown_demo, stable_part
from tests.retain.conftest import RIPE, Cli, Demo

README = (TREE / "README.md").read_text(encoding="utf-8")
COMMANDS = set(get_command(app).commands)  # type: ignore[attr-defined]  # a group has commands
SHOWN_ARMS = ("double-points", "we-miss-you", "deep-discount")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demonstration of the README, as people see it."""
    root = tmp_path_factory.mktemp("readme") / "shop"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run(["demo", "--workspace", str(root), "--customers", str(CUSTOMERS), "--seed", str(SEED)])
    assert code == 0
    return Demo(root, printed.getvalue())


def test_the_readme_shows_what_the_demonstration_prints(shown: Demo) -> None:
    """Where this fails because the product changed: python -m retain.documents --demo, and read the result."""
    assert shown_demo(README) == stable_part(shown.out)


def test_what_the_readme_says_about_the_result_is_so(shown: Demo) -> None:
    printed = shown_demo(README)
    assert "\nverdict: promote double-points\n" in printed
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.startswith("  ") and "%" in line}
    true_lift = {arm: float(cells[8].rstrip("%")) for arm, cells in rows.items() if arm in SHOWN_ARMS}
    true_margin = {arm: float(cells[10]) for arm, cells in rows.items() if arm in SHOWN_ARMS}
    assert true_lift["deep-discount"] > true_lift["double-points"] > true_lift["we-miss-you"] == 0
    assert true_margin["deep-discount"] < 0 < true_margin["double-points"]
    assert "not deep-discount: lower 80 % bound of the incremental margin" in printed


def test_undo_restores_a_promoted_campaign_byte_for_byte(shown: Demo, retain: Cli) -> None:
    root = shown.root
    path = root / "campaigns" / "book" / f"{CAMPAIGN}.yaml"
    original = (BOOK / f"{CAMPAIGN}.yaml").read_bytes()
    promoted = path.read_bytes()
    assert b"weight: 90%" in promoted
    undone = retain("undo", CAMPAIGN, "--workspace", root, "--json")
    assert undone.json == {"campaign": CAMPAIGN, "restored": str(path)}
    assert path.read_bytes() == original
    again = retain("decide", CAMPAIGN, "--now", RIPE, "--workspace", root)
    assert "verdict: promote double-points" in again.out
    assert path.read_bytes() == original  # what a person took back stays so
    assert "nothing to undo" in retain("undo", CAMPAIGN, "--workspace", root).err


def test_every_command_of_the_readme_exists() -> None:
    table = README.split("## The commands")[1].split("## What it holds")[0]
    named = set(re.findall(r"`(?:retain )?([a-z]+)(?: [A-Z][^`]*)?`", table)) - {"retain"}
    assert len(named) > 15
    assert named <= COMMANDS


def test_what_is_said_not_to_be_there_is_not_there() -> None:
    missing = README.split("## What is not there yet")[1].split("## Further")[0]
    commands = next(line for line in missing.splitlines() if line.startswith("- **Commands** "))
    assert not set(re.findall(r"`(\w+)`", commands)) & COMMANDS
