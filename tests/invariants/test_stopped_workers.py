"""A worker that is stopped for longer than its lease sends nothing when it goes on: others have taken its messages over.

SIGSTOP and SIGCONT on real processes, at each moment between the claim and the last byte; the lease by a clock that the
test moves.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from flows.steps.deliver_messages import LEASE
from tests.invariants.trials import Outcome, Scene, Trial, make_shop

CUSTOMERS = 56
MOMENTS = ("claim: done", "intend: done", "about to send")
"""Nothing of the batch has left at the first two; at the third one a request stands before its first byte."""

Held = Callable[[str, frozenset[str]], Outcome]


@pytest.fixture
def held(tmp_path: Path) -> Held:
    """Holds a worker at a moment, lets another one do everything, and lets the first one go on."""

    def hold(moment: str, bugs: frozenset[str]) -> Outcome:
        make_shop(tmp_path, CUSTOMERS)
        trial = Trial(customers=CUSTOMERS, workers=2, kills=0, batch=100, faults={}, receipts=False, bugs=bugs)
        with ExitStack() as stack:
            scene = Scene(stack, tmp_path, "", trial)
            stale = scene.hire(point=moment, end=int(signal.SIGSTOP))
            stack.callback(stale.kill)
            wait_until_stopped(stale)
            assert scene.place.notes("points") == [moment]
            pass_time(scene, LEASE + timedelta(minutes=1))  # the other finds the lease ended
            pass_time(scene, timedelta(minutes=16))  # and asks about what it doubts
            sent = len(scene.ask("ledger")["accepted"])
            assert sent > 0
            os.kill(stale.pid or 0, signal.SIGCONT)
            stale.join(60)
            assert stale.exitcode == 0
            assert scene.place.notes("broken") == []
            outcome = scene.judge()
            late = {taken["key"] for taken in scene.ask("ledger")["accepted"][sent:]}
            # what surely has not left is sent by whoever claims it next: another attempt, under a lease of its own
            stale_ones = [r["message_key"] for r in scene.messages() if r["message_key"] in late and r["attempts"] < 2]
            if stale_ones:
                outcome.violations.append(f"{len(stale_ones)} sent under a lease that had ended")
            return outcome

    return hold


def pass_time(scene: Scene, by: timedelta) -> None:
    """Let time pass, and another worker do what there is to do then."""
    scene.clock.jump(by)
    other = scene.hire()
    other.join(120)
    assert other.exitcode == 0


def wait_until_stopped(process: ForkServerProcess) -> None:
    """Until the process has been stopped by a signal, as the system tells it."""
    until_s = time.monotonic() + 60.0
    stat = Path(f"/proc/{process.pid}/stat")
    while stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "T":
        assert not wait([process.sentinel], timeout=0.01), "the worker ended before it came to the moment"
        assert time.monotonic() < until_s, "the worker never came to the moment"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells a stopped process by /proc")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_stopped_for_longer_than_its_lease_sends_nothing_when_it_goes_on(held: Held, moment: str) -> None:
    outcome = held(moment, frozenset())
    assert outcome.violations == []
    # what had gone back the other has sent, and of what it doubted the first one knows that it did not leave
    settled = {"sent", "in_doubt"} if moment == "about to send" else {"sent"}
    assert outcome.states.keys() == {"sms", "email", "push"}
    assert all(states.keys() <= settled and states["sent"] for states in outcome.states.values())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells a stopped process by /proc")
@pytest.mark.parametrize(("moment", "bug"), [("claim: done", "no fence"), ("intend: done", "looks no more")])
def test_a_worker_that_does_not_look_at_its_lease_is_found(held: Held, moment: str, bug: str) -> None:
    outcome = held(moment, frozenset({bug}))
    assert any("under a lease that had ended" in found for found in outcome.violations)
