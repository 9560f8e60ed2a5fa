"""The loop as Prefect flows on a small invented shop: what each leaves in the ledger, and what Prefect gets to know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flows.decide_experiments import decide_experiments
from flows.deliver_messages import deliver_messages
from flows.demo.exposure import Exposure
from flows.demo.reactions import react
from flows.demo.story import CAMPAIGN
from flows.demo.world import World, make_world
from flows.load_files import load_files
from flows.measure_experiments import measure_experiments
from flows.run_campaign import run_campaign
from flows.run_due_campaigns import run_due_campaigns
from flows.settings import read_settings
from flows.steps.make_workspace import make_workspace
from flows.steps.show_status import show_status
from flows.wiring import Workspace, open_workspace
from tests.together import together
from warehouse.facts.errors import FactsError
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.deliveries import sent_messages
from warehouse.ledger.waves import waves

pytestmark = pytest.mark.prefect

DEMO = Path(__file__).resolve().parents[2] / "flows" / "demo"
AS_OF = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
RIPE_AT = AS_OF + timedelta(days=34)
EXPERIMENT = f"{CAMPAIGN}:1"
BROKEN = "customer_id,created_at,email\nC1,2026-01-01,broken.line@example.com,one field too many\n"


Eventually = Callable[[Callable[[], bool]], bool]


@dataclass(frozen=True)
class Story:
    """A shop that went once round the loop, with what each flow gave back."""

    root: Path
    world: World
    database: Path
    loaded: dict[str, dict[str, int]]
    runs: list[dict[str, Any]]
    delivered: list[dict[str, Any]]
    measured: list[dict[str, Any]]
    decided: list[dict[str, Any]]


@pytest.fixture(scope="module")
def story(prefect_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    root = make_shop(tmp_path_factory.mktemp("loop"))
    world = make_world(customers=1500, seed=11, as_of=AS_OF)
    where = {"workspace": str(root)}
    files = world.write(root / "import")
    loaded = {t: load_files(t, [f"import/{path.name}"], now=AS_OF, **where) for t, path in files.items()}
    runs = [run_campaign(CAMPAIGN, as_of=AS_OF, **where) for _ in range(2)]
    runs += run_due_campaigns(now=AS_OF + timedelta(hours=3), **where)
    delivered = [deliver_messages(now=AS_OF + n * timedelta(hours=6), **where) for n in range(9)]
    for table, path in live_on(root, world).items():
        load_files(table, [str(path)], now=RIPE_AT, **where)
    measured = measure_experiments(now=RIPE_AT, **where)
    decided = decide_experiments(now=RIPE_AT, **where)
    return Story(root, world, prefect_database, loaded, runs, delivered, measured, decided)


def make_shop(root: Path) -> Path:
    """The demonstration's workspace in `root`, without customers."""
    make_workspace(root, book=DEMO / "book", templates=DEMO / "templates")
    return root


def live_on(root: Path, world: World) -> dict[str, Path]:
    """What the customers did within the horizon, as files."""
    with opened(root) as ws, ws.ledger.read() as tx:
        assigned = assignments_frame(tx, waves(tx, EXPERIMENT)[0].wave_id)
        sent = sent_messages(tx, EXPERIMENT)
    exposure = Exposure(assigned=assigned, sent=sent, assigned_at=AS_OF, horizon=timedelta(days=30))
    return react(world, exposure, until=RIPE_AT, seed=world.seed).write(root / "import")


@contextmanager
def opened(root: Path) -> Iterator[Workspace]:
    with open_workspace(read_settings(root)) as workspace:
        yield workspace


def test_loading_gives_counts_and_puts_bad_lines_aside(story: Story) -> None:
    assert story.loaded["customers"]["added"] == 1500
    assert story.loaded["customers"]["quarantined"] > 0
    assert story.loaded["orders"]["added"] == len(story.world.orders)
    assert story.loaded["events"]["added"] == len(story.world.events)


def test_the_second_run_as_of_an_instant_and_the_scheduled_one_assign_nobody_again(story: Story) -> None:
    first, *later = story.runs
    assert first["assigned"].keys() == {"double-points", "we-miss-you", "deep-discount", "control"}
    assert sum(first["assigned"].values()) == first["eligible"] > 100
    assert not first["already_applied"]
    assert [run["campaign"] for run in later] == [CAMPAIGN, CAMPAIGN]
    assert later == [{**first, "already_applied": True, "warnings": []}] * 2
    with opened(story.root) as ws, ws.ledger.read() as tx:
        recorded = waves(tx, EXPERIMENT)
        assigned = assignments_frame(tx, recorded[0].wave_id)
    assert len(recorded) == 1
    assert len(assigned) == first["eligible"]
    assert assigned["customer_id"].is_unique


def test_every_planned_message_is_accounted_for(story: Story) -> None:
    with opened(story.root) as ws:
        (status,) = show_status(ws, CAMPAIGN)
    total = status["total"]
    assert total["planned"] == story.runs[0]["messages"]
    assert total["sent"] == sum(done["sent"] for done in story.delivered) > 0
    assert total["planned"] == sum(n for fate, n in total.items() if fate != "planned")
    assert total["pending"] == 0
    assert len([path for path in (story.root / "outbox").rglob("*") if path.is_file()]) == total["sent"]


