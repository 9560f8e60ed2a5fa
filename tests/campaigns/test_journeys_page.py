"""docs/marketers/journeys.md: its campaign is one that retain accepts, and every word of a journey is on it."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from pathlib import Path

from campaigns.book import load_campaign
from campaigns.journey_terms import SIGNALS, Repeat, Trigger
from campaigns.lint import lint_campaign

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "marketers" / "journeys.md").read_text(encoding="utf-8")


def test_the_campaign_of_the_page_is_accepted_with_its_words(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    for folder in ("campaigns/book", "templates"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "campaigns" / "book" / "first-weeks.yaml").write_text(text, encoding="utf-8")
    file = load_campaign(tmp_path, "first-weeks")
    assert file.campaign.audience.trigger == Trigger(event="first_purchase", after="7 days")  # type: ignore[arg-type]  # parsed
    mail, sms, reminder = file.campaign.arms["tips-then-offer"].steps
    assert (mail.fallback, mail.fallback_after) == (("sms",), timedelta(days=2))
    assert sms.unless == ("purchased", "clicked")
    assert (reminder.turns, reminder.channels) == (2, ("email",))
    problems = lint_campaign(
        file, offers=file.offers, templates=tmp_path / "templates", known_customer_fields={"first_name": "text"}
    )
    assert [problem for problem in problems if problem.severity == "error"] == []


def test_every_key_and_every_signal_of_a_journey_is_on_the_page() -> None:
    keys = [*Trigger.model_fields, *Repeat.model_fields, "unless", "fallback", "fallback_after"]
    assert [key for key in keys if f"`{key}" not in PAGE and f"{key}:" not in PAGE] == []
    assert [signal for signal in SIGNALS if f"| `{signal}` |" not in PAGE] == []


def test_the_default_look_back_is_that_of_the_page() -> None:
    assert "Default `2 days`" in PAGE
    assert Trigger(event="nps").look_back == timedelta(days=2)
