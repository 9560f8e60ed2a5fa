"""No phone number, address, push token, name or secret in any byte a whole run writes, but where it belongs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.canary_run import EMAILS, NAMES, PHONES, SECRETS, TOKENS, canaries

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BELONGS = ("shop/data/customers", "shop/data/quarantine", "shop/outbox", "import")
"""The facts, what a load put aside of them, and what was to be loaded: that is where addresses live. The simulator's
own record is in its memory."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is over, its two streams among the files."""
    folder = tmp_path_factory.mktemp("canaries")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RETAIN_", "PREFECT_"))}
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        done = subprocess.run(
            [sys.executable, "-m", "tests.end_to_end.canary_run", str(folder)],
            stdout=out, stderr=err, cwd=ROOT, env=environment, timeout=900, check=False,
        )  # fmt: skip
    assert done.returncode == 0, (folder / "stderr").read_text()[-3_000:]
    assert '{"done": true}' in (folder / "stdout").read_text()
    return folder


def written(folder: Path) -> dict[str, bytes]:
    """Everything the run wrote, but for the places where addresses belong."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not any(name == place or name.startswith(f"{place}/") for place in BELONGS)
    }


def leaks(files: dict[str, bytes]) -> list[tuple[str, str]]:
    """Every (file, canary) that was found."""
    wanted = [(canary, canary.encode()) for canary in canaries()]
    return [(name, canary) for name, data in files.items() for canary, found in wanted if found in data]


def test_no_byte_of_a_whole_run_holds_an_address_a_name_or_a_secret(run: Path) -> None:
    assert leaks(written(run)) == []


def test_the_run_did_everything_that_could_have_leaked(run: Path) -> None:
    """Without this, a run that did nothing would pass."""
    files = written(run)
    names = set(files)
    assert {"debug.log", "stdout", "stderr", "tracebacks.txt", "report.html", "shop/data/ledger.db"} <= names
    assert any(name.endswith("plan.json") for name in names)
    assert any(name.startswith("prefect-database/") and len(data) > 100_000 for name, data in files.items())
    assert b"provoked" in files["debug.log"]
    assert len(files["debug.log"]) > 10_000
    assert files["tracebacks.txt"].count(b"Traceback") >= 3
    ledger = b"".join(data for name, data in files.items() if name.startswith("shop/data/ledger.db"))
    for word in (
        b"retain:click:",
        b"spamreport",
        b"inbound SMS",
        b"unsubscribe page",
        b"21610",
        b"in_doubt",
        b"again:1",
    ):
        assert word in ledger, word
    facts = b"".join(path.read_bytes() for path in (run / "import").iterdir())
    for canary in (PHONES[3], EMAILS[3], TOKENS[3], NAMES[3]):  # and they were there to leak
        assert canary.encode() in facts


@pytest.mark.parametrize("canary", [PHONES[4][1:], EMAILS[4], TOKENS[4], NAMES[4], SECRETS["TWILIO_AUTH_TOKEN"]])
@pytest.mark.parametrize("place", ["shop/data/ledger.db-wal", "debug.log", "prefect-database/orion.db", "report.html"])
def test_a_seeded_leak_is_found(run: Path, place: str, canary: str) -> None:
    files = {place: b"\x00 some bytes " + f"to {canary}.".encode() + b"\xff", "other": b"nothing"}
    assert (place, canary) in leaks(files)
