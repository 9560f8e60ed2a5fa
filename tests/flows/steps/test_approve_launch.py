"""Launches above the limits: asked for once, approved by a second person, launched as approved or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from campaigns.errors import CampaignError
from flows.steps.apply_plan import Applied, apply_plan_file
from flows.steps.approve_launch import (
    answer,
    answer_by_code,
    approver_token,
    launch_code,
    list_launches,
    waiting_codes,
)
from flows.steps.plan_campaign import plan_campaign
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.audit import audit_log
from warehouse.ledger.errors import LedgerError
from warehouse.ledger.launches import LaunchAnswer
from warehouse.ledger.suppressions import suppress
from warehouse.ledger.waves import waves

Shop = Callable[..., Workspace]
LIMITED = {"approval": {"recipients": 10}}
NAMED = {"approval": {"recipients": 10, "approvers": ("ana", "ben")}}


def n_assigned(ws: Workspace) -> int:
    with ws.ledger.read() as tx:
        return sum(len(assignments_frame(tx, wave.wave_id)) for wave in waves(tx, "back:1"))


def run(ws: Workspace, monday: datetime, by: str = "olga") -> Applied:
    return run_campaign(ws, "back", as_of=monday, by=by)


def say(ws: Workspace, monday: datetime, by: str, *, approved: bool = True, note: str = "") -> None:
    answer(ws, "back", monday, LaunchAnswer(approved, by, monday + timedelta(hours=1), note))


def test_a_launch_below_every_limit_needs_nobody(shop: Shop, monday: datetime) -> None:
    ws = shop(approval={"recipients": 1000, "cost": "100 EUR", "discounts": "100 EUR"})
    assert run(ws, monday).launch.state == "free"
    assert n_assigned(ws) == 60
    assert list_launches(ws) == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"recipients": 10}, "recipients are more than approval.recipients (10)"),
        ({"discounts": "1 EUR"}, "is more than approval.discounts (1 EUR)"),
        ({"cost": "0.01 EUR"}, "is more than approval.cost (0.01 EUR)"),
        ({"cost": "9999 USD"}, "cannot be compared with approval.cost (9999 USD): it is in another currency"),
    ],
)
def test_each_limit_makes_a_launch_wait(shop: Shop, monday: datetime, limits: dict[str, object], reason: str) -> None:
    ws = shop(approval=limits, prices={"sms": "0.05 EUR", "email": "0.001 EUR"})
    waiting = run(ws, monday)
    assert waiting.launch.state == "awaiting_approval"
    assert reason in waiting.launch.reasons[0]
    assert waiting.messages == n_assigned(ws) == 0
    warnings = plan_campaign(ws, "back", as_of=monday).summary["warnings"]
    assert any("second person's approval" in text and reason in text for text in warnings)


def test_an_approved_launch_is_carried_out_once(shop: Shop, monday: datetime) -> None:
    ws = shop(**LIMITED)
    for _ in range(3):
        assert run(ws, monday).launch.state == "awaiting_approval"
    (asked,) = list_launches(ws, "back")
    assert (asked["state"], asked["requested_by"], asked["recipients"]) == (
        "awaiting_approval",
        "olga",
        asked["recipients"],
    )
    say(ws, monday, "ana", note="looked at it")
    applied = run(ws, monday)
    assert applied.launch.state == "approved"
    assert not any("waits" in text for text in applied.warnings)
    assert n_assigned(ws) == 60
    assert run(ws, monday).already_applied
    (launched,) = list_launches(ws, "back")
    assert (launched["state"], launched["answered_by"], launched["note"]) == ("approved", "ana", "looked at it")


@pytest.mark.parametrize("name", ["olga", "OLGA"])
def test_nobody_approves_what_they_asked_for(shop: Shop, monday: datetime, name: str) -> None:
    ws = shop(**LIMITED)
    run(ws, monday)
    with pytest.raises(LedgerError, match=r"somebody else must answer"):
        say(ws, monday, name)
    assert run(ws, monday).launch.state == "awaiting_approval"


def test_a_refused_launch_stays_refused(shop: Shop, monday: datetime) -> None:
    ws = shop(**LIMITED)
    run(ws, monday)
    say(ws, monday, "ana", approved=False, note="wrong segment")
    refused = run(ws, monday)
    assert (refused.launch.state, refused.launch.reasons) == ("refused", ("ana refused it: wrong segment",))
    assert n_assigned(ws) == 0
    with pytest.raises(LedgerError, match=r"was refused by ana already"):
        say(ws, monday, "ben")


def test_what_moved_further_than_drift_since_the_approval_is_not_launched(shop: Shop, monday: datetime) -> None:
    ws = shop(**LIMITED)
    run(ws, monday)
    say(ws, monday, "ana")
    suppress(ws.ledger, "C0001", "all", "manual", "test", monday)
    for n in range(2, 7):
        suppress(ws.ledger, f"C{n:04d}", "all", "manual", "test", monday)
    with pytest.raises(CampaignError, match=r"10\.0% of the audience moved since the launch was approved"):
        run(ws, monday)
    assert n_assigned(ws) == 0


def test_a_little_drift_is_launched(shop: Shop, monday: datetime) -> None:
    ws = shop(**LIMITED)
    run(ws, monday)
    say(ws, monday, "ana")
    suppress(ws.ledger, "C0001", "all", "manual", "test", monday)
    assert run(ws, monday).launch.state == "approved"
    assert n_assigned(ws) == 59


def test_files_that_changed_since_must_be_approved_anew(
    shop: Shop, monday: datetime, rewrite: Callable[[Workspace, str, str], None]
) -> None:
    ws = shop(**LIMITED)
    run(ws, monday)
    say(ws, monday, "ana")
    rewrite(ws, "after: 3 days", "after: 4 days")
    assert run(ws, monday).launch.state == "awaiting_approval"
    (asked,) = list_launches(ws)  # of one run the newest request counts
    assert asked["state"] == "awaiting_approval"
    say(ws, monday, "ben")
    assert run(ws, monday).launch.state == "approved"


def test_a_plan_file_waits_too(shop: Shop, monday: datetime) -> None:
    ws = shop(**LIMITED)
    path = plan_campaign(ws, "back", as_of=monday).write(ws.root / "plan")
    assert apply_plan_file(ws, path, now=monday, by="olga").launch.state == "awaiting_approval"
    say(ws, monday, "ana")
    assert apply_plan_file(ws, path, now=monday, by="olga").launch.state == "approved"


def test_only_the_named_may_approve(shop: Shop, monday: datetime) -> None:
    ws = shop(**NAMED)
    run(ws, monday)
    with pytest.raises(CampaignError, match=r"eve may not approve launches; .* names ana, ben"):
        say(ws, monday, "eve")
    with pytest.raises(CampaignError, match=r"eve may not approve"):
        waiting_codes(ws, "eve")


def test_a_code_proves_who_answers(shop: Shop, monday: datetime) -> None:
    ws = shop(**NAMED)
    run(ws, monday)
    (code,) = waiting_codes(ws, "ana")
    as_ana = LaunchAnswer(True, "ana", monday, "")
    for wrong in ("", "AAAA", code["code"][:-1], approver_token(ws, "ben"), waiting_codes(ws, "ben")[0]["code"]):
        with pytest.raises(CampaignError, match="not that of the approver"):
            answer_by_code(ws, "back", monday, wrong, as_ana)
    request = answer_by_code(ws, "back", monday, f" {code['code'].lower()} ", as_ana)
    assert launch_code(ws, "ana", request) == code["code"]
    assert waiting_codes(ws, "ana") == []
    assert run(ws, monday).launch.state == "approved"


def test_nobody_answers_by_code_where_nobody_is_named(shop: Shop, monday: datetime) -> None:
    ws = shop(**LIMITED)
    run(ws, monday)
    with pytest.raises(CampaignError, match=r"approval.approvers in retain.toml names no one"):
        answer_by_code(ws, "back", monday, "", LaunchAnswer(True, "ana", monday, ""))


def test_there_is_nothing_to_approve_before_somebody_asks(shop: Shop, monday: datetime) -> None:
    with pytest.raises(CampaignError, match=r"no launch of back waits for approval"):
        say(shop(**LIMITED), monday, "ana")


def test_the_audit_tells_who_asked_and_who_answered(shop: Shop, monday: datetime) -> None:
    ws = shop(**LIMITED)
    run(ws, monday)
    say(ws, monday, "ana")
    with ws.ledger.read() as tx:
        told = [(row.actor, row.action) for row in audit_log(tx, subject="back")]
    assert told[:2] == [("ana", "launch approved"), ("olga", "launch requested")]


def test_the_ledger_itself_wants_a_second_person(shop: Shop, monday: datetime, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    ws = shop(**LIMITED)
    run(ws, monday)
    path = ws.settings.ledger_address.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as raw, pytest.raises(sqlite3.IntegrityError, match="second_person"):
        raw.execute(
            "INSERT INTO launch_answers SELECT request_id, requested_by, requested_by, "
            "requested_at, 1, '' FROM launch_requests"
        )
