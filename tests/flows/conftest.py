"""A Prefect server of the tests' own, for the flows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# before anything imports Prefect, which looks at them once
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


@pytest.fixture(scope="session")
def prefect_database() -> Iterator[Path]:
    """Start a Prefect server on a loopback port with a database of its own; gives the database's file."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        prefect_test_harness(server_startup_timeout=60),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),  # they cost a second of every flow run
    ):
        url = get_current_settings().server.database.connection_url
        assert url is not None
        yield Path(url.get_secret_value().removeprefix("sqlite+aiosqlite:///"))


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Give a question to ask until its answer is yes, for half a minute at most: Prefect records task runs later."""

    def ask(question: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 30
        while not question():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    return ask
