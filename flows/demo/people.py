"""Who shops in the demonstration: names, places, addresses, consent. All invented, none of it reachable.

Mail addresses stand only at example.com and example.org (reserved by RFC 2606). Phone numbers begin with +999, which
the ITU has given to no country: nobody can be called by them, and every customer has a number of their own (the ranges
that countries keep for fiction are too small for that, and who shares an address is written to once).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Texts = NDArray[np.str_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Country:
    """Where a share of the customers live: weight, zones, locales and first names (parted by spaces)."""

    weight: float
    zones: Mapping[str, float]
    locales: Mapping[str, float]
    names: str


ENGLISH_NAMES = (
    "Olivia Amelia Isla Grace Freya Poppy Alice Hannah Maya Zara Priya Aisha Nadia Leah Ruth Megan "
    "Noah Oliver Arthur Theo Leo George Finley Adam Owen Ravi Omar Daniel Callum Hugh Samuel Marcus"
)
IRISH_NAMES = "Aoife Saoirse Niamh Ciara Orla Roisin Maeve Sinead Conor Cian Oisin Sean Fionn Darragh Eoin Padraig"
GERMAN_NAMES = "Anna Lea Mia Clara Ida Greta Jana Frieda Paul Jonas Emil Felix Moritz Anton Karl Jannik"
FRENCH_NAMES = "Camille Chloe Manon Lea Jeanne Louise Ines Margaux Hugo Lucas Louis Jules Gabriel Raphael Antoine Remi"
CHINESE_NAMES = "Xinyi Yuxuan Zihan Jiayi Meilin Siyu Haoran Zixuan Junjie Minghao Weiwei Chenxi Lihua Yang Tao Bo"

NOBODYS_NUMBERS = "+999"
"""A country code that belongs to no country (ITU-T E.164)."""

COUNTRIES: Mapping[str, Country] = {
    "GB": Country(
        weight=0.46,
        zones={"Europe/London": 1.0},
        locales={"en-GB": 0.97, "zh-CN": 0.03},
        names=ENGLISH_NAMES,
    ),
    "US": Country(
        weight=0.22,
        zones={"America/New_York": 0.48, "America/Chicago": 0.29, "America/Denver": 0.07, "America/Los_Angeles": 0.16},
        locales={"en-US": 0.96, "zh-CN": 0.04},
        names=ENGLISH_NAMES,
    ),
    "IE": Country(
        weight=0.1,
        zones={"Europe/Dublin": 1.0},
        locales={"en-IE": 1.0},
        names=IRISH_NAMES,
    ),
    "DE": Country(
        weight=0.09,
        zones={"Europe/Berlin": 1.0},
        locales={"de-DE": 1.0},
        names=GERMAN_NAMES,
    ),
    "FR": Country(
        weight=0.06,
        zones={"Europe/Paris": 1.0},
        locales={"fr-FR": 1.0},
        names=FRENCH_NAMES,
    ),
    "CA": Country(
        weight=0.04,
        zones={"America/Toronto": 0.62, "America/Vancouver": 0.22, "America/Edmonton": 0.16},
        locales={"en-CA": 0.74, "fr-CA": 0.2, "zh-CN": 0.06},
        names=ENGLISH_NAMES,
    ),
    "AU": Country(
        weight=0.03,
        zones={"Australia/Sydney": 0.55, "Australia/Brisbane": 0.3, "Australia/Perth": 0.15},
        locales={"en-AU": 0.95, "zh-CN": 0.05},
        names=ENGLISH_NAMES,
    ),
}

CHANNEL_SHARES = {"email": 0.52, "sms": 0.24, "push": 0.12, "": 0.12}
HAS_EMAIL, HAS_PHONE, HAS_PUSH = 0.975, 0.86, 0.44
CONSENT = {"email": 0.74, "sms": 0.57, "push": 0.8}
CONSENT_NEVER_ASKED = 0.015
ZONE_UNKNOWN, PLACE_UNKNOWN, BIRTHDAY_UNKNOWN = 0.06, 0.01, 0.28
NEW_HOUSEHOLD = 0.88


def make_people(ids: Texts, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """The columns of customers that do not depend on purchases, one entry per id; "" stands for an unknown text.

    The consents are the texts "true", "false" or "" (never asked). They hang together: who refuses one channel tends to
    refuse the others.
    """
    n = ids.size
    heads = _households(n, rng)
    country, zone = _places(n, rng)
    country, zone = country[heads], zone[heads]
    locale, name = _manners(country, rng)
    zone[rng.random(n) < ZONE_UNKNOWN] = ""
    nowhere = rng.random(n) < PLACE_UNKNOWN
    zone[nowhere] = ""
    address = np.char.add(np.char.add(np.char.lower(name), "."), np.char.lstrip(ids, "C0"))
    site = np.where(rng.random(n) < 0.7, "@example.com", "@example.org")
    email = np.where(rng.random(n) < HAS_EMAIL, np.char.add(address, site), "")
    phone = np.where(rng.random(n) < HAS_PHONE, _numbers(n, rng), "")
    token = np.where(rng.random(n) < HAS_PUSH, np.char.add("demo-device-", ids), "")
    return {
        "email": email,
        "phone": phone,
        "push_token": token,
        "first_name": name,
        "time_zone": zone,
        "locale": locale,
        "country": np.where(nowhere, "", country),
        "birthday": _birthdays(n, rng),
        "preferred_channel": _draw(CHANNEL_SHARES, n, rng),
        **_consents(n, rng),
        "household_id": np.char.add("H", np.char.lstrip(ids[heads], "C")),
    }


def _households(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The row of the first member of each customer's household: neighbours in the list share one now and then."""
    starts = rng.random(n) < NEW_HOUSEHOLD
    starts[0] = True
    heads: NDArray[np.int64] = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    return heads


