"""Charges: moments after single units paid are those of the rows after they paid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.aggregates import Moments
from experiments.charges import charge, shift
from experiments.errors import ExperimentError

COLUMNS = ("margin", "pre_revenue", "orders")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), charged=st.integers(0, 60))
def test_charged_moments_are_the_moments_of_the_charged_rows(seed: int, n: int, charged: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.gamma(1.0, 20.0, (n, 3)) * rng.integers(0, 2, (n, 1))
    who = rng.permutation(n)[: min(charged, n)]
    costs = rng.gamma(2.0, 3.0, len(who))
    paid = rows.copy()
    paid[who, 0] -= costs
    values = {name: rows[who, i] for i, name in enumerate(COLUMNS)}
    found = charge(Moments.from_rows(COLUMNS, rows), "margin", costs, values)
    wanted = Moments.from_rows(COLUMNS, paid)
    assert found.sums == pytest.approx(wanted.sums, abs=1e-8)
    assert np.array(found.central) == pytest.approx(np.array(wanted.central), rel=1e-9, abs=1e-7)
    assert found.cubes == pytest.approx(wanted.cubes, rel=1e-7, abs=1e-4)


def test_what_everybody_pays_moves_only_the_mean() -> None:
    before = Moments.from_rows(("margin",), [[1.0], [3.0], [8.0]])
    after = shift(before, "margin", 6.0)
    assert after.sums == (6.0,)
    assert (after.central, after.cubes) == (before.central, before.cubes)


def test_a_column_without_values_is_refused() -> None:
    before = Moments.from_rows(("margin", "orders"), [[1.0, 1.0], [3.0, 2.0]])
    with pytest.raises(ExperimentError, match="the columns orders have no values"):
        charge(before, "margin", np.array([1.0]), {"margin": np.array([1.0])})


def test_a_column_that_was_not_collected_is_named_with_those_that_were() -> None:
    with pytest.raises(ExperimentError, match="no column 'profit'; collected were margin"):
        shift(Moments.from_rows(("margin",), [[1.0], [3.0]]), "profit", 6.0)
