"""Numbers as people read them."""

from __future__ import annotations

import pytest

from web import numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.count(12345), "12,345"),
        (numbers.count(-3), "−3"),
        (numbers.share(0.109), "10.9%"),
        (numbers.share(0.25, digits=0), "25%"),
        (numbers.points(0.039), "+3.9 pp"),
        (numbers.points(-0.0104), "−1.0 pp"),
        (numbers.points(-0.00004), "0.0 pp"),
        (numbers.relative(0.366), "+36.6%"),
        (numbers.relative(-1.0), "−100.0%"),
        (numbers.amount(2.345, unit="EUR"), "2.35 EUR"),
        (numbers.amount(0.046), "0.046"),
        (numbers.amount(12345.6, unit="EUR"), "12,346 EUR"),
        (numbers.change(0.42, unit="EUR", digits=2), "+0.42 EUR"),
        (numbers.change(-1234.5, digits=0), "−1,234"),
        (numbers.p_value(0.5), "0.500"),
        (numbers.p_value(0.0312), "0.031"),
        (numbers.p_value(0.00031), "0.0003"),
        (numbers.p_value(1e-9), "< 0.0001"),
        (numbers.instant("2026-04-04T11:30:00+02:00"), "2026-04-04 09:30 UTC"),
        (numbers.instant("2026-04-04T11:30:00"), "2026-04-04T11:30:00"),
        (numbers.instant("yesterday"), "yesterday"),
        (numbers.plain(30.0), "30"),
        (numbers.plain(0.0), "0"),
        (numbers.plain(0.001), "0.001"),
        (numbers.plain(-2.5), "−2.5"),
    ],
)
def test_a_number_is_written_with_its_unit_and_a_true_minus(text: str, expected: str) -> None:
    assert text == expected


def test_what_is_not_there_is_a_dash() -> None:
    for write in (numbers.count, numbers.share, numbers.points, numbers.relative, numbers.amount):
        assert write(None) == "–"
    assert numbers.change(None, digits=2) == "–"
    assert numbers.p_value(None) == "–"
