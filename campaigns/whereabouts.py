"""Where customers live: the zones their clocks may follow and the place whose law holds, with what told so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from campaigns.phone_zones import PhoneOrigin
from campaigns.places import place_of, zones_of
from campaigns.timing import canonical_zone, is_zone

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SOURCES: Final[Mapping[str, str]] = {
    "profile": "the zone of the profile",
    "address": "the region of the address",
    "phone": "the prefix of the phone number",
    "country": "all zones of the country",
    "default": "policy.default_time_zone",
    "unknown": "nothing: never written to",
}
"""What may tell a customer's zones, best first."""
FALLBACKS: Final = ("phone", "country", "default", "unknown")
"""The sources that guess."""
_COLUMNS: Final = ("time_zone", "country", "region", "phone_origin")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The zones in which a customer may live, and the place as far as it is known ("US-TX", "US" or "")."""

    zones: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class Zones:
    """The whereabouts of n customers: `codes` index into `levels`; `sources` counts what told them."""

    levels: tuple[Whereabouts, ...]
    codes: NDArray[np.intp]
    sources: Mapping[str, int]


def resolve_zones(candidates: pd.DataFrame, *, default: str | None) -> Zones:
    """Where each candidate may live: by the profile's zone, the address, the phone's prefix, the country, the default.

    Without any of these the set of zones is empty, and an empty set never receives a message. `candidates` has
    time_zone and country; region and phone_origin (the text of a `PhoneOrigin`) count where they are there.
    """
    import pandas as pd

    known = [c for c in _COLUMNS if c in candidates]
    texts = [candidates[c].astype("str").where(candidates[c].notna(), "") for c in known]
    keys = texts[0]
    for text in texts[1:]:
        keys = keys + "\0" + text
    numbers, distinct = pd.factorize(keys)
    found: dict[Whereabouts, int] = {}
    codes = np.empty(len(distinct), dtype=np.intp)
    sources = dict.fromkeys(SOURCES, 0)
    for i, (key, count) in enumerate(zip(distinct, np.bincount(numbers, minlength=len(distinct)), strict=True)):
        where, source = locate(**dict(zip(known, str(key).split("\0"), strict=True)), default=default)
        codes[i] = found.setdefault(where, len(found))
        sources[source] += int(count)
    return Zones(tuple(found), codes[numbers], sources)


def locate(
    *, time_zone: str = "", country: str = "", region: str = "", phone_origin: str = "", default: str | None = None
) -> tuple[Whereabouts, str]:
    """One customer's whereabouts and the source that told them.

    A zone name the rules do not know is treated as absent. A foreign phone does not move who has a country.
    """
    place, phone = place_of(country, region), PhoneOrigin.read(phone_origin)
    if is_zone(time_zone):
        return Whereabouts((time_zone,), place), "profile"
    zones = zones_of(place)
    if "-" in place:
        return Whereabouts(zones, place), "address"
    if place:
        names = {canonical_zone(zone) for zone in zones}
        narrower = tuple(zone for zone in phone.zones if canonical_zone(zone) in names)
        if 0 < len(narrower) < len(zones):
            return Whereabouts(narrower, place), "phone"
        return Whereabouts(zones, place), "country"
    if phone.zones:
        return Whereabouts(phone.zones, place_of(phone.country, None)), "phone"
    return (Whereabouts((default,)), "default") if default else (Whereabouts(), "unknown")
