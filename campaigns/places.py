"""Places: a country or a part of one, the zones its clocks follow, and where a customer may live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator

from campaigns.data_files import read_data_file
from campaigns.timing import canonical_zone, zones_by_country
from campaigns.words import Part, as_tuple

REGIONS: Final = Path(__file__).parent / "regions"
"""One file per country of several zones whose regions (states, provinces) are known."""
_ALSO_CALLED: Final = {"UK": "GB", "EL": "GR"}


class Region(Part):
    """One region of a country: what it is called, and every zone its customers may live in."""

    names: Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
    zones: Annotated[tuple[str, ...], BeforeValidator(as_tuple)]


class RegionFile(Part):
    """The regions of one country by their ISO 3166-2 code without the country, with the source and its date."""

    country: str
    source: str
    read_on: str
    regions: dict[str, Region]


def place_of(country: str | None, region: str | None) -> str:
    """The place of a profile: "US-TX" where the region is known, else "US", else "".

    `country` is an ISO 3166 code of two letters, `region` a code ("TX", "US-TX") or a name ("Texas") as the company
    writes it.
    """
    code = (country or "").strip().upper()
    code = _ALSO_CALLED.get(code, code)
    if code not in zones_by_country():
        return ""
    wanted = (region or "").strip().casefold().removeprefix(f"{code.casefold()}-")
    found = _region_codes(code).get(wanted)
    return f"{code}-{found}" if found else code


def zones_of(place: str) -> tuple[str, ...]:
    """Every zone of a place: the region's, else all of the country's; empty where it is not known."""
    country, _, region = place.partition("-")
    known = regions_of(country)
    return known[region].zones if region in known else zones_by_country().get(country, ())


def candidate_places(place: str, zones: Sequence[str]) -> tuple[str, ...]:
    """Every place in which a customer may be who is known to be in `place` (or nowhere: "") and to live in `zones`.

    A country with known regions gives those whose clocks follow one of the zones, and itself where none does.
    """
    if "-" in place:
        return (place,)
    if place:
        return _regions_within(place, tuple(zones))
    countries = dict.fromkeys(country for zone in zones for country in _countries_of(zone))
    return tuple(found for country in countries for found in _regions_within(country, tuple(zones)))


def regions_of(country: str) -> Mapping[str, Region]:
    """The regions of a country by code; empty for a country whose regions are not needed."""
    file = _region_file(country)
    return file.regions if file else {}


@lru_cache(maxsize=64)
def _region_file(country: str) -> RegionFile | None:
    path = REGIONS / f"{country.lower()}.yaml"
    if not country.isalpha() or not path.is_file():
        return None
    found: RegionFile = read_data_file(RegionFile, path)
    return found


@lru_cache(maxsize=64)
def _region_codes(country: str) -> dict[str, str]:
    codes: dict[str, str] = {}
    for code, region in regions_of(country).items():
        codes |= {name.casefold(): code for name in (code, *region.names)}
    return codes


@lru_cache(maxsize=4_096)
def _regions_within(country: str, zones: tuple[str, ...]) -> tuple[str, ...]:
    """The country's regions whose clocks follow one of the zones, or the country itself."""
    wanted = {canonical_zone(zone) for zone in zones}
    found = [
        f"{country}-{code}"
        for code, region in regions_of(country).items()
        if wanted.intersection(map(canonical_zone, region.zones))
    ]
    return tuple(found) or (country,)


@lru_cache(maxsize=1_024)
def _countries_of(zone: str) -> tuple[str, ...]:
    """The countries whose clocks follow a zone: its own in zone.tab, else all of zone1970.tab."""
    own = tuple(country for country, zones in zones_by_country().items() if zone in zones)
    return own or _countries_by_zone().get(canonical_zone(zone), ())


@lru_cache(maxsize=1)
def _countries_by_zone() -> dict[str, tuple[str, ...]]:
    rows = {}
    for line in files("tzdata.zoneinfo").joinpath("zone1970.tab").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            countries, _, name, *_ = line.split("\t")
            rows[canonical_zone(name)] = tuple(countries.split(","))
    return rows
