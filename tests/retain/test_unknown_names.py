"""Names on the command line: one that nobody knows is an error with the right one; one whose file is gone is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.retain.conftest import CAMPAIGN, RIPE, Cli

MISSPELT = "winbak-demo"
COMMANDS = (
    ("approvals", MISSPELT),
    ("approve", MISSPELT, "--by", "ana"),
    ("measure", MISSPELT),
    ("decide", MISSPELT),
    ("undo", MISSPELT),
    ("explain", MISSPELT, "C0000001"),
    ("status", MISSPELT),
    ("pause", MISSPELT),
    ("pause", f"{MISSPELT}/email"),
    ("resume", MISSPELT),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_campaign_that_nobody_knows_is_one_error_with_the_right_name(
    words: tuple[str, ...], shop: Path, retain: Cli
) -> None:
    outcome = retain(*words)
    assert (outcome.code, outcome.out) == (1, "")
    said = f'error: no campaign "{MISSPELT}" in campaigns/book (did you mean "{CAMPAIGN}"?)'
    assert outcome.err == f"{said}; campaigns there: {CAMPAIGN}\n"


def test_a_campaign_whose_file_is_gone_is_still_listed_measured_decided_and_paused(shop: Path, retain: Cli) -> None:
    (shop / "campaigns" / "book" / f"{CAMPAIGN}.yaml").unlink()
    assert retain("approvals", CAMPAIGN).out == "no launch had to be approved yet\n"
    assert f"no launch of {CAMPAIGN} waits" in retain("approve", CAMPAIGN, "--by", "ana").err
    assert retain("status", CAMPAIGN).code == 0
    assert retain("measure", CAMPAIGN, "--now", RIPE, "--json").json["experiment"].startswith(CAMPAIGN)
    decided = retain("decide", CAMPAIGN, "--now", RIPE, "--json")
    assert (decided.code, decided.json["feedback"], decided.json["diff"]) == (0, "off", "")
    assert retain("pause", f"{CAMPAIGN}/email").out == f"{CAMPAIGN}/email: paused\n"
    assert retain("resume", f"{CAMPAIGN}/email").out == f"{CAMPAIGN}/email: goes on\n"


def test_a_campaign_with_a_broken_file_can_be_paused_before_its_first_run(bare: Path, retain: Cli) -> None:
    path = bare / "campaigns" / "book" / "winback-90d.yaml"
    path.write_bytes(path.read_bytes().replace(b"weight: 40%", b"wieght: 40%"))
    assert retain("pause", "winback-90d").out == "winback-90d: paused\n"
    path.unlink()
    assert retain("resume", "winback-90d").out == "winback-90d: goes on\n"
