"""The deployments that every workspace gets (prefect.yaml), read without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.importtools import import_object
from ruamel.yaml import YAML

FILE = Path(__file__).resolve().parents[2] / "prefect.yaml"
CONTENT: dict[str, Any] = YAML(typ="safe").load(FILE)
DEPLOYMENTS: list[dict[str, Any]] = CONTENT["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["entrypoint"].rsplit(".", 1)[1])
def test_every_deployment_starts_a_flow_of_ours_in_its_own_workspace(deployment: dict[str, Any]) -> None:
    flow = import_object(deployment["entrypoint"])
    assert isinstance(flow, Flow)
    assert flow.name.replace("-", "_") == deployment["entrypoint"].rsplit(".", 1)[1]
    assert deployment["work_pool"]["job_variables"]["env"] == {"RETAIN_WORKSPACE": "{{ $RETAIN_WORKSPACE }}"}
    assert "parameters" not in deployment


def test_scheduled_deployments_never_overlap_and_their_schedules_can_be_told_apart() -> None:
    scheduled = {d["entrypoint"].rsplit(".", 1)[1]: d for d in DEPLOYMENTS if "schedules" in d}
    strategies = {
        name: (d["concurrency_limit"]["limit"], d["concurrency_limit"]["collision_strategy"])
        for name, d in scheduled.items()
    }
    assert strategies == {
        "run_due_campaigns": (1, "ENQUEUE"),
        "deliver_messages": (1, "CANCEL_NEW"),
        "measure_experiments": (1, "CANCEL_NEW"),
        "decide_experiments": (1, "CANCEL_NEW"),
    }
    for deployment in scheduled.values():
        slugs = [schedule["slug"] for schedule in deployment["schedules"]]
        assert len(slugs) == len(set(slugs))
        assert {schedule["timezone"] for schedule in deployment["schedules"]} == {"UTC"}


def test_a_run_starts_in_the_directory_it_was_deployed_from() -> None:
    assert CONTENT["pull"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $RETAIN_WORKSPACE }}"}}
    ]
