"""Where a phone number is from: its country and the zones of its prefix, by the library `phonenumbers`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from campaigns.timing import is_zone, zones_by_country

HEAD: Final = 8
"""How many characters of a number are enough: the country code and at least four digits, in North America six."""
_NORTH_AMERICA: Final = 1


@dataclass(frozen=True, slots=True)
class PhoneOrigin:
    """The country a prefix belongs to ("" where several share it) and every zone it may be in; `str` reads back."""

    country: str = ""
    zones: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.country}|{','.join(self.zones)}" if self.zones else ""

    @classmethod
    def read(cls, text: str) -> PhoneOrigin:
        """The origin of which `text` is the `str`."""
        country, _, zones = text.partition("|")
        return cls(country, tuple(zones.split(","))) if zones else cls()


@lru_cache(maxsize=262_144)
def phone_origin(head: str, length: int) -> PhoneOrigin:
    """The origin of an international number (+...) of so many characters, by its first `HEAD`; empty for any other.

    Where the numbering plan does not tell (mobile numbers of many countries, toll-free ones) it is every zone of all
    the countries that share the country code.
    """
    import phonenumbers
    from phonenumbers.timezone import time_zones_for_number

    if not head.startswith("+") or not head[1:].isdecimal() or not HEAD <= length <= 16:
        return PhoneOrigin()
    try:
        number = phonenumbers.parse(head + "0" * (length - len(head)))
    except phonenumbers.NumberParseException:
        return PhoneOrigin()
    code = number.country_code or 0
    sharing = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ())
    # the first of those who share a code is its main country; only North America's area codes name the country surely
    main = sharing[0] if sharing else ""
    country = (phonenumbers.region_code_for_number(number) or "") if code == _NORTH_AMERICA else main
    zones = tuple(zone for zone in time_zones_for_number(number) if is_zone(zone))
    if not zones:
        zones = tuple(dict.fromkeys(zone for code in sharing for zone in zones_by_country().get(code, ())))
    return PhoneOrigin(country, zones)
