"""Flows that fail: what is tried again, what is not, and that one campaign does not stand in another's way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName

from campaigns.errors import CampaignError
from flows.decide_experiments import decide
from flows.deliver_messages import deliver, deliver_messages
from flows.demo.story import CAMPAIGN
from flows.demo.world import make_world
from flows.load_files import derive_customers, load, load_files
from flows.measure_experiments import find_measurable, measure, measure_experiments
from flows.run_campaign import plan_and_apply
from flows.run_due_campaigns import find_due, run_due_campaigns
from flows.settings import SettingsError, read_settings
from flows.steps.make_workspace import make_workspace
from flows.steps.pause_campaign import pause_campaign, resume_campaign
from flows.steps.show_status import show_status
from flows.wiring import open_workspace
from warehouse.ledger.errors import LedgerError

pytestmark = pytest.mark.prefect

DEMO = Path(__file__).resolve().parents[2] / "flows" / "demo"
AS_OF = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
Eventually = Callable[[Callable[[], bool]], bool]
NOBODY_LISTENS = "postgresql+psycopg://nobody@127.0.0.1:1/nothing?connect_timeout=2"


@pytest.fixture(scope="module")
def shop(prefect_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of 300 customers with two campaigns that are due, the first of which has a broken text."""
    root = tmp_path_factory.mktemp("shop")
    make_workspace(root, book=DEMO / "book", templates=DEMO / "templates")
    good = root / "campaigns" / "book" / f"{CAMPAIGN}.yaml"
    bad = good.read_text(encoding="utf-8").replace(CAMPAIGN, "a-broken-one").replace("winback_hello", "broken")
    good.with_name("a-broken-one.yaml").write_text(bad.replace("exclusive: winback", "exclusive: other"), "utf-8")
    for path in (root / "templates" / "email").glob("winback_hello.*"):
        broken = path.with_name(path.name.replace("winback_hello", "broken"))
        broken.write_text(path.read_text(encoding="utf-8") + "{{ customer.shoe_size }}", "utf-8")
    for table, path in make_world(customers=300, seed=2, as_of=AS_OF).write(root / "import").items():
        load_files(table, [str(path)], workspace=str(root), now=AS_OF)
    return root


def test_only_what_is_safe_to_repeat_is_tried_again() -> None:
    assert {task.name: task.retries for task in (plan_and_apply, find_due, load, derive_customers)} == {
        "plan_and_apply": 2,
        "find_due": 2,
        "load": 2,
        "derive_customers": 2,
    }
    assert (measure.retries, find_measurable.retries) == (2, 2)
    assert (deliver.retries, decide.retries) == (0, 0)


def test_no_task_leaves_its_result_in_prefect_s_storage_or_takes_it_from_there() -> None:
    for task in (plan_and_apply, find_due, load, derive_customers, measure, find_measurable, deliver, decide):
        assert task.persist_result is False
        assert task.cache_policy is not None
        assert task.cache_policy.compute_key(task_ctx=None, inputs={}, flow_parameters={}) is None


def test_a_campaign_that_fails_does_not_keep_the_others_from_running(shop: Path, eventually: Eventually) -> None:
    with pytest.raises(ExceptionGroup, match="1 of 2 failed: a-broken-one") as raised:
        run_due_campaigns(workspace=str(shop), now=AS_OF + timedelta(hours=1))
    (error,) = raised.value.exceptions
    assert isinstance(error, CampaignError)
    assert "shoe_size" in str(error)
    with open_workspace(read_settings(shop)) as ws:
        (status,) = show_status(ws, None)
    assert status["campaign"] == CAMPAIGN
    assert status["total"]["planned"] > 0
    assert eventually(lambda: failures("run a-broken-one as of 2026-03-02 09:00") == [1])


def test_a_ledger_out_of_reach_is_tried_again(
    shop: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setenv("RETAIN_LEDGER_URL", NOBODY_LISTENS)
    impatient = plan_and_apply.with_options(retry_delay_seconds=0, task_run_name="impatient")

    @flow
    def run_impatiently() -> None:
        impatient(CAMPAIGN, str(shop), AS_OF)

    with pytest.raises(LedgerError):
        run_impatiently()
    assert eventually(lambda: failures("impatient") == [3])


def test_a_paused_campaign_sends_nothing_until_it_is_resumed_and_then_all_in_several_tasks(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuesday = AS_OF + timedelta(hours=26)
    with open_workspace(read_settings(shop)) as ws:
        pause_campaign(ws, CAMPAIGN, by="tests", reason="wrong price", at=AS_OF)
    assert deliver_messages(workspace=str(shop), now=tuesday)["sent"] == 0
    with open_workspace(read_settings(shop)) as ws:
        resume_campaign(ws, CAMPAIGN, by="tests", reason="price corrected", at=tuesday)
    assert deliver_messages(workspace=str(shop), now=tuesday, limit=3)["sent"] == 3
    monkeypatch.setattr("flows.deliver_messages.MESSAGES_A_TASK", 10)
    assert deliver_messages(workspace=str(shop), now=tuesday)["sent"] > 20
    assert deliver_messages(workspace=str(shop), now=tuesday)["sent"] == 0
    monkeypatch.setattr("flows.deliver_messages.TASKS_A_RUN", 1)
    assert deliver_messages(workspace=str(shop), now=tuesday + timedelta(hours=6))["sent"] <= 10


def test_a_campaign_whose_file_says_paused_is_named_as_held(shop: Path) -> None:
    path = shop / "campaigns" / "book" / f"{CAMPAIGN}.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("status: active", "status: paused"), encoding="utf-8")
    done = deliver_messages(workspace=str(shop), now=AS_OF + timedelta(hours=50))
    path.write_text(text, encoding="utf-8")
    assert done["held"] == [CAMPAIGN]
    assert done["sent"] == 0


def test_a_run_that_lost_its_workspace_is_refused_and_makes_none(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETAIN_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="not a workspace"):
        run_due_campaigns(now=AS_OF)
    assert list(tmp_path.iterdir()) == []


def test_measuring_a_campaign_that_never_ran_says_so(shop: Path) -> None:
    with pytest.raises(ExceptionGroup, match="1 of 1 failed: a-broken-one") as raised:
        measure_experiments("a-broken-one", workspace=str(shop), now=AS_OF)
    assert "nothing to measure" in str(raised.value.exceptions[0])


def test_customers_are_derived_from_orders_and_from_nothing_else(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("order_id,customer_id,ordered_at,amount\nN1,NEW1,2026-02-01,5\nN2,NEW1,2026-02-03,6\n", "utf-8")
    counts = load_files("customers", [str(path)], from_orders=True, workspace=str(shop), now=AS_OF)
    assert counts["added"] == 1
    with pytest.raises(ValueError, match="only customers are derived"):
        load_files("orders", [str(path)], from_orders=True, workspace=str(shop), now=AS_OF)


def failures(name: str) -> list[int]:
    """How often each failed task run of that name was begun."""
    wanted = TaskRunFilter(name=TaskRunFilterName(any_=[name]))
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(task_run_filter=wanted)
    return [run.run_count for run in found if run.state is not None and run.state.is_failed()]
