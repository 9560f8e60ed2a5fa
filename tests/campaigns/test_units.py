"""Quantities are read exactly as written, and nothing is guessed."""

from __future__ import annotations

import contextlib
import math
from datetime import time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.units import (
    Difference,
    FrequencyCap,
    Money,
    parse_cap,
    parse_clock_time,
    parse_difference,
    parse_duration,
    parse_money,
    parse_share,
    show,
)


@pytest.mark.parametrize(
    ("text", "share"), [("20%", 0.2), ("7.5%", 0.075), ("0%", 0.0), ("100 %", 1.0), ("33.33%", 0.3333)]
)
def test_a_share_is_a_percentage(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("value", [0.2, 20, "20", "0.2", "-5%", "20%%", "20 pp", True, None, "٢٠%", "20%\n", [20]])
def test_what_is_not_a_percentage_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="expected a share in quotes or plain such as 20%"):
        parse_share(value)


def test_more_than_everybody_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 100%, got 101%"):
        parse_share("101%")


@pytest.mark.parametrize(
    ("value", "difference", "shown"),
    [
        ("1.5pp", Difference(0.015, "absolute", "pp"), "1.5pp"),
        ("10%", Difference(0.1, "relative", "%"), "10%"),
        ("-0.2pp", Difference(-0.002, "absolute", "pp"), "-0.2pp"),
        ("0.50 EUR", Difference(0.5, "absolute", "EUR"), "0.5 EUR"),
        (0.05, Difference(0.05, "absolute", ""), "0.05"),
        (2, Difference(2.0, "absolute", ""), "2"),
        ("0.05", Difference(0.05, "absolute", ""), "0.05"),
    ],
)
def test_a_difference_knows_its_unit(value: object, difference: Difference, shown: str) -> None:
    assert parse_difference(value) == difference
    assert str(difference) == shown


@pytest.mark.parametrize("value", ["1.5 points", True, math.nan, math.inf, "pp", None])
def test_what_is_not_a_difference_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected a difference such as 1\.5pp"):
        parse_difference(value)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30 days", timedelta(days=30)),
        ("1 day", timedelta(days=1)),
        ("20 hours", timedelta(hours=20)),
        ("1.5 weeks", timedelta(days=10.5)),
        ("90 minutes", timedelta(minutes=90)),
        ("0 days", timedelta(0)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("value", ["30", 30, "30d", "days", "-1 days", "30  days", None])
def test_what_is_not_a_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 30 days"):
        parse_duration(value)


@pytest.mark.parametrize("text", ["1 month", "2 years", "1 quarter"])
def test_months_are_refused_because_they_differ_in_length(text: str) -> None:
    with pytest.raises(ValueError, match="months differ in length"):
        parse_duration(text)


def test_a_duration_of_more_than_ten_years_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 3650 days"):
        parse_duration("3651 days")


def test_money_is_exact_and_has_a_currency() -> None:
    assert parse_money("0.10 EUR") == Money(Decimal("0.10"), "EUR")
    assert str(parse_money("10 EUR") * Decimal("0.05")) == "0.5 EUR"
    assert str(parse_money("2500 EUR")) == "2500 EUR"
    assert not parse_money("0.00 EUR")


@pytest.mark.parametrize("value", ["€10", "10", 10, "2,500 EUR", "-1 EUR", "10 eur", "10EUR"])
def test_what_is_not_money_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected an amount with its currency"):
        parse_money(value)


def test_a_clock_time_is_two_digits_each() -> None:
    assert parse_clock_time("09:30") == time(9, 30)
    assert parse_clock_time("23:59") == time(23, 59)


@pytest.mark.parametrize("value", ["9:30", "24:00", "12:60", 1230, "12:30:00", "noon"])
def test_what_is_not_a_clock_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a clock time"):
        parse_clock_time(value)


def test_a_cap_counts_messages_in_a_window() -> None:
    assert parse_cap("2 per 7 days") == FrequencyCap(2, timedelta(days=7))
    assert parse_cap("1 per 24 hours") == FrequencyCap(1, timedelta(days=1))


def test_a_day_or_week_without_a_number_is_one_of_the_calendar() -> None:
    assert parse_cap("1 per day") == FrequencyCap(1, timedelta(days=1), "day")
    assert parse_cap("3 per week") == FrequencyCap(3, timedelta(days=7), "week")
    assert parse_cap("1 per 1 day") == FrequencyCap(1, timedelta(days=1))


@pytest.mark.parametrize("value", ["2 per month", "2 per days", "2 per hour", "0 per 7 days", "2/7", 2, "2 per 0 days"])
def test_what_is_not_a_cap_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a cap"):
        parse_cap(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "nothing"), (False, "false"), (True, "true"), ("a", '"a"'), ({}, "a mapping"), ([], "a list"), (3, "3")],
)
def test_values_are_shown_as_the_author_wrote_them(value: object, shown: str) -> None:
    assert show(value) == shown


def test_a_long_text_is_shown_shortened() -> None:
    assert show("x" * 200) == '"' + "x" * 57 + '..."'


@given(st.text(max_size=30) | st.integers() | st.floats() | st.none())
def test_a_parser_gives_a_value_or_a_value_error_whatever_it_reads(value: object) -> None:
    for parse in (parse_share, parse_difference, parse_duration, parse_money, parse_clock_time, parse_cap):
        with contextlib.suppress(ValueError):
            assert parse(value) is not None
