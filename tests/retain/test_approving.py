"""approve and approvals: what a second person says on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.steps.conftest import build_guarded_shop
from tests.retain.conftest import Cli

AS_OF = "2026-03-02T09:00:00+00:00"


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small shop whose launches above ten recipients need a second person."""
    monkeypatch.setenv("RETAIN_SECRET", "a key for tests only, never used")
    root = build_guarded_shop(tmp_path / "shop", "ana")
    monkeypatch.setenv("RETAIN_WORKSPACE", str(root))
    return root


def test_a_large_launch_waits_is_approved_and_runs(large: Path, retain: Cli) -> None:
    waiting = retain("run", "back", "--as-of", AS_OF, "--by", "olga")
    assert waiting.code == 2
    assert f"retain approve back --as-of {AS_OF} --by NAME" in waiting.out
    listed = retain("approvals")
    assert listed.code == 2
    assert "awaiting_approval" in listed.out
    assert retain("approvals", "--json").json["launches"][0]["requested_by"] == "olga"
    approved = retain("approve", "back", "--by", "ana", "--note", "fine", "--now", AS_OF, "--json")
    assert approved.json == {"campaign": "back", "as_of": AS_OF, "approved": True, "by": "ana"}
    run = retain("run", "back", "--as-of", AS_OF, "--json")
    assert run.code == 0
    assert run.json["launch"]["state"] == "approved"
    assert sum(run.json["assigned"].values()) == 60
    assert retain("approvals").code == 0


def test_a_refused_launch_is_an_error_when_run(large: Path, retain: Cli) -> None:
    retain("run", "back", "--as-of", AS_OF, "--by", "olga")
    assert "refused by ana" in retain("approve", "back", "--by", "ana", "--refuse", "--now", AS_OF).out
    refused = retain("run", "back", "--as-of", AS_OF)
    assert refused.code == 1
    assert "may not be launched" in refused.out


def test_mistakes_are_one_clear_error(large: Path, retain: Cli) -> None:
    assert "no launch of back waits" in retain("approve", "back", "--by", "ana").err
    retain("run", "back", "--as-of", AS_OF, "--by", "ana")
    own = retain("approve", "back", "--by", "ana")
    assert (own.code, own.err.count("error")) == (1, 1)
    assert "somebody else must answer" in own.err
    assert "eve may not approve launches" in retain("approve", "back", "--by", "eve").err
    assert "eve may not approve launches" in retain("approvals", "--token-of", "eve").err


def test_tokens_and_codes_are_printed_for_approvers_alone(large: Path, retain: Cli) -> None:
    retain("run", "back", "--as-of", AS_OF, "--by", "olga")
    token = retain("approvals", "--token-of", "ana").out.strip()
    assert len(token) == 24
    codes = retain("approvals", "--codes-of", "ana").out
    assert "back" in codes
    assert token not in codes
    assert retain("approvals", "--token-of", "ana", "--json").json == {"approver": "ana", "token": token}
    told = retain("approvals", "--codes-of", "ana", "--json").json["codes"]
    assert [(code["campaign"], code["as_of"], code["code"] in codes) for code in told] == [("back", AS_OF, True)]


def test_the_setting_says_who_asked_where_by_does_not(
    large: Path, retain: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIN_OPERATOR", "olga")
    retain("run", "back", "--as-of", AS_OF)
    assert retain("approvals", "--json").json["launches"][0]["requested_by"] == "olga"


def test_before_any_large_launch_there_is_nothing_to_list(large: Path, retain: Cli) -> None:
    listed = retain("approvals")
    assert (listed.code, listed.out.strip()) == (0, "no launch had to be approved yet")
