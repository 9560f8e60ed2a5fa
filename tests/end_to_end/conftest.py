"""What the campaigns over the simulated providers share: a shop with a server of simulators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from channels.simulators.server import Simulator, running
from tests.end_to_end.simulated_world import MakeWorld, Story, Time, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeWorld]:
    """Makes the shop of a story, with a server of simulators and a clock."""
    time = Time()
    simulator = Simulator(clock=time)
    with ExitStack() as stack:
        base = stack.enter_context(running(simulator))

        def make(name: str, story: Story) -> World:
            return World(stack, tmp_path_factory.mktemp(name) / "shop", story, (simulator, base, time))

        yield make
