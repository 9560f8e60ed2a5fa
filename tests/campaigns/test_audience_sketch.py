"""How much of an audience moved: exact for small ones, close for large ones."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.audience_sketch import SIZE, moved_share, sketch_audience


def audience(ids: list[int], arm: str = "mail") -> pd.DataFrame:
    return pd.DataFrame({"customer_id": [f"C{n}" for n in ids], "arm": [arm] * len(ids)}, dtype=object)


@given(st.sets(st.integers(0, 400)), st.sets(st.integers(0, 400)))
def test_small_audiences_are_compared_exactly(then: set[int], now: set[int]) -> None:
    moved = moved_share(*(sketch_audience(audience(sorted(ids)), salt="s") for ids in (then, now)))
    assert moved == pytest.approx(len(then ^ now) / max(len(then | now), 1))


def test_a_changed_arm_is_a_move() -> None:
    then, now = (sketch_audience(audience(list(range(10)), arm), salt="s") for arm in ("mail", "text"))
    assert moved_share(then, now) == 1.0


@pytest.mark.parametrize("gone", [0, 1_000, 2_500, 10_000])
def test_large_audiences_are_compared_closely_enough_to_hold_a_limit_of_five_percent(gone: int) -> None:
    then = sketch_audience(audience(list(range(50_000))), salt="s")
    now = sketch_audience(audience(list(range(gone, 50_000))), salt="s")
    assert len(then) == len(now) == SIZE
    true = gone / 50_000
    assert moved_share(then, now) == pytest.approx(true, abs=4 * (true * (1 - true) / SIZE) ** 0.5 + 1e-12)


def test_order_does_not_matter() -> None:
    ids = list(range(100))
    assert sketch_audience(audience(ids), salt="s") == sketch_audience(audience(ids[::-1]), salt="s")
