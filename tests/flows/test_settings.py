"""Settings: where each comes from, and what a wrong one says."""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path

import pytest

from flows.settings import SettingsError, read_settings, workspace_root


def write(root: Path, text: str) -> Path:
    (root / "retain.toml").write_text(text, encoding="utf-8")
    return root


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    settings = read_settings(tmp_path)
    assert settings.facts_url == "duckdb"
    assert settings.ledger_address == f"sqlite:///{tmp_path}/data/ledger.db"
    assert settings.measurement.lateness == timedelta(days=3)
    assert settings.holdout.share == 0.0


def test_a_flag_beats_the_environment_and_the_environment_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 'seed = "file"\nfacts_url = "file"\n[holdout]\nshare = "5%"\nsalt = "file"\n')
    monkeypatch.setenv("RETAIN_SEED", "environment")
    monkeypatch.setenv("RETAIN_FACTS_URL", "environment")
    monkeypatch.setenv("RETAIN_HOLDOUT__SHARE", "7%")
    settings = read_settings(tmp_path, overrides={"seed": "flag"})
    assert (settings.seed, settings.facts_url) == ("flag", "environment")
    assert (settings.holdout.share, settings.holdout.salt) == (0.07, "file")


def test_quiet_hours_become_a_window_of_every_day(tmp_path: Path) -> None:
    write(tmp_path, '[policy]\nquiet_hours = {from = "21:00", to = "08:00"}\n')
    window = read_settings(tmp_path).policy.quiet_window
    assert window is not None
    assert (window.opens, window.closes, len(window.days)) == (time(21), time(8), 7)
    assert read_settings(tmp_path.parent).policy.quiet_window is None


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('[holdout]\nshare = "5"\n', "retain.toml:2: holdout.share", "expected a share"),
        ('sede = "x"\n', "retain.toml:1: sede", 'did you mean "seed"'),
        ('[policy]\ndefualt_time_zone = "UTC"\n', "retain.toml:2: policy.defualt_time_zone", "default_time_zone"),
        ("[holdout\n", "retain.toml: not valid TOML", "correct the file"),
    ],
)
def test_a_wrong_setting_is_named_with_its_line_and_what_was_expected(
    tmp_path: Path, text: str, place: str, words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(write(tmp_path, text))
    assert place in str(caught.value)
    assert words in str(caught.value)


def test_every_wrong_setting_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(write(tmp_path, 'sede = "x"\n[holdout]\nshare = "5"\n'))
    assert len(str(caught.value).splitlines()) == 2


def test_a_directory_that_is_not_there_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="retain init"):
        read_settings(tmp_path / "nowhere")


def test_a_relative_ledger_is_anchored_at_the_workspace_and_other_addresses_are_kept(tmp_path: Path) -> None:
    assert (
        read_settings(tmp_path, overrides={"ledger_url": "sqlite:///x.db"}).ledger_address
        == f"sqlite:///{tmp_path}/x.db"
    )
    url = "postgresql+psycopg://somewhere/retain"
    assert read_settings(tmp_path, overrides={"ledger_url": url}).ledger_address == url


def test_a_secret_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIN_SECRET", "canary")
    settings = read_settings(tmp_path)
    assert settings.secret.get_secret_value() == "canary"
    assert "canary" not in repr(settings)


def test_the_workspace_is_the_one_given_else_the_environments_else_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIN_WORKSPACE", "/from/environment")
    assert workspace_root("given") == Path("given")
    assert workspace_root(None) == Path("/from/environment")
    monkeypatch.delenv("RETAIN_WORKSPACE")
    assert workspace_root(None) == Path()


def test_amounts_and_quiet_hours_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIN_PRICES__SMS", "0.05 EUR")
    monkeypatch.setenv("RETAIN_POLICY__QUIET_HOURS__FROM", "21:00")
    monkeypatch.setenv("RETAIN_POLICY__QUIET_HOURS__TO", "08:00")
    monkeypatch.setenv("RETAIN_FACTS__ORDERS__COLUMNS", '{"order_id": "id"}')
    settings = read_settings(tmp_path)
    assert str(settings.prices.sms) == "0.05 EUR"
    assert settings.policy.quiet_hours is not None
    assert settings.policy.quiet_hours.opens == time(21)
    assert settings.facts.orders.columns == {"order_id": "id"}
    monkeypatch.setenv("RETAIN_PRICES__SMS", "lots")
    with pytest.raises(SettingsError, match=r"prices\.sms: expected an amount .* RETAIN_PRICES__SMS"):
        read_settings(tmp_path)