def _places(n: int, rng: np.random.Generator) -> tuple[Texts, Texts]:
    country = _draw({code: place.weight for code, place in COUNTRIES.items()}, n, rng)
    zone = np.zeros(n, dtype="U32")
    for code, place in COUNTRIES.items():
        here = np.flatnonzero(country == code)
        zone[here] = _draw(place.zones, here.size, rng)
    return country, zone


def _manners(country: Texts, rng: np.random.Generator) -> tuple[Texts, Texts]:
    """Locale and first name of each customer, by country."""
    n = country.size
    locale, name = (np.zeros(n, dtype=kind) for kind in ("U8", "U12"))
    for code, place in COUNTRIES.items():
        here = np.flatnonzero(country == code)
        locale[here] = _draw(place.locales, here.size, rng)
        name[here] = _pick(place.names, here.size, rng)
    chinese = np.flatnonzero(locale == "zh-CN")
    name[chinese] = _pick(CHINESE_NAMES, chinese.size, rng)
    return locale, name


def _pick(names: str, n: int, rng: np.random.Generator) -> Texts:
    choice = np.array(names.split())
    return choice[rng.integers(choice.size, size=n)]


def _numbers(n: int, rng: np.random.Generator) -> Texts:
    """A phone number of nobody's for each customer, all different, in E.164 form."""
    digits = np.char.zfill((10_000_000 + rng.permutation(n)).astype("U9"), 9)
    return np.char.add(NOBODYS_NUMBERS, digits)


def _birthdays(n: int, rng: np.random.Generator) -> Texts:
    days = np.datetime64("1948-01-01") + rng.integers(0, 21_000, size=n)
    return np.where(rng.random(n) < BIRTHDAY_UNKNOWN, "", np.datetime_as_string(days))


def _consents(n: int, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Consent per channel by a shared leaning plus chance of its own (rank correlation about 0.4)."""
    leaning = rng.standard_normal(n)
    columns: dict[str, NDArray[np.generic]] = {}
    for channel, share in CONSENT.items():
        taste = 0.65 * leaning + 0.76 * rng.standard_normal(n)
        given = taste <= np.quantile(taste, share)
        text = np.where(given, "true", "false")
        columns[f"consent_{channel}"] = np.where(rng.random(n) < CONSENT_NEVER_ASKED, "", text)
    return columns


def _draw(shares: Mapping[str, float], n: int, rng: np.random.Generator) -> Texts:
    edges = np.cumsum(list(shares.values()))
    return np.array(list(shares))[np.searchsorted(edges / edges[-1], rng.random(n), side="right")]
