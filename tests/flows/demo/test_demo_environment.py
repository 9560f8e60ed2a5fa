"""The demonstration keeps to itself, whatever the shell it is run from is set up for."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.demo.loop import run_demo


def test_a_shell_set_up_for_production_does_not_reach_the_demonstration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "RETAIN_PROVIDERS__SMS": "twilio",
        "RETAIN_PROVIDERS__EMAIL": "sendgrid",
        "TWILIO_AUTH_TOKEN": "token",
        "SENDGRID_API_KEY": "key",
        "RETAIN_LEDGER_URL": f"sqlite:///{tmp_path}/production.db",
        "RETAIN_FACTS_URL": f"sqlite:///{tmp_path}/warehouse.db",
        "RETAIN_HOLDOUT__SHARE": "90%",
    }.items():
        monkeypatch.setenv(name, value)
    run = run_demo(tmp_path / "demo", customers=300, seed=1, progress=lambda *_: None)
    assert not (tmp_path / "production.db").exists()
    assert run.messages["sent"] == run.messages["planned"] > 10
    assert len(list((tmp_path / "demo" / "outbox").iterdir())) == run.messages["sent"]
    assert "global_holdout" not in run.planned.summary["skipped"]
