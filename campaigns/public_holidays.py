"""The public holidays of a place, from the library `holidays`."""

from __future__ import annotations

from datetime import date
from functools import lru_cache


@lru_cache(maxsize=4_096)
def public_holidays(place: str, year: int) -> frozenset[date]:
    """The public holidays of a year, as local dates, in a country (FR) or a part of one (US-TX); empty where unknown.

    A part that the library does not know has the holidays of its country.
    """
    import holidays

    country, _, region = place.partition("-")
    subdivision = region if region in holidays.list_supported_countries().get(country, []) else None
    try:
        return frozenset(holidays.country_holidays(country, subdiv=subdivision, years=year))
    except NotImplementedError:
        return frozenset()
