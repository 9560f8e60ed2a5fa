"""Assignment is a pure function of salt and unit, and follows the weights."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.assign import draw_arms, fraction, fractions
from experiments.errors import ExperimentError


def test_a_fraction_is_the_first_eight_bytes_of_sha256() -> None:
    digest = hashlib.sha256(b"salt.unit-1").digest()
    assert fraction("salt", "unit-1") == int.from_bytes(digest[:8], "big") / 2**64


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=20))
def test_many_at_once_equal_one_by_one(salt: str, units: list[str]) -> None:
    assert fractions(salt, units).tolist() == [fraction(salt, unit) for unit in units]


def test_arms_follow_cumulative_weights_in_order() -> None:
    units = [f"c{i}" for i in range(2000)]
    arms = draw_arms(units, salt="s", weights=[("a", 0.4), ("b", 0.4), ("control", 0.2)])
    for unit, arm in zip(units, arms, strict=True):
        place = fraction("s", unit)
        assert arm == ("a" if place < 0.4 else "b" if place < 0.8 else "control")


def test_an_arm_without_weight_gets_nobody_even_at_the_end() -> None:
    arms = draw_arms([f"c{i}" for i in range(500)], salt="s", weights=[("x", 0.0), ("a", 1.0), ("z", 0.0)])
    assert set(arms) == {"a"}


def test_places_are_uniform_and_independent_between_salts() -> None:
    units = [f"c{i}" for i in range(20_000)]
    first, second = fractions("one", units), fractions("two", units)
    counts = np.histogram(first, bins=20, range=(0, 1))[0]
    # chi-square with 19 degrees of freedom: 43.8 is its 0.999 quantile (scipy.stats.chi2.ppf(0.999, 19))
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


@pytest.mark.parametrize(
    "weights", [[("a", 0.5), ("b", 0.4)], [("a", 0.5), ("a", 0.5)], [("a", 1.2), ("b", -0.2)], [("a", 1.0 + 1e-8)]]
)
def test_weights_that_make_no_split_are_refused(weights: list[tuple[str, float]]) -> None:
    with pytest.raises(ExperimentError, match="weights"):
        draw_arms(["c1"], salt="s", weights=weights)


def test_weights_may_miss_one_by_rounding() -> None:
    assert len(draw_arms(["c1"], salt="s", weights=[("a", 1 / 3), ("b", 1 / 3), ("c", 1 / 3)])) == 1
