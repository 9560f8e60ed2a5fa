"""`retain measure --programme`: all campaigns together against the global holdout."""

from __future__ import annotations

from pathlib import Path

from .conftest import CAMPAIGN, Cli

RIPE = "2026-04-20T09:00:00+00:00"


def with_holdout(root: Path) -> None:
    path = root / "retain.toml"
    text = path.read_text(encoding="utf-8")
    assert 'share = "0%"' in text
    path.write_text(text.replace('share = "0%"', 'share = "30%"'), encoding="utf-8")


def test_the_programme_is_measured_against_the_holdout_and_shown_in_the_report(shop: Path, retain: Cli) -> None:
    with_holdout(shop)
    assert retain("run", CAMPAIGN, "--as-of", "2026-03-09").code == 0
    told = retain("measure", "--programme", "--now", RIPE, "--days", 30)
    assert told.code == 0, told.err
    assert "the whole programme from 2026-03-09" in told.out
    found = retain("measure", "--programme", "--now", RIPE, "--days", 30, "--json").json
    assert found["sides"]["programme"] == found["sides"]["holdout"] > 0
    assert {"repurchase", "revenue", "retained"} <= {result["metric"] for result in found["results"]}
    assert [period["share"] for period in found["periods"]] == [0.3]
    assert retain("report", CAMPAIGN, "--now", RIPE).code == 0
    assert "The whole programme" in (shop / "reports" / f"{CAMPAIGN}.html").read_text(encoding="utf-8")


def test_without_a_holdout_the_programme_cannot_be_measured_and_the_message_says_what_to_do(
    shop: Path, retain: Cli
) -> None:
    refused = retain("measure", "--programme", "--now", RIPE)
    assert refused.code == 1
    assert "set holdout.share in retain.toml" in refused.err


def test_a_campaign_or_the_programme_is_measured_not_both(shop: Path, retain: Cli) -> None:
    for words in ((), (CAMPAIGN, "--programme")):
        refused = retain("measure", *words)
        assert refused.code != 0
        assert "--programme" in refused.err
    assert "--from" in retain("measure", CAMPAIGN, "--days", 30).err
