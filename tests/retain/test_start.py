"""The front door itself: it opens fast, says what it can do, and turns every failure into one message."""

from __future__ import annotations

import logging
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from flows.steps import show_status
from flows.steps.make_workspace import TREE
from retain import cli
from tests.retain.conftest import Cli

HEAVY = (
    "prefect",
    "scipy",
    "pandas",
    "numpy",
    "sqlalchemy",
    "duckdb",
    "pyarrow",
    "fastapi",
    "uvicorn",
    "jinja2",
    "rich",
)
COMMANDS = sorted(get_command(cli.app).commands)  # type: ignore[attr-defined]  # a group has commands


def every_command() -> dict[str, Any]:
    """Every command by its name, those of groups ("codes import") one by one."""
    found: dict[str, Any] = {}
    for name, command in get_command(cli.app).commands.items():  # type: ignore[attr-defined]  # a group has commands
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {verb}": one for verb, one in inner.items()}
    return found


def test_help_imports_nothing_heavy() -> None:
    """What makes `retain --help` fast; timing it would measure the machine."""
    program = (
        "import sys\nfrom retain.cli import run\ncode = run(['--help'])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[] 0"
    assert "deliver" in done.stdout


def test_the_version_is_that_of_the_project_and_needs_no_workspace(retain: Cli, tmp_path: Path) -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = retain("--version")
    assert (told.code, told.out, told.err) == (0, f"retain {project['version']}\n", "")
    assert retain("--version", "status", "--workspace", tmp_path).out == told.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, retain: Cli) -> None:
    outcome = retain(command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: retain {command}")


def test_the_list_names_every_command(retain: Cli) -> None:
    listed = retain("-h").out
    assert all(f"\n  {command} " in listed for command in COMMANDS)


@pytest.mark.parametrize("words", [(), ("consent",), ("codes",), ("points",)])
def test_what_a_command_does_is_read_in_the_list_to_its_end(words: tuple[str, ...], retain: Cli) -> None:
    commands = retain(*words, "-h").out.split("Commands:\n")[1].splitlines()
    assert [line for line in commands if line.endswith("...")] == []


@pytest.mark.parametrize("command", ["plan", "run", "power", "simulate"])
def test_an_instant_that_cannot_be_read_is_said_of_the_option_it_came_with(
    command: str, retain: Cli, shop: Path
) -> None:
    assert "Invalid value for --now" in retain(command, "x", "--now", "soon").err
    assert "Invalid value for --as-of" in retain(command, "x", "--as-of", "soon", "--now", "2026-03-01").err


def test_who_did_it_is_the_setting_wherever_nobody_is_named() -> None:
    by = {name: one for name, command in every_command().items() for one in command.params if one.name == "by"}
    assert len(by) > 10
    assert [name for name, option in by.items() if option.show_default != "the setting operator"] == ["approve"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Usage: retain"),
        (("plann",), "Did you mean 'plan'"),
        (("plan",), "Missing argument 'CAMPAIGN'"),
        (("plan", "x", "--jsonn"), "--json"),
        (("run", "x", "--as-of", "2026-13-01"), "expected ISO 8601 such as 2026-03-01"),
        (("deliver", "--limit", "0"), "--limit"),
        (("load", "people", "x.csv"), "expected one of customers, orders, events"),
        (("load", "orders", "--from-orders"), "only customers can be derived"),
        (("load", "orders"), "name at least one file"),
        (("load", "orders", "x.csv", "--map", "id"), "expected THEIRS=OURS"),
        (("analyze", "x.csv", "--arm", "a", "--control", "b"), "Missing option '--metric'"),
        (("analyze", "x", "--arm", "a", "--control", "b", "--metric", "m:mean", "--expect", "A"), "expected A=1,B=1"),
        (("analyze", "x", "--arm", "a", "--control", "b", "--metric", "m:mean", "--expect", "A=0"), "above 0"),
        (("analyze", "x", "--arm", "a", "--control", "b", "--metric", "m:mean", "--covariate", "m"), "METRIC=COLUMN"),
    ],
)
def test_a_wrong_command_line_is_an_error_with_a_hint(
    words: tuple[str, ...], said: str, retain: Cli, bare: Path
) -> None:
    outcome = retain(*words)
    assert outcome.code == 1
    assert outcome.out == ""
    assert said in outcome.err


def failing_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(show_status, "show_status", fail)


def test_a_defect_names_its_place_and_keeps_data_to_itself(
    retain: Cli, bare: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing_with(KeyError("ana@example.com"), monkeypatch)
    with caplog.at_level(logging.INFO):
        outcome = retain("status")
    assert outcome.code == 1
    said = outcome.err
    assert "unexpected KeyError at retain.commands.operation:" in said
    assert "defect of retain" in said
    assert "ana@example.com" not in said + caplog.text


def test_a_defect_outside_of_the_tree_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._report(ValueError("x")) == 1
    assert "at an unknown place" in capsys.readouterr().err


def test_a_file_that_the_system_refuses_is_named(retain: Cli, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(PermissionError(13, "Permission denied", "/data/ledger.db"), monkeypatch)
    outcome = retain("status")
    assert outcome.code == 1
    assert "error: /data/ledger.db: Permission denied; check the path and who may use it" in outcome.err


def test_interrupting_is_no_defect(retain: Cli, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(KeyboardInterrupt(), monkeypatch)
    outcome = retain("status")
    assert outcome.code == 1
    assert "stopped; nothing further was done" in outcome.err


def test_the_entry_point_exits_with_the_code_of_the_command(
    monkeypatch: pytest.MonkeyPatch, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["retain", "doctor"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1  # a new workspace has no data
    assert "retain load customers FILE" in capsys.readouterr().out
