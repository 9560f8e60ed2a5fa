"""Jurisdiction packs: data with sources, chosen by place and channel, intersected, never widened."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from campaigns.data_files import read_data_file
from campaigns.errors import CampaignError
from campaigns.packs import Pack, legal_bounds, packs, packs_of
from campaigns.public_holidays import public_holidays
from campaigns.timing import Window, allows
from campaigns.words import Slug

ANY_TIME = Window(frozenset(range(7)), time(0), time(0))


def open_hours(place: str, zone: str, channel: str, day: date) -> list[int]:
    """The local hours of a day at whose half the channel may be used."""
    from zoneinfo import ZoneInfo

    bounds = legal_bounds(place, (zone,), channel)
    moments = [datetime(day.year, day.month, day.day, hour, 30, tzinfo=ZoneInfo(zone)) for hour in range(24)]
    return [hour for hour, at in enumerate(moments) if allows(ANY_TIME, (zone,), at=at.astimezone(UTC), bounds=bounds)]


SUNDAY, MONDAY, SATURDAY = date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 7)


@pytest.mark.parametrize(
    ("place", "zone", "day", "hours"),
    [
        ("US-CA", "America/Los_Angeles", MONDAY, range(8, 21)),
        ("US-FL", "America/New_York", MONDAY, range(8, 20)),
        ("US-CT", "America/New_York", SUNDAY, range(9, 20)),
        ("US-TX", "America/Chicago", MONDAY, range(9, 21)),
        ("US-TX", "America/Chicago", SUNDAY, range(12, 21)),
        ("US-RI", "America/New_York", MONDAY, range(9, 18)),
        ("US-RI", "America/New_York", SATURDAY, range(10, 17)),
        ("US-MS", "America/Chicago", SUNDAY, range(0)),
        ("CN", "Asia/Shanghai", SUNDAY, range(8, 21)),
        ("DE", "Europe/Berlin", SUNDAY, range(8, 21)),
        ("FR", "Europe/Paris", MONDAY, range(8, 20)),
        ("FR", "Europe/Paris", SUNDAY, range(0)),
        ("GB", "Europe/London", MONDAY, range(9, 20)),
        ("BR", "America/Sao_Paulo", MONDAY, range(24)),
    ],
)
def test_texts_leave_only_in_the_legal_hours_of_the_place(place: str, zone: str, day: date, hours: range) -> None:
    assert open_hours(place, zone, "sms", day) == list(hours)
    assert open_hours(place, zone, "email", day) == list(range(24))


def test_where_only_the_country_is_known_every_region_whose_clocks_agree_must_allow_the_moment() -> None:
    assert open_hours("US", "America/New_York", "sms", MONDAY) == list(range(10, 18))  # Kentucky and Rhode Island
    assert open_hours("US", "America/Phoenix", "sms", MONDAY) == list(range(8, 21))  # Arizona only
    assert open_hours("", "America/Phoenix", "sms", MONDAY) == list(range(8, 21))  # the zone names the country


def test_alabama_texts_rest_on_its_public_holidays_and_other_states_do_not() -> None:
    thanksgiving = date(2026, 11, 26)
    assert open_hours("US-AL", "America/Chicago", "sms", thanksgiving) == []
    assert open_hours("US-IL", "America/Chicago", "sms", thanksgiving) == list(range(8, 21))


def test_public_holidays_are_those_of_the_place() -> None:
    assert date(2026, 7, 14) in public_holidays("FR", 2026)
    assert date(2026, 7, 4) in public_holidays("US-TX", 2026)
    assert date(2026, 1, 6) in public_holidays("DE-BY", 2026)
    assert date(2026, 1, 6) not in public_holidays("DE", 2026)
    assert public_holidays("XX", 2026) == public_holidays("", 2026) == frozenset()


def test_every_rule_names_its_source_and_a_day_in_the_past_on_which_it_was_read() -> None:
    assert {"us-federal", "us-tx", "us-ri", "fr", "eu", "cn", "uk"} <= set(packs())
    for name, pack in packs().items():
        assert pack.rules, name
        for rule in (*pack.rules, *([pack.no_holidays] if pack.no_holidays else [])):
            assert len(rule.source) > 10
            assert date(2026, 1, 1) < date.fromisoformat(rule.read_on) <= date(2027, 12, 31)


def test_a_state_never_allows_more_than_its_federation() -> None:
    start = datetime(2026, 3, 2, tzinfo=UTC)
    for hour in range(24 * 7):
        at = start + timedelta(hours=hour)
        federal = allows(ANY_TIME, ("America/Chicago",), at=at, bounds=legal_bounds("US-IL", (), "sms"))
        for state in ("US-TX", "US-RI", "US-FL", "US-MS"):
            strict = allows(ANY_TIME, ("America/Chicago",), at=at, bounds=legal_bounds(state, (), "sms"))
            assert federal or not strict


def test_the_packs_of_a_place_are_named() -> None:
    assert packs_of("FR", ("Europe/Paris",), "sms") == ("eu", "fr")
    assert packs_of("US-TX", ("America/Chicago",), "sms") == ("us-federal", "us-tx")
    assert packs_of("US-TX", ("America/Chicago",), "push") == ()


def test_a_pack_with_a_mistake_is_refused_with_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "xx.yaml"
    path.write_text("xx:\n  title: X\n  places: [Texas]\n  rules: []\n", encoding="utf-8")
    with pytest.raises(CampaignError, match=r"xx.yaml:3: xx.places\[0\]: expected a country such as US"):
        read_data_file(dict[Slug, Pack], path)
