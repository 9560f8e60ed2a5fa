"""Jurisdiction packs: the hours in which a channel may be used in a place, each rule with its source and its date.

The packs are data files under campaigns/packs/. Packs that apply together are intersected, and nothing widens them: not
the campaign's window, not consent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from campaigns.data_files import read_data_file
from campaigns.errors import CampaignError
from campaigns.places import candidate_places
from campaigns.timing import Bounds, Window
from campaigns.timing_terms import LocalHours
from campaigns.words import Channel, Part, Slug, as_tuple

PACKS: Final = Path(__file__).parent / "packs"
"""The folder of the packs."""
Basis = Literal["law", "carrier", "practice", "summary"]
"""What a rule rests on: a text of law, a carrier's rule, prudent practice, or somebody's summary of the law."""


def _parse_place(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", value):
        raise ValueError("expected a country such as US, or a part of one such as US-TX")
    return value


def _parse_date(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]", value):
        raise ValueError('expected a date such as "2026-11-21"')
    return value


Place = Annotated[str, BeforeValidator(_parse_place)]
Channels = Annotated[tuple[Channel, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class _Sourced(Part):
    channels: Channels
    """The channels it is about."""
    basis: Basis
    """What it rests on."""
    source: str = Field(min_length=10)
    """Where it stands, or who says so."""
    read_on: Annotated[str, BeforeValidator(_parse_date)]
    """When the source was read."""


class PackHours(LocalHours, _Sourced):
    """Hours in which the channels may be used."""


class NoHolidays(_Sourced):
    """The channels rest on public holidays."""


class PackText(_Sourced):
    """How texts in some languages must begin and end."""

    locales: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    """The languages, such as zh or zh-CN; each as template files spell it."""
    begins_with: str = ""
    """What they begin with; {brand} stands for the company's brand."""
    ends_with: str = ""
    """What they end with."""


class Pack(Part):
    """The rules of one jurisdiction; a channel without a rule is free."""

    title: str
    """Its name for people."""
    places: Annotated[tuple[Place, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    """Where it holds: countries, or parts of them."""
    rules: Annotated[tuple[PackHours, ...], BeforeValidator(as_tuple)] = ()
    """A moment is allowed when one rule of its channel holds it."""
    no_holidays: NoHolidays | None = None
    """Whether channels rest on the public holidays of the place."""
    texts: Annotated[tuple[PackText, ...], BeforeValidator(as_tuple)] = ()
    """How texts must begin and end."""

    def texts_in(self, channel: str, locale: str | None) -> tuple[PackText, ...]:
        """The rules for texts of a channel in a language."""
        tag = (locale or "").replace("_", "-").casefold()
        return tuple(
            rule for rule in self.texts if channel in rule.channels and tag in {of.casefold() for of in rule.locales}
        )

    def hours(self, channel: str) -> tuple[Window, ...]:
        """The windows of which one must hold a moment on the channel; empty where the pack does not limit it."""
        return tuple(rule.window for rule in self.rules if channel in rule.channels)

    def rests_on_holidays(self, channel: str) -> bool:
        """Whether nothing leaves on the channel on public holidays."""
        return self.no_holidays is not None and channel in self.no_holidays.channels


@lru_cache(maxsize=1)
def packs() -> Mapping[str, Pack]:
    """Every pack by name. Raises CampaignError for a file that is not sound."""
    found: dict[str, Pack] = {}
    for path in sorted(PACKS.glob("*.yaml")):
        for name, pack in read_data_file(dict[Slug, Pack], path).items():
            if name in found:
                raise CampaignError(f"{path}: the pack {name} stands in another file too; rename one")
            found[name] = pack
    return MappingProxyType(found)


def packs_of(place: str, zones: Sequence[str], channel: str) -> tuple[str, ...]:
    """The names of the packs that limit a channel for customers of a place and zones (see `candidate_places`)."""
    return _packs_of(candidate_places(place, zones), channel)


def legal_bounds(
    place: str, zones: Sequence[str], channel: str, *, quiet: Window | None = None, holidays_off: bool = False
) -> Bounds:
    """What law and company leave of every day: all packs that may apply together, less the quiet hours.

    With `holidays_off` nothing leaves on the public holidays of the customer's place, whatever the packs say.
    """
    return _bounds(candidate_places(place, zones), channel, quiet, holidays_off)


@lru_cache(maxsize=16_384)
def _bounds(places: tuple[str, ...], channel: str, quiet: Window | None, holidays_off: bool) -> Bounds:
    applying = [packs()[name] for name in _packs_of(places, channel)]
    hours = tuple(dict.fromkeys(pack.hours(channel) for pack in applying if pack.hours(channel)))
    closed = [
        place
        for place in places
        if holidays_off or any(pack.rests_on_holidays(channel) and _covers(pack, place) for pack in applying)
    ]
    return Bounds(hours, quiet, tuple(closed))


@lru_cache(maxsize=16_384)
def _packs_of(places: tuple[str, ...], channel: str) -> tuple[str, ...]:
    return tuple(
        name
        for name, pack in packs().items()
        if (pack.hours(channel) or pack.rests_on_holidays(channel)) and any(_covers(pack, place) for place in places)
    )


def _covers(pack: Pack, place: str) -> bool:
    """Whether the pack may hold in the place: it names it, its country, or a part of a country that is all we know."""
    country = place.partition("-")[0]
    return any(
        named in (place, country) or (place == country and named.startswith(f"{country}-")) for named in pack.places
    )
