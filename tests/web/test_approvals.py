"""The page of launches: everybody on this machine reads it, only an approver's code changes anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.steps.approve_launch import approver_token, list_launches
from flows.steps.run_campaign import run_campaign
from flows.wiring import Workspace
from tests.flows.steps.conftest import build_shop
from web.app import create_app

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    """A shop with a launch that waits."""
    with ExitStack() as stack:
        made = build_shop(stack, tmp_path / "shop", approval={"recipients": 10, "approvers": ("ana", "ben")})
        run_campaign(made, "back", as_of=MONDAY, by="olga")
        yield made


@pytest.fixture
def page(ws: Workspace) -> TestClient:
    """A browser at the pages."""
    return TestClient(create_app(ws.settings), base_url="http://127.0.0.1")


def fields(ws: Workspace, **changed: str) -> dict[str, str]:
    return {
        "campaign": "back",
        "as_of": MONDAY.isoformat(),
        "by": "ana",
        "code": approver_token(ws, "ana"),
        "answer": "approve",
        **changed,
    }


def state(ws: Workspace) -> str:
    return str(list_launches(ws)[0]["state"])


def test_the_page_says_what_waits_and_why(ws: Workspace, page: TestClient) -> None:
    shown = page.get("/approvals")
    assert shown.status_code == 200
    for text in ("waits for approval", "recipients are more than approval.recipients (10)", "olga", "2026-03-02 09:00"):
        assert text in shown.text
    assert "form-action 'self'" in shown.headers["content-security-policy"]
    assert approver_token(ws, "ana") not in shown.text
    assert '<a href="/approvals">' in page.get("/").text


def test_an_approver_approves_with_a_token(ws: Workspace, page: TestClient) -> None:
    done = page.post("/approvals", data=fields(ws, note="looked at it"))
    assert done.status_code == 200
    assert "The launch of back is approved." in done.text
    assert state(ws) == "approved"
    again = page.post("/approvals", data=fields(ws, by="ben", code=approver_token(ws, "ben"), answer="refuse"))
    assert again.status_code == 403
    assert state(ws) == "approved"


def test_an_approver_refuses(ws: Workspace, page: TestClient) -> None:
    assert "is refused" in page.post("/approvals", data=fields(ws, answer="refuse")).text
    assert state(ws) == "refused"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"code": "WRONG"}, 403),
        ({"by": "ben"}, 403),
        ({"by": "olga"}, 403),
        ({"campaign": "other"}, 403),
        ({"as_of": "yesterday"}, 400),
        ({"code": ""}, 400),
    ],
)
def test_without_the_right_code_nothing_changes(
    ws: Workspace, page: TestClient, changed: dict[str, str], code: int
) -> None:
    assert page.post("/approvals", data=fields(ws, **changed)).status_code == code
    assert state(ws) == "awaiting_approval"


def test_a_huge_form_is_refused(ws: Workspace, page: TestClient) -> None:
    assert page.post("/approvals", data=fields(ws, note="x" * 20_000)).status_code == 413
    assert state(ws) == "awaiting_approval"


def test_looking_changes_nothing(ws: Workspace, page: TestClient) -> None:
    for _ in range(3):
        page.get("/approvals", params=fields(ws))
    assert state(ws) == "awaiting_approval"
