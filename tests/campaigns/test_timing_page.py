"""docs/marketers/timing.md: its campaign is one that retain accepts, and it names every key of timing."""

from __future__ import annotations

import re
import shutil
from datetime import time
from pathlib import Path

from campaigns.book import load_campaign
from campaigns.spread import Spread
from campaigns.timing_terms import Timing

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "marketers" / "timing.md").read_text(encoding="utf-8")


def test_the_campaign_of_the_page_is_accepted_and_its_arms_differ_in_their_moments(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    shutil.copytree(ROOT / "campaigns" / "book", tmp_path / "campaigns" / "book")
    (tmp_path / "campaigns" / "book" / "morning-or-evening.yaml").write_text(text, encoding="utf-8")
    campaign = load_campaign(tmp_path, "morning-or-evening").campaign
    timings = {name: campaign.timing_of(name, arm.steps[0]) for name, arm in campaign.arms.items()}
    assert [timing.at for timing in timings.values()] == [time(10, 30), "best_hour", None]
    assert timings["two-days-later"].spread == Spread(None)
    assert {timing.on_holidays for timing in timings.values()} == {"wait"}


def test_every_key_of_timing_is_on_the_page() -> None:
    assert [key for key in Timing.model_fields if f"`{key}`" not in PAGE] == []


def test_the_default_explored_share_and_window_are_those_of_the_page() -> None:
    timing = Timing()
    assert "| 10% |" in PAGE
    assert timing.explore == 0.1
    assert f"every day, {timing.window.opens:%H:%M} to {timing.window.closes:%H:%M}" in PAGE
