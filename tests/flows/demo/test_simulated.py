"""The demonstration over HTTP: a simulator of its own counts what we call sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.demo.loop import run_demo
from flows.settings import SettingsError


def test_what_the_demonstration_calls_sent_its_simulator_accepted_once(tmp_path: Path) -> None:
    run = run_demo(tmp_path / "shop", customers=400, seed=9, progress=lambda *_: None, providers="simulated")
    assert run.simulator == {"accepted": run.messages["sent"], "duplicates": 0}
    assert run.messages["sent"] > 20
    assert run.messages["in_doubt"] == 0
    assert run.to_json(report=None)["simulator"] == run.simulator
    assert not (tmp_path / "shop" / "outbox").exists()


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected one of local, simulated"):
        run_demo(tmp_path / "shop", customers=100, seed=9, progress=lambda *_: None, providers="pigeon")