def test_measuring_compares_every_arm_with_control(story: Story) -> None:
    (measured,) = story.measured
    assert measured["experiment"] == EXPERIMENT
    assert {arm: n["mature"] for arm, n in measured["arms"].items()} == story.runs[0]["assigned"]
    repurchase = [r for r in measured["results"] if r["metric"] == "repurchase"]
    assert [r["arm"] for r in repurchase] == ["double-points", "we-miss-you", "deep-discount"]
    assert all(r["status"] == "ok" and 0 < r["control_value"] < 1 for r in repurchase)


def test_deciding_gives_a_verdict_with_its_reasons(story: Story) -> None:
    (decided,) = story.decided
    assert decided["campaign"] == CAMPAIGN
    assert decided["decision"]["verdict"] in {"promote", "keep_testing", "inconclusive", "review", "stop_harm"}
    assert decided["decision"]["reasons"]


def test_the_names_of_runs_show_campaign_and_instant(story: Story, eventually: Eventually) -> None:
    names = {run.name for run in read_flow_runs()}
    assert {
        "load customers 2026-03-02 09:00",
        "run winback-demo 2026-03-02 09:00",
        "due 2026-03-02 12:00",
        "deliver 2026-03-02 15:00",
        "measure 2026-04-05 09:00",
        "decide 2026-04-05 09:00",
    } <= names
    tasks = {"run winback-demo as of 2026-03-02 09:00", "measure winback-demo", "decide winback-demo"}
    assert eventually(lambda: tasks <= {run.name for run in read_task_runs()})


def test_result_pages_show_the_counts_and_the_results(story: Story) -> None:
    pages = {page.key: str(page.data) for page in read_artifacts()}
    run, measured, decided = story.runs[0], story.measured[0], story.decided[0]
    assert f"| eligible | {run['eligible']} |" in pages["run-winback-demo"]
    assert all(f"| arm {arm} | {n} |" in pages["run-winback-demo"] for arm, n in run["assigned"].items())
    assert f"| {CAMPAIGN} | 2026-03-02 09:00:00+00:00 |" in pages["due-campaigns"]
    assert "| sent |" in pages["delivery"]
    assert pages["results-winback-demo"].count("\n| ") == 2 + len(measured["results"])
    assert f"## {CAMPAIGN}: {decided['decision']['verdict']}" in pages["decision-winback-demo"]
    assert f"| added | {story.loaded['customers']['added']} |" in pages["load-customers"]


def test_a_broken_file_fails_at_once_with_its_line_and_loads_nothing(
    story: Story, tmp_path: Path, eventually: Eventually
) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(BROKEN, encoding="utf-8")
    with opened(story.root) as ws:
        before = ws.facts.fingerprint()
    with pytest.raises(FactsError, match=r"broken\.csv:2"):
        load_files("customers", [str(path)], workspace=str(story.root), now=RIPE_AT)
    with opened(story.root) as ws:
        assert ws.facts.fingerprint() == before
    assert eventually(lambda: {run.run_count for run in read_task_runs() if failed(run, "load customers")} == {1})


def test_prefect_knows_ids_and_counts_but_no_address(story: Story, tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(BROKEN, encoding="utf-8")
    with pytest.raises(FactsError):
        load_files("customers", [str(path)], workspace=str(story.root), now=RIPE_AT)
    from prefect.logging.handlers import APILogWorker

    APILogWorker.instance().drain()
    written = b"".join(file.read_bytes() for file in story.database.parent.iterdir() if file.is_file())
    assert b"Load of customers" in written
    assert b"broken.csv:2" in written
    phones = set(story.world.customers.phone.dropna())
    emails = set(story.world.customers.email.dropna())
    tokens = set(story.world.customers.push_token.dropna())
    assert len(phones) > 100
    assert not re.findall(rb"[\w.]+@example\.(?:com|org)", written)
    assert not {email.split("@")[0] for email in emails} & set(re.findall(r"[a-z]+\.\d+", written.decode("latin-1")))
    assert not phones & set(re.findall(r"\+\d{8,15}", written.decode("latin-1")))
    assert not tokens & set(re.findall(r"demo-device-[\w-]+", written.decode("latin-1")))


def test_flows_started_twice_at_once_on_a_new_workspace_do_their_work_once(
    prefect_database: Path, tmp_path: Path
) -> None:
    root = make_shop(tmp_path / "shop")
    where = {"workspace": str(root)}
    for table, path in make_world(customers=400, seed=3, as_of=AS_OF).write(root / "import").items():
        load_files(table, [str(path)], now=AS_OF, **where)
    runs = together(*[partial(run_campaign, CAMPAIGN, as_of=AS_OF, **where)] * 2)
    assert runs[0]["assigned"] == runs[1]["assigned"]
    sent = together(*[partial(deliver_messages, now=AS_OF + timedelta(hours=3), **where)] * 2)
    with opened(root) as ws, ws.ledger.read() as tx:
        assigned = assignments_frame(tx, waves(tx, EXPERIMENT)[0].wave_id)
        left = sent_messages(tx, EXPERIMENT)
    assert len(assigned) == sum(runs[0]["assigned"].values()) == runs[0]["eligible"] > 0
    assert len(left) == sum(done["sent"] for done in sent) > 0
    assert len([path for path in (root / "outbox").rglob("*") if path.is_file()]) == len(left)


def read_flow_runs() -> list[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_runs(limit=200)


def read_task_runs() -> list[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_task_runs(limit=200)


def failed(run: Any, name: str) -> bool:
    return run.name == name and run.state is not None and run.state.is_failed()


def read_artifacts() -> list[Any]:
    """The newest result page of each key last."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import ArtifactSort

    with get_client(sync_client=True) as client:
        return client.read_artifacts(sort=ArtifactSort.UPDATED_DESC, limit=200)[::-1]
