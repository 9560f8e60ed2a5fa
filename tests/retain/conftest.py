"""The command line as a user has it: called in process, in workspaces that the demonstration made once."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retain.cli import run

CUSTOMERS = 1500
CAMPAIGN = "winback-demo"
AS_OF = "2026-03-02T09:00:00+00:00"
RIPE = "2026-04-04T09:00:00+00:00"


@dataclass(frozen=True)
class Outcome:
    """What one command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be exactly one JSON object."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Cli = Callable[..., Outcome]


@pytest.fixture
def retain(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call `retain` with these words."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code = run([str(word) for word in words])
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return call


@dataclass(frozen=True)
class Demo:
    """A finished demonstration: its workspace and what it printed."""

    root: Path
    out: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A small demonstration, as JSON. Tests that change something work on a copy: `shop`."""
    root = tmp_path_factory.mktemp("demo") / "shop"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run(["demo", "--workspace", str(root), "--customers", str(CUSTOMERS), "--json"])
    assert code == 0
    return Demo(root, printed.getvalue())


@pytest.fixture
def shop(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demonstration's workspace, which commands take for theirs."""
    root = tmp_path / "shop"
    shutil.copytree(demo.root, root, ignore=shutil.ignore_patterns("outbox", "reports"))
    monkeypatch.setenv("RETAIN_WORKSPACE", str(root))
    return root


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retain: Cli) -> Path:
    """A new workspace without data, which commands take for theirs."""
    root = tmp_path / "bare"
    assert retain("init", root).code == 0
    monkeypatch.setenv("RETAIN_WORKSPACE", str(root))
    return root
