"""A workspace deployed on a real Prefect server: a scheduled run goes from selection to its result page by itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.demo.story import CAMPAIGN
from flows.demo.world import make_world
from flows.settings import read_settings
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.wiring import open_workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.waves import waves

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

DEMO = Path(__file__).resolve().parents[2] / "flows" / "demo"
DAILY = 'schedules:\n      - {cron: "30 5 * * *", timezone: UTC, slug: daily}'
SOON = '{interval: 15, anchor_date: "2026-01-01T00:00:00+00:00", timezone: UTC, slug: soon}'
NO_WAY_OUT = "http://127.0.0.1:9"
"""A proxy that nobody listens at: whoever wants to leave the machine is refused at once."""


@dataclass(frozen=True)
class Deployed:
    """A server, a worker and a workspace whose deployments run there."""

    api: str
    root: Path
    logs: Path

    def post(self, path: str, **body: object) -> Any:
        """What the server answers to a query."""
        answer = httpx.post(f"{self.api}/{path}", json=body, timeout=30, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def wait_for(self, what: str, question: Callable[[], Any], *, seconds: float) -> Any:
        """The first answer that is something; fails with the processes' last words when there is none in time."""
        deadline = time.monotonic() + seconds
        while True:
            with suppress(httpx.HTTPError):
                if answer := question():
                    return answer
            if time.monotonic() > deadline:
                words = "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in self.logs.glob("*.log"))
                pytest.fail(f"{what}: not within {seconds:.0f} s\n{words}")
            time.sleep(0.25)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("server")
    root = make_shop(folder / "shop")
    api = f"http://127.0.0.1:{free_port()}/api"
    environment = make_environment(folder / "prefect-home", api)
    stack = Deployed(api, root, folder)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    serve = ("server", "start", "--no-ui", "--host", "127.0.0.1", "--port", api.split(":")[2].split("/")[0])
    try:
        with running(serve, environment, cwd=elsewhere, log=folder / "server.log"):
            stack.wait_for("server", lambda: httpx.get(f"{api}/health", trust_env=False).is_success, seconds=90)
            call(("work-pool", "create", "retain", "--type", "process"), environment, cwd=elsewhere)
            with running(
                ("worker", "start", "--pool", "retain", "--name", "tests"),
                {**environment, "RETAIN_WORKSPACE": str(elsewhere)},  # the deployments know better
                cwd=elsewhere,
                log=folder / "worker.log",
            ):
                call(("--no-prompt", "deploy", "--all"), {**environment, "RETAIN_WORKSPACE": str(root)}, cwd=root)
                yield stack
    finally:
        left = end_all_of(folder / "prefect-home")
    assert left == [], "processes outlived the server and the worker"


def make_shop(root: Path) -> Path:
    """A workspace with a few customers, whose campaign is due every minute and whose runs are scheduled soon."""
    make_workspace(root, book=DEMO / "book", templates=DEMO / "templates")
    campaign = root / "campaigns" / "book" / f"{CAMPAIGN}.yaml"
    replace(campaign, '{cron: "0 9 * * 1", timezone: Europe/London}', '{cron: "* * * * *", timezone: UTC}')
    replace(root / "prefect.yaml", DAILY, f"{DAILY}\n      - {SOON}")
    now = datetime.now(UTC).replace(microsecond=0)  # the server schedules in real time
    with open_workspace(read_settings(root)) as ws:
        for table, path in make_world(customers=300, seed=5, as_of=now).write(root / "import").items():
            load_facts(ws, table, [path], renames={}, now=now)
    return root


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path.name} no longer says {old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def make_environment(home: Path, api: str) -> dict[str, str]:
    """The surroundings of an operator's shell, with a Prefect of its own and no way out of the machine."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "RETAIN_")) and "proxy" not in k.lower()
    }
    return {
        **kept,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_CLI_COLORS": "false",
        "HTTP_PROXY": NO_WAY_OUT,
        "HTTPS_PROXY": NO_WAY_OUT,
        "NO_PROXY": "127.0.0.1,localhost",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(words: tuple[str, ...], environment: Mapping[str, str], *, cwd: Path) -> None:
    """Run one prefect command to its end."""
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"prefect {' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@contextmanager
def running(words: tuple[str, ...], environment: Mapping[str, str], *, cwd: Path, log: Path) -> Iterator[None]:
    """A prefect command that runs in a process group of its own until the end of the block."""
    command = [sys.executable, "-m", "prefect", *words]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=environment, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield
        finally:
            for sign in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=20)
                    break


def end_all_of(home: Path) -> list[str]:
    """Wait for every process that works with this Prefect home; end those that stay, and give their command lines."""
    deadline = time.monotonic() + 15
    while (left := working_with(home)) and time.monotonic() < deadline:
        time.sleep(0.25)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return list(left.values())


def working_with(home: Path) -> dict[int, str]:
    """The command line of every process whose environment names this Prefect home."""
    mark = f"PREFECT_HOME={home}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def test_a_scheduled_run_goes_from_selection_to_its_result_page(deployed: Deployed) -> None:
    names = {d["name"] + " " + d["entrypoint"] for d in deployed.post("deployments/filter")}
    assert names == {
        "daily flows.run_due_campaigns.run_due_campaigns",
        "every-five-minutes flows.deliver_messages.deliver_messages",
        "nightly flows.measure_experiments.measure_experiments",
        "nightly flows.decide_experiments.decide_experiments",
        "by-hand flows.load_files.load_files",
        "by-hand flows.run_campaign.run_campaign",
    }
    wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}, "tags": {"all_": ["auto-scheduled"]}}}

    def find() -> Any:
        return deployed.post("flow_runs/filter", flows={"name": {"any_": ["run-due-campaigns"]}}, **wanted)

    run = deployed.wait_for("a scheduled run", find, seconds=120)[0]
    assert run["name"] == f"due {run['expected_start_time'][:16].replace('T', ' ')}"
    assert run["parameters"] == {}
    with open_workspace(read_settings(deployed.root)) as ws, ws.ledger.read() as tx:
        recorded = waves(tx, f"{CAMPAIGN}:1")
        assigned = assignments_frame(tx, recorded[0].wave_id)
    assert len(assigned) > 30
    assert set(assigned["arm"]) == {"double-points", "we-miss-you", "deep-discount", "control"}
    keys = {"artifacts": {"key": {"any_": [f"run-{CAMPAIGN}"]}, "type": {"any_": ["markdown"]}}}
    pages = [str(page["data"]) for page in deployed.post("artifacts/filter", **keys)]
    control = (assigned["arm"] == "control").sum()
    assert any(f"| eligible | {len(assigned)} |" in page and f"| arm control | {control} |" in page for page in pages)
    assert b"@example." not in all_that_prefect_keeps(deployed.logs)


def all_that_prefect_keeps(folder: Path) -> bytes:
    """Its database, its other files and what its processes wrote."""
    files = [*folder.glob("*.log"), *(folder / "prefect-home").rglob("*")]
    kept = b"".join(file.read_bytes() for file in files if file.is_file())
    assert f"run-{CAMPAIGN}".encode() in kept
    return kept
