"""init, validate, preview, doctor and serve: a workspace, its files, its health, its pages."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from retain.cli import run
from tests.retain.conftest import CAMPAIGN, Cli


def test_a_new_workspace_is_complete_and_says_what_comes_next(tmp_path: Path, retain: Cli) -> None:
    outcome = retain("init", tmp_path / "shop")
    assert outcome.code == 0
    assert "next: put your customers in: retain load customers FILE" in outcome.out
    made = retain("init", tmp_path / "other", "--json").json
    assert made["workspace"] == str(tmp_path / "other")
    assert "campaigns/book/winback-90d.yaml" in made["files"]


def test_only_what_was_made_is_told_where_other_files_lie_already(tmp_path: Path, retain: Cli) -> None:
    alone = retain("init", tmp_path / "alone", "--json").json["files"]
    ours = ["notes.txt", "campaigns/old.txt", ".gitignore"]
    for name in ours:
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ours", encoding="utf-8")
    outcome = retain("init", tmp_path / "shop")
    assert outcome.out.startswith(f"{tmp_path / 'shop'}: {len(alone) - 1} files made\n")
    assert all((tmp_path / "shop" / name).read_text(encoding="utf-8") == "ours" for name in ours)
    files = [path for path in (tmp_path / "alone").rglob("*") if path.is_file()]
    assert sorted(alone) == sorted(str(path.relative_to(tmp_path / "alone")) for path in files if path.name != "key")


def test_the_samples_are_valid(bare: Path, retain: Cli) -> None:
    assert retain("validate").out == "5 campaigns checked: 0 errors, 0 warnings\n"
    assert retain("validate", "winback-90d", "--json").json["campaigns"] == ["winback-90d"]


def test_validate_tells_every_problem_and_exits_with_1(bare: Path, retain: Cli) -> None:
    path = bare / "campaigns" / "book" / "winback-90d.yaml"
    path.write_bytes(path.read_bytes().replace(b"weight: 40%", b"wieght: 40%"))
    outcome = retain("validate")
    assert outcome.code == 1
    assert outcome.out.count('did you mean "weight"?') == 2
    assert retain("validate", "--json").json["errors"] == outcome.out.count("winback-90d.yaml:")


def test_every_message_can_be_read_before_it_is_sent(shop: Path, retain: Cli) -> None:
    shown = retain("preview", CAMPAIGN, "--customer", "C0000001", "--now", "2026-03-02")
    assert shown.code == 0
    assert "--- deep-discount, step 1: sms winback_discount" in shown.out
    assert "SMS segments, GSM-7)" in shown.out
    assert "COMEBACK35" in shown.out
    messages = retain("preview", CAMPAIGN, "--json").json["messages"]
    assert {(m["arm"], m["channel"]) for m in messages} >= {("double-points", "push"), ("we-miss-you", "email")}
    assert all(isinstance(m["content"]["data"], dict) for m in messages if m["channel"] == "push")
    assert not (shop / "outbox").exists()


def test_doctor_finds_a_demonstrations_workspace_healthy(shop: Path, retain: Cli) -> None:
    outcome = retain("doctor", "--json")
    assert outcome.code == 0
    assert all(finding["ok"] for finding in outcome.json["findings"])


def test_doctor_names_what_is_missing(bare: Path, retain: Cli) -> None:
    outcome = retain("doctor")
    assert outcome.code == 1
    assert "next: retain load customers FILE" in outcome.out
    assert outcome.err == "warning: something needs attention\n"


class Stoppable(uvicorn.Server):
    """A server that tells when it has started, and can be told to stop from another thread."""

    started_up = threading.Event()
    latest: Stoppable

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        Stoppable.latest = self
        Stoppable.started_up.set()


def test_serve_shows_the_experiments_on_this_machine_only(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(uvicorn, "Server", Stoppable)
    Stoppable.started_up.clear()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run(["serve", "--port", "0"])), daemon=True)
    thread.start()
    assert Stoppable.started_up.wait(60)
    address = capsys.readouterr().out.split()[0]
    assert address.startswith("http://127.0.0.1:")
    page = httpx.get(address, timeout=60)
    assert page.status_code == 200
    assert f"{CAMPAIGN}:1" in page.text
    Stoppable.latest.should_exit = True
    thread.join(60)
    assert codes == [0]


def test_a_port_that_is_taken_is_an_error_with_a_way_out(shop: Path, retain: Cli) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        outcome = retain("serve", "--port", other.getsockname()[1])
    assert outcome.code == 1
    assert "choose another one with --port" in outcome.err
