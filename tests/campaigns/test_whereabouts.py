"""Where customers live: the zone of the profile, then the address, then the phone's prefix, then the country."""

from __future__ import annotations

import pandas as pd
import pytest

from campaigns.phone_zones import HEAD, PhoneOrigin, phone_origin
from campaigns.places import REGIONS, candidate_places, place_of, regions_of, zones_of
from campaigns.timing import canonical_zone, is_zone, zones_by_country
from campaigns.whereabouts import FALLBACKS, Whereabouts, locate, resolve_zones


def origin(number: str) -> str:
    return str(phone_origin(number[:HEAD], len(number)))


TEXAN = origin("+15125550123")


@pytest.mark.parametrize(
    ("profile", "zones", "place", "source"),
    [
        ({"time_zone": "America/New_York", "country": "US", "region": "TX", "phone_origin": TEXAN},
         ("America/New_York",), "US-TX", "profile"),
        ({"country": "US", "region": "Arkansas", "phone_origin": TEXAN}, ("America/Chicago",), "US-AR", "address"),
        ({"country": "US", "region": "US-TX"}, ("America/Chicago", "America/Denver"), "US-TX", "address"),
        ({"country": "US", "phone_origin": TEXAN}, ("America/Chicago",), "US", "phone"),
        ({"phone_origin": TEXAN}, ("America/Chicago",), "US", "phone"),
        ({"country": "GB", "phone_origin": TEXAN}, ("Europe/London",), "GB", "country"),
        ({"country": "CN", "region": "广东"}, ("Asia/Shanghai",), "CN-GD", "address"),
        ({"time_zone": "Mars/Olympus", "country": "GB"}, ("Europe/London",), "GB", "country"),
        ({"default": "Asia/Tokyo"}, ("Asia/Tokyo",), "", "default"),
        ({}, (), "", "unknown"),
    ],
)  # fmt: skip
def test_the_best_evidence_decides_and_is_named(
    profile: dict[str, str], zones: tuple[str, ...], place: str, source: str
) -> None:
    assert locate(**profile) == (Whereabouts(zones, place), source)


def test_a_phone_that_may_be_anywhere_in_the_country_narrows_nothing() -> None:
    where, source = locate(country="US", phone_origin=origin("+18005550123"))
    assert source == "phone"
    assert {"America/New_York", "America/Los_Angeles", "Pacific/Honolulu"} <= set(where.zones)
    assert locate(country="AU", phone_origin=origin("+61412345678"))[0].zones[0].startswith("Australia/")


@pytest.mark.parametrize(
    ("number", "country", "zones"),
    [
        ("+14165550123", "CA", {"America/Toronto"}),
        ("+33612345678", "FR", {"Europe/Paris"}),
        ("+8613800138000", "CN", {"Asia/Shanghai"}),
        ("+447911123456", "GB", {"Europe/London", "Europe/Jersey", "Europe/Guernsey", "Europe/Isle_of_Man"}),
        ("+447700900123", "GB", {"Europe/London", "Europe/Jersey", "Europe/Guernsey", "Europe/Isle_of_Man"}),
        ("07700900123", "", set()),
        ("+1512", "", set()),
        ("", "", set()),
        ("+44abc0123456", "", set()),
    ],
)
def test_a_number_s_prefix_tells_its_country_and_every_zone_it_may_be_in(
    number: str, country: str, zones: set[str]
) -> None:
    found = phone_origin(number[:HEAD], len(number))
    assert (found.country, set(found.zones)) == (country, zones)
    assert PhoneOrigin.read(str(found)) == (found if found.zones else PhoneOrigin())


def test_the_sources_are_counted_and_every_customer_has_a_level() -> None:
    frame = pd.DataFrame(
        {
            "time_zone": ["Europe/Paris", None, None, None, None],
            "country": ["FR", "US", "US", "GB", None],
            "region": [None, "Texas", None, None, None],
            "phone_origin": ["", "", TEXAN, "", ""],
        }
    )
    zones = resolve_zones(frame, default=None)
    assert dict(zones.sources) == {
        "profile": 1, "address": 1, "phone": 1, "country": 1, "default": 0, "unknown": 1,
    }  # fmt: skip
    assert [zones.levels[code].place for code in zones.codes] == ["FR", "US-TX", "US", "GB", ""]
    assert sum(zones.sources[source] for source in FALLBACKS) == 3


@pytest.mark.parametrize("country", sorted(path.stem.upper() for path in REGIONS.glob("*.yaml")))
def test_the_regions_of_a_country_cover_its_zones_and_name_no_others(country: str) -> None:
    named = {zone for region in regions_of(country).values() for zone in region.zones}
    assert all(is_zone(zone) for zone in named)
    own = {canonical_zone(zone) for zone in zones_by_country()[country]}
    assert {canonical_zone(zone) for zone in named} == own


def test_places_are_read_as_companies_write_them() -> None:
    assert place_of("us", " texas ") == place_of("US", "TX") == place_of("US", "us-tx") == "US-TX"
    assert place_of("UK", "England") == "GB"
    assert place_of("Atlantis", None) == place_of(None, "TX") == ""
    assert zones_of("US-XX") == zones_of("US")
    assert zones_of("") == ()


def test_a_customer_may_be_in_every_region_whose_clocks_agree() -> None:
    assert candidate_places("US", ("America/Los_Angeles",)) == ("US-CA", "US-ID", "US-NV", "US-OR", "US-WA")
    assert candidate_places("", ("US/Arizona",)) == ("US-AZ", "CA-BC")  # Creston keeps the same clocks
    assert candidate_places("", ("Europe/Berlin",)) == ("DE",)
    assert candidate_places("US", ("Europe/Berlin",)) == ("US",)
    assert candidate_places("", ("UTC",)) == ()
