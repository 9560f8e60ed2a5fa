"""plan, apply and run: what they say, what they exit with, and that nothing is done twice."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.retain.conftest import AS_OF, CAMPAIGN, Cli, Demo

LATER = "2026-05-04"
ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    "templates/email/complaint_update.html.j2",
    "templates/email/complaint_update.subject.j2",
    "templates/sms/complaint_update.txt.j2",
    "templates/partials/layout.html.j2",
    "templates/partials/pieces.html.j2",
)


def test_a_plan_with_work_to_do_exits_with_2_and_names_the_next_step(shop: Path, retain: Cli) -> None:
    outcome = retain("plan", CAMPAIGN, "--as-of", LATER)
    assert outcome.code == 2
    for said in ("audience ", "already_assigned", "without treatment", "earliest decision on", "next: retain apply "):
        assert said in outcome.out
    assert outcome.err.startswith("warning: ")


def test_a_plan_is_one_object_and_the_same_every_time(shop: Path, retain: Cli, tmp_path: Path) -> None:
    first = retain("plan", CAMPAIGN, "--as-of", LATER, "--out", tmp_path / "a", "--json")
    second = retain("plan", CAMPAIGN, "--as-of", LATER, "--out", tmp_path / "b", "--json")
    assert first.code == 2
    assert first.out == second.out
    for name in ("plan.json", "assignments.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    plan = first.json
    assert set(plan) >= {"campaign", "as_of", "audience", "eligible", "skipped", "arms"}
    assert plan["audience"] == plan["eligible"] + sum(plan["skipped"].values())
    assert sum(arm["planned"] for arm in plan["arms"].values()) == plan["eligible"]
    assert {"planned", "share"} <= set(plan["arms"]["control"])


def test_now_stands_in_for_the_instant_of_a_plan(shop: Path, retain: Cli) -> None:
    assert retain("plan", CAMPAIGN, "--now", LATER, "--json").json["as_of"] == f"{LATER}T00:00:00+00:00"


def test_what_was_run_already_is_nothing_to_do(shop: Path, retain: Cli) -> None:
    planned = retain("plan", CAMPAIGN, "--as-of", AS_OF)
    assert planned.code == 0
    assert "there is nothing to apply" in planned.err
    assert "next: retain apply" not in planned.out
    again = retain("run", CAMPAIGN, "--as-of", AS_OF)
    assert again.code == 0
    assert "already applied; nothing changed" in again.out


def test_a_plan_is_applied_once(shop: Path, retain: Cli, tmp_path: Path) -> None:
    retain("plan", CAMPAIGN, "--as-of", LATER, "--out", tmp_path / "plan")
    applied = retain("apply", tmp_path / "plan" / "plan.json", "--now", LATER)
    assert applied.code == 0
    assert "messages are planned; next: retain deliver" in applied.out
    assert "apply: done" in applied.err
    again = retain("apply", tmp_path / "plan" / "plan.json", "--json").json
    assert again["already_applied"]
    assert retain("run", CAMPAIGN, "--as-of", LATER, "--json").json["already_applied"]


def test_run_is_plan_and_apply(shop: Path, retain: Cli) -> None:
    planned = retain("plan", CAMPAIGN, "--as-of", LATER, "--json").json
    outcome = retain("run", CAMPAIGN, "--as-of", LATER, "--json")
    assert outcome.code == 0
    assert outcome.json["assigned"] == {arm: counts["planned"] for arm, counts in planned["arms"].items()}
    assert f"warning: {outcome.json['warnings'][0]}" in outcome.err


def test_a_paused_campaign_is_planned_with_a_warning_and_not_applied(shop: Path, retain: Cli) -> None:
    path = shop / "campaigns" / "book" / f"{CAMPAIGN}.yaml"
    path.write_bytes(path.read_bytes().replace(b"status: active", b"status: paused"))
    assert "the plan cannot be applied; set status: active" in retain("plan", CAMPAIGN, "--as-of", LATER).err
    outcome = retain("run", CAMPAIGN, "--as-of", LATER)
    assert outcome.code == 1
    assert "is paused; nothing was recorded" in outcome.err


def test_the_workspace_may_be_named_on_the_command_line(demo: Demo, retain: Cli, tmp_path: Path) -> None:
    outcome = retain("plan", CAMPAIGN, "--as-of", LATER, "--workspace", demo.root, "--out", tmp_path, "--json")
    assert outcome.code == 2


def test_a_plan_and_a_preview_show_the_journey(shop: Path, retain: Cli) -> None:
    sample = "complaint-care"
    for path in ("campaigns/book/complaint-care.yaml", *WORDS):
        shutil.copy(ROOT / path, shop / path)
    book = shop / "campaigns" / "book" / "complaint-care.yaml"
    book.write_text(book.read_text(encoding="utf-8").replace("look_back: 2 days", "look_back: 300 days"), "utf-8")
    outcome = retain("plan", sample, "--as-of", LATER)
    said = "1: email complaint_update, every 84 hours until not open_complaint, at most 6 times, where undelivered sms"
    assert "moments: complaint_opened + 1 day, from 2025-" in outcome.out
    assert f"kept-informed: {said}" in " ".join(outcome.out.split())
    plan = retain("plan", sample, "--as-of", LATER, "--json").json
    arm = plan["arms"]["kept-informed"]
    assert arm["messages"] == 6 * arm["planned"]
    assert plan["journey"]["arms"]["kept-informed"] == [said]
    assert f"({said})" in " ".join(retain("preview", sample, "--now", LATER).out.split())
