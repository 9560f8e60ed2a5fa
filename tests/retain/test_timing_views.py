"""What plan, validate and explain say about timing."""

from __future__ import annotations

import re
from pathlib import Path

from tests.retain.conftest import CAMPAIGN, Cli

LATER = "2026-05-04"


def test_a_plan_says_what_told_the_zones_how_much_is_guessed_and_whose_hours_hold(shop: Path, retain: Cli) -> None:
    said = retain("plan", CAMPAIGN, "--as-of", LATER).out
    assert re.search(r"zones from: the zone of the profile [\d,]+.*; guessed for [\d.]+%", said)
    assert re.search(r"messages within legal hours: .*us-federal \d+", said)
    plan = retain("plan", CAMPAIGN, "--as-of", LATER, "--json").json
    assert sum(plan["zones"].values()) == plan["audience"]
    guessed = sum(plan["zones"][source] for source in ("phone", "country", "default", "unknown"))
    assert plan["zones_guessed"] == guessed / plan["audience"]
    assert plan["jurisdictions"]["us-federal"]["title"].startswith("United States")
    assert re.fullmatch(r"20\d\d[a-z]", plan["tzdata"])


def test_a_story_names_the_slot_the_clocks_and_the_version_of_the_rules(shop: Path, retain: Cli) -> None:
    plan = retain("plan", CAMPAIGN, "--as-of", "2026-07-06", "--out", shop / "new").out
    assert "next: retain apply" in plan
    retain("apply", shop / "new" / "plan.json", "--now", "2026-07-06")
    lines = (shop / "new" / "assignments.csv").read_text(encoding="utf-8").splitlines()[1:]
    treated = next(line.split(",")[0] for line in lines if not line.endswith(",control"))
    told = retain("explain", CAMPAIGN, treated, "--json").json
    whys = [event["why"] for event in told["events"]]
    assert any(re.search(r"time-zone rules 20\d\d[a-z]$", why) for why in whys)
    assert any(why.startswith("clocks of ") and "given up" in why for why in whys)
    assert any(re.search(r": its slot is \d{4}-\d\d-\d\d \d\d:\d\d UTC to ", event["what"]) for event in told["events"])


def test_validate_names_the_line_of_a_moment_outside_its_window(shop: Path, retain: Cli) -> None:
    path = shop / "campaigns" / "book" / f"{CAMPAIGN}.yaml"
    text = path.read_text(encoding="utf-8")
    assert "\ntiming:" in text
    head, _, rest = text.partition("\ntiming:")
    line = head.count("\n") + 3
    path.write_text(f'{head}\ntiming:\n  at: "03:00"\n  window: {{from: "10:00", to: "19:00"}}\n', encoding="utf-8")
    outcome = retain("validate")
    assert outcome.code == 1
    expected = f'{CAMPAIGN}.yaml:{line}:7: timing.at: at "03:00" lies outside the window from 10:00 to 19:00'
    assert expected in outcome.out + outcome.err
    assert rest
