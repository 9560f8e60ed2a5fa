"""The simulator as a process beside the demonstration: its messages travel over real HTTP, and it counts them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from flows.settings import SettingsError
from flows.steps.make_workspace import TREE

LOCAL: Final = "local"
SIMULATED: Final = "simulated"
CHOICES: Final = (LOCAL, SIMULATED)


@contextmanager
def chosen_providers(name: str) -> Iterator[Mapping[str, Any]]:
    """The settings of the providers of that name; for "simulated" a simulator runs as long as the context.

    Raises SettingsError for another name.
    """
    if name not in CHOICES:
        raise SettingsError(f'--providers "{name}": expected one of {", ".join(CHOICES)}')
    if name == LOCAL:
        yield {}
        return
    with _simulator() as address:
        yield {"sms": name, "email": name, "push": name, "simulator_url": address}


def simulators_count(providers: Mapping[str, Any]) -> dict[str, int] | None:
    """How many messages the simulator accepted, and how many of their keys more than once; None without one."""
    if not providers:
        return None
    with urllib.request.urlopen(f"{providers['simulator_url']}/__sim/ledger", timeout=60) as answer:  # noqa: S310 (loopback)
        ledger = json.load(answer)
    return {"accepted": len(ledger["accepted"]), "duplicates": len(ledger["duplicates"])}


@contextmanager
def _simulator() -> Iterator[str]:
    command = [sys.executable, "-m", "channels.simulators"]
    with subprocess.Popen(command, cwd=TREE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (our own module)
        try:
            assert process.stdout is not None  # asked for
            address = process.stdout.readline().strip()
            if not address:
                raise SettingsError("the simulator did not start; try `python -m channels.simulators` to see why")
            yield address
        finally:
            process.terminate()
