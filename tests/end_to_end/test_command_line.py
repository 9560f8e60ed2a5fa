"""The real executable, from a new machine's first command to the verdict: exit codes, streams, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXECUTABLE = Path(sys.executable).with_name("retain")
AS_OF, RIPE = "2026-03-02T09:00:00+00:00", "2026-04-10T00:00:00+00:00"


def retain(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RETAIN_")}
    return subprocess.run(
        [EXECUTABLE, *map(str, words)], capture_output=True, text=True, cwd=cwd, env=environment, timeout=300
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demonstration, made by the executable."""
    place = tmp_path_factory.mktemp("command-line")
    done = retain("demo", "--workspace", "shop", "--customers", 400, "--json", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["messages"]["planned"] > 0
    return place / "shop"


def test_json_is_all_that_standard_output_holds_and_the_working_directory_is_the_workspace(shop: Path) -> None:
    planned = retain("plan", "winback-demo", "--as-of", "2026-05-04", "--json", cwd=shop)
    assert planned.returncode == 2
    assert json.loads(planned.stdout)["campaign"] == "winback-demo"
    assert all(line.startswith("warning: ") for line in planned.stderr.splitlines())
    measured = retain("measure", "winback-demo", "--now", RIPE, "--json", cwd=shop)
    assert (measured.returncode, measured.stderr) == (0, "")
    assert json.loads(measured.stdout)["results"]


def test_a_second_run_of_the_same_instant_does_nothing(shop: Path) -> None:
    again = retain("run", "winback-demo", "--as-of", AS_OF, "--json", cwd=shop)
    assert again.returncode == 0
    assert json.loads(again.stdout)["already_applied"] is True


def test_a_reader_that_goes_away_is_no_defect(shop: Path) -> None:
    """As in `retain features | head -1`."""
    words = " ".join(['"$0"', "features", "|", "head", "-1", ">", "/dev/null"])
    done = subprocess.run(["bash", "-c", words, str(EXECUTABLE)], capture_output=True, text=True, cwd=shop, timeout=300)
    assert done.returncode == 0
    assert "defect" not in done.stderr
