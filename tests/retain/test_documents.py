"""Documentation that is made from the code says what the code says; documentation that is run runs."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from campaigns.features import FEATURES
from channels.variables import VARIABLES
from flows.settings import read_settings
from flows.steps.make_workspace import TREE
from retain import documents, reference, showcase
from retain.cli import run
from tests.retain.conftest import CUSTOMERS, Demo

MARKETERS, OPERATORS = TREE / "docs" / "marketers", TREE / "docs" / "operators"


def test_the_made_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    code = documents.main(["--check"])
    assert (code, capsys.readouterr().err) == (0, "")


def test_what_is_stale_is_named_and_then_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("README.md", showcase.CAMPAIGN):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TREE / path, tmp_path / path)
    campaign = tmp_path / showcase.CAMPAIGN
    campaign.write_text(campaign.read_text(encoding="utf-8").replace("owner: crm", "owner: me"), encoding="utf-8")
    assert documents.main(["--check"], root=tmp_path) == 1
    said = capsys.readouterr().err
    assert "README.md: not what the code says; run python -m retain.documents" in said
    assert "docs/operators/commands.md" in said
    assert documents.main([], root=tmp_path) == 0
    assert documents.main(["--check"], root=tmp_path) == 0
    assert "owner: me" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_demonstrations_part_is_replaced_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("a\n<!-- demo -->\nold\n<!-- /demo -->\nz\n", encoding="utf-8")
    (tmp_path / showcase.CAMPAIGN).parent.mkdir(parents=True)
    shutil.copyfile(TREE / showcase.CAMPAIGN, tmp_path / showcase.CAMPAIGN)
    monkeypatch.setattr(showcase, "CUSTOMERS", 200)
    assert documents.main(["--demo"], root=tmp_path) == 0
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("a\n<!-- demo -->\n```\n")
    assert "verdict: " in showcase.shown_demo(readme)
    assert str(tmp_path) not in readme
    assert showcase.shown_demo("nothing") == ""


def test_another_word_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert documents.main(["--chekc"]) == 1
    assert capsys.readouterr().err.startswith("usage: ")


def test_every_feature_and_variable_has_its_row() -> None:
    features, variables = reference.features_page(), reference.variables_page()
    assert all(f"| `{name}` |" in features for name in FEATURES)
    assert all(f"| `{name}` |" in variables for name in VARIABLES)


def test_every_setting_says_what_it_is_and_can_be_set_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\S*).* \| (.*) \|$", reference.settings_page(), re.MULTILINE)
    assert len(rows) > 25
    assert all(meaning for *_, meaning in rows)
    examples = {
        "RETAIN_HOLDOUT__SHARE": "7%",
        "RETAIN_POLICY__QUIET_HOURS__FROM": "20:00",
        "RETAIN_POLICY__QUIET_HOURS__TO": "09:00",
        "RETAIN_PRICES__SMS": "0.07 EUR",
        "RETAIN_VALUE_TIERS__SILVER_ORDERS": "4",
    }
    assert set(examples) <= {variable for _, variable, _, _ in rows}
    for variable, value in examples.items():
        monkeypatch.setenv(variable, value)
    settings = read_settings(tmp_path)
    assert (settings.holdout.share, settings.value_tiers.silver_orders) == (0.07, 4)
    assert str(settings.prices.sms) == "0.07 EUR"
    assert settings.policy.quiet_hours is not None


@pytest.mark.parametrize("page", [*sorted(TREE.glob("docs/**/*.md")), TREE / "README.md"], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def follow(page: Path, demo: Demo | None = None) -> None:
    """Do what a page says: make its files, run its `retain` lines, in order, from the working directory on."""
    import os

    for kind, path, text in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text, encoding="utf-8")
        elif kind == "console":
            for line in text.splitlines():
                words = shlex.split(line.removeprefix("$ "))
                if words[0] == "cd":
                    os.chdir(words[1])
                elif words[1] == "demo" and demo is not None:
                    assert words[2:] == ["--workspace", "shop", "--customers", str(CUSTOMERS)]
                    shutil.copytree(demo.root, "shop", ignore=shutil.ignore_patterns("outbox"))
                else:
                    assert words[0] == "retain"
                    assert run(words[1:]) == (2 if words[1] == "plan" else 0), line


def test_a_first_campaign_goes_as_its_page_says(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETAIN_WORKSPACE", raising=False)
    follow(MARKETERS / "first-campaign.md", demo)
    out = capsys.readouterr().out
    assert "1 campaigns checked: 0 errors, 0 warnings" in out
    assert "step 1: email late_note" in out
    assert "is in arm note of friendly-note:1; step 1 by" in out
    assert "verdict: keep_testing" in out
    assert list((tmp_path / "shop" / "outbox").iterdir())


def test_getting_started_goes_as_its_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETAIN_WORKSPACE", raising=False)
    # the files of the page are made in the workspace: it changes into it before they are named
    follow(OPERATORS / "getting-started.md")
    out = capsys.readouterr().out
    assert "quarantined: unknown_customer: 1" in out
    assert "C5 is in arm ten-percent-sms of winback-90d:1; step 1 by email: sent" in out
