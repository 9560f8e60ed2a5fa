"""A launch above the limits pauses its flow run until a second person has spoken in Prefect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows.run_campaign import run_campaign
from flows.settings import read_settings
from flows.steps.approve_launch import list_launches, waiting_codes
from flows.wiring import open_workspace
from tests.flows.steps.conftest import build_guarded_shop

pytestmark = pytest.mark.prefect

AS_OF = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

Eventually = Callable[[Callable[[], bool]], bool]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small shop whose launches above ten recipients need Ana or Ben."""
    monkeypatch.setenv("RETAIN_SECRET", "a key for tests only, never used")
    return build_guarded_shop(tmp_path / "shop", "ana", "ben")


def launches(root: Path) -> list[dict[str, Any]]:
    with open_workspace(read_settings(root)) as ws:
        return list_launches(ws)


def code_of(root: Path, name: str) -> str:
    with open_workspace(read_settings(root)) as ws:
        return waiting_codes(ws, name)[0]["code"]


def paused_run() -> UUID | None:
    """The flow run that waits for input, if there is one."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    async def look() -> UUID | None:
        async with get_client() as client:
            runs = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": ["PAUSED"]}}})
            )
        return runs[0].id if runs else None

    return asyncio.run(look())


def test_a_paused_run_goes_on_when_a_second_person_approves(
    prefect_database: Path, shop: Path, eventually: Eventually
) -> None:
    from prefect.flow_runs import resume_flow_run

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_campaign, "back", workspace=str(shop), as_of=AS_OF, approval_timeout_s=120)
        assert eventually(lambda: running.done() or paused_run() is not None)
        assert [launch["state"] for launch in launches(shop)] == ["awaiting_approval"]
        code = code_of(shop, "ana")
        run_id = paused_run()
        assert run_id is not None
        resume_flow_run(run_id, run_input={"by": "ana", "approve": True, "code": code, "note": "fine"})
        outcome = running.result(timeout=120)
    assert outcome["launch"]["state"] == "approved"
    assert sum(outcome["assigned"].values()) == 60
    (launch,) = launches(shop)
    assert (launch["state"], launch["answered_by"], launch["note"]) == ("approved", "ana", "fine")


def test_where_nobody_speaks_the_launch_goes_on_waiting(prefect_database: Path, shop: Path) -> None:
    outcome = run_campaign("back", workspace=str(shop), as_of=AS_OF, approval_timeout_s=1)
    assert outcome["launch"]["state"] == "awaiting_approval"
    assert sum(outcome["assigned"].values()) == 0
    assert [launch["state"] for launch in launches(shop)] == ["awaiting_approval"]
