"""How numbers are written for people: shares, percentage points, money, p-values, always with a true minus sign."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NOTHING: Final = "–"
"""What stands where there is no number."""
_MINUS: Final = "\u2212"


def count(value: float | None) -> str:
    """12,345"""
    return NOTHING if value is None else _minus(f"{value:,.0f}")


def share(value: float | None, *, digits: int = 1) -> str:
    """10.9% of 0.109"""
    return NOTHING if value is None else _minus(f"{100 * value:.{digits}f}%")


def points(value: float | None, *, digits: int = 1) -> str:
    """+3.9 pp of 0.039: a difference between two shares"""
    return NOTHING if value is None else f"{signed(100 * value, digits=digits)} pp"


def relative(value: float | None) -> str:
    """+12.5% of 0.125: a change relative to control"""
    return NOTHING if value is None else f"{signed(100 * value, digits=1)}%"


def amount(value: float | None, *, unit: str = "") -> str:
    """2.35 EUR"""
    return NOTHING if value is None else _with_unit(_minus(f"{value:,.{digits(value)}f}"), unit)


def change(value: float | None, *, digits: int, unit: str = "") -> str:
    """+0.42 EUR: a difference between two amounts"""
    return NOTHING if value is None else _with_unit(signed(value, digits=digits), unit)


def instant(text: str) -> str:
    """2026-04-04 09:00 UTC of an instant in ISO 8601; what is none stays as it is."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if at.tzinfo else text


def p_value(value: float | None) -> str:
    """0.034, and < 0.0001 for what is smaller"""
    if value is None:
        return NOTHING
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def signed(value: float, *, digits: int) -> str:
    """The number with its sign; what rounds to nothing has none."""
    text = f"{value:+,.{digits}f}"
    return text[1:] if float(text.replace(",", "")) == 0 else _minus(text)


def digits(value: float) -> int:
    """How many decimals an amount of this size is written with."""
    return 0 if abs(value) >= 1000 else 2 if abs(value) >= 0.1 or value == 0 else 3


def plain(value: float) -> str:
    """A number whose meaning is not known: up to four significant digits, no exponent for what people can read."""
    return count(value) if value == int(value) and abs(value) >= 1 else _minus(f"{value:.4g}")


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit else text


def _minus(text: str) -> str:
    return text.replace("-", _MINUS)
