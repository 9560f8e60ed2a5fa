"""Health: overlapping campaigns, dated events and late outcomes are seen; nothing to test is said to be that."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from scipy import stats

from experiments.aggregates import Moments
from experiments.errors import ExperimentError
from experiments.health import CalendarEvent, events_in_window, interaction, lateness, overlap


def test_independent_draws_overlap_alike_and_dependent_ones_are_seen() -> None:
    rng = np.random.default_rng(1)
    alike = {arm: {"x": int(rng.binomial(1000, 0.3)), "control": 700} for arm in ("a", "b", "control")}
    found = overlap(alike)
    table = [[row["x"], row["control"]] for row in alike.values()]
    expected = stats.chi2_contingency(table, correction=False)
    assert found.chi2 == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.df == 2
    assert found.healthy
    assert found.treated_elsewhere["a"] == alike["a"]["x"] / (alike["a"]["x"] + 700)
    leaning = overlap({"a": {"x": 400, "none": 600}, "control": {"x": 250, "none": 750}})
    assert not leaning.healthy
    assert leaning.largest_gap == pytest.approx(0.15)
    assert leaning.overall == pytest.approx(0.325)


def test_without_overlap_there_is_nothing_to_test() -> None:
    assert overlap({}) == ({}, None, None, None, 0, None)
    alone = overlap({"a": {"none": 10, "x": 0}, "control": {"none": 12}, "b": {}})
    assert (alone.p_value, alone.overall, alone.healthy) == (None, 0.0, True)
    assert set(alone.treated_elsewhere) == {"a", "control"}


def test_events_count_where_they_touch_the_window() -> None:
    start, end = date(2026, 11, 20), date(2026, 12, 20)
    sale = CalendarEvent("sale", date(2026, 11, 15), date(2026, 11, 20))
    pay_day = CalendarEvent("pay-day", date(2026, 11, 28))
    feast = CalendarEvent("feast", date(2026, 12, 21))
    assert events_in_window([feast, pay_day, sale], start=start, end=end) == [sale, pay_day]
    assert events_in_window([feast], start=start, end=date(2026, 12, 21)) == [feast]
    with pytest.raises(ExperimentError, match="window ends"):
        events_in_window([], start=end, end=start)
    with pytest.raises(ExperimentError, match="sale ends"):
        events_in_window([CalendarEvent("sale", end, start)], start=start, end=end)


def test_late_outcomes_are_counted() -> None:
    assert lateness({}, allowed_days=3) == (0, 0, None, None)
    found = lateness({0: 90, 1: 4, 5: 4, 9: 2}, allowed_days=3)
    assert (found.outcomes, found.late, found.late_share, found.days_95) == (100, 6, 0.06, 5.0)
    with pytest.raises(ExperimentError, match=">= 0"):
        lateness({1: -1}, allowed_days=3)


def test_two_campaigns_that_only_add_up_do_not_interact_and_those_that_cancel_do() -> None:
    def cell(share: float, n: int = 2000) -> Moments:
        return Moments.from_counts("repurchase", n, round(n * share))

    adding = interaction((cell(0.40), cell(0.30)), (cell(0.20), cell(0.10)), column="repurchase")
    assert adding.difference == pytest.approx(0.0)
    assert adding.p_value == pytest.approx(1.0)
    cancelling = interaction((cell(0.30), cell(0.30)), (cell(0.20), cell(0.10)), column="repurchase")
    assert cancelling.difference == pytest.approx(-0.1)
    assert cancelling.p_value is not None
    assert cancelling.p_value < 1e-4
    assert interaction((cell(0.0), cell(0.0)), (cell(0.0), cell(0.0)), column="repurchase").p_value is None


def test_without_an_interaction_five_in_a_hundred_are_alarms() -> None:
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(1000):
        cells = [
            Moments.from_counts("x", n, int(rng.binomial(n, p)))
            for n, p in ((400, 0.30), (100, 0.25), (350, 0.20), (120, 0.15))
        ]
        p = interaction((cells[0], cells[1]), (cells[2], cells[3]), column="x").p_value
        alarms += p is not None and p <= 0.05
    assert 0.03 < alarms / 1000 < 0.07
