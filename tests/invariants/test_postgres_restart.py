"""PostgreSQL is restarted while workers deliver: they end with an error that says so, and nothing is lost or doubled.

On a cluster of the test's own, in a folder of its own; where the test runs as root the server runs as postgres.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.invariants.trials import Scene, Trial, kill_trial, make_shop

CUSTOMERS = 240


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server that a test may restart."""

    programs: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs as who may run it."""
        command = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def control(self, *arguments: str) -> None:
        """Start, restart or stop it."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        log = self.folder / "log"
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(log), "-o", options, *arguments)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    programs = found[-1].parent if found else Path(on_path).parent if on_path else None
    if programs is None:
        skip_or_fail("postgres", "no initdb under /usr/lib/postgresql or on the PATH")
    assert programs is not None
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        skip_or_fail("postgres", "the server does not run as root, and there is no runuser")
    folder = Path(tempfile.mkdtemp(prefix="retain-restart-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    made = Cluster(programs, folder, port)
    try:
        made.run("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync")
        made.control("start")
        yield made
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            made.control("-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def empty_url(cluster: Cluster) -> Iterator[str]:
    """A database of the cluster, dropped afterwards."""
    cluster.run("createdb", "-h", "127.0.0.1", "-p", str(cluster.port), "-U", "postgres", "trial")
    yield cluster.url.rsplit("/", 1)[0] + "/trial"
    cluster.run("dropdb", "-h", "127.0.0.1", "-p", str(cluster.port), "-U", "postgres", "--force", "trial")


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_postgresql_in_mid_run_changes_nothing(
    cluster: Cluster, empty_url: str, tmp_path: Path, mode: str
) -> None:
    """Immediate: as if it had been killed; commits that were not waited for may be gone."""
    make_shop(tmp_path, CUSTOMERS)
    restarted_at: list[int] = []

    def restart(scene: Scene) -> None:
        """In the middle of the run, twice: after a third and after two thirds of the messages."""
        accepted = len(scene.ask("ledger")["accepted"])
        if len(restarted_at) < 2 and accepted > (1 + len(restarted_at)) * CUSTOMERS * 0.3:
            cluster.control("-m", mode, "restart")
            restarted_at.append(accepted)

    trial = Trial(customers=CUSTOMERS, workers=3, kills=0, batch=16)
    with ExitStack() as stack:
        outcome = kill_trial(stack, tmp_path, empty_url, trial, meanwhile=restart)
    assert len(restarted_at) == 2
    assert outcome.violations == [], "\n".join(outcome.evidence)
    assert outcome.states["sms"].keys() <= {"sent", "delivered"}
    for error in outcome.errors:  # those who were in the middle of something said what happened
        assert error.startswith(f"LedgerError: the ledger at {empty_url} refused: ")
    assert outcome.errors  # it was in mid-run
