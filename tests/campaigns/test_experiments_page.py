"""docs/marketers/experiments.md: its campaign is one that retain accepts, and what it names exists."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from campaigns.book import load_campaign
from campaigns.experiment_terms import Experiment

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "marketers" / "experiments.md").read_text(encoding="utf-8")


def test_the_campaign_of_the_page_is_accepted(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    shutil.copytree(ROOT / "campaigns" / "book", tmp_path / "campaigns" / "book")
    (tmp_path / "campaigns" / "book" / "second-order.yaml").write_text(text, encoding="utf-8")
    experiment = load_campaign(tmp_path, "second-order").campaign.experiment
    assert experiment.segments == ("value_tier", "rfm_m")
    assert experiment.bayesian
    margin = experiment.guardrails["margin"].max_decrease
    assert margin is not None
    assert (margin.value, margin.kind) == (0.1, "relative")


def test_every_key_of_an_experiment_is_on_the_page() -> None:
    elsewhere = {"unit", "alpha", "power"}  # one value only, or of the statistician
    assert [key for key in Experiment.model_fields if key not in elsewhere and key not in PAGE] == []
