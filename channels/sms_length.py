"""How long an SMS is: its encoding, its code units and the segments it is billed as.

Source: 3GPP TS 23.038 (the 7-bit default alphabet and its extension table) and TS 23.040 (concatenation headers take
7 of 160 septets or 3 of 70 UCS-2 units).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("^{}\\[~]|€\f")
_GSM_SINGLE: Final = 160
_GSM_PART: Final = 153
_UCS2_SINGLE: Final = 70
_UCS2_PART: Final = 67


@dataclass(frozen=True, slots=True)
class SmsLength:
    """`units` are septets for GSM-7 (extended characters take two) and 16-bit units for UCS-2 (emoji take two)."""

    encoding: Literal["GSM-7", "UCS-2"]
    units: int
    segments: int


def measure_sms(text: str) -> SmsLength:
    """The encoding a text needs, its units and its segments; a character is never split over two segments."""
    if all(c in _BASIC or c in _EXTENDED for c in text):
        sizes = [1 if c in _BASIC else 2 for c in text]
        return SmsLength("GSM-7", sum(sizes), _segments(sizes, _GSM_SINGLE, _GSM_PART))
    sizes = [2 if ord(c) > 0xFFFF else 1 for c in text]
    return SmsLength("UCS-2", sum(sizes), _segments(sizes, _UCS2_SINGLE, _UCS2_PART))


def outside_gsm7(text: str) -> str:
    """The characters that force a text into UCS-2, each once, in order of appearance."""
    return "".join(dict.fromkeys(c for c in text if c not in _BASIC and c not in _EXTENDED))


def _segments(sizes: list[int], single: int, part: int) -> int:
    if sum(sizes) <= single:
        return 1 if sizes else 0
    segments, used = 1, 0
    for size in sizes:
        if used + size > part:
            segments, used = segments + 1, 0
        used += size
    return segments
