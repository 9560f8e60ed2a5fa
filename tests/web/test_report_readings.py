"""What a report shows beside the results: curves with numbers at risk, segments behind Q, posteriors, capped money."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.web.sample import full_report, readings
from tests.web.test_report import Page
from web.charts import Curve, Words, curves
from web.report import report_html


@pytest.fixture
def shown() -> dict[str, Any]:
    """A report's data with every reading."""
    return full_report() | readings()


def text(data: dict[str, Any]) -> str:
    return Page(report_html(data)).text


def test_curves_stand_with_the_numbers_at_risk_and_the_days_gained(shown: dict[str, Any]) -> None:
    page = text(shown)
    assert "How long customers stayed away" in page
    assert "Log-rank test over all arms: p < 0.0001" in page
    assert "73.0% [72.0%, 74.0%]" in page  # still away at day 30
    assert "+1.7 [+1.0, +2.4]" in page  # days gained
    assert page.count("Customers at risk") == 2  # drawn for wide and for narrow pages


def test_a_report_without_readings_has_no_section_of_them() -> None:
    page = text(full_report())
    for heading in ("stayed away", "largest orders", "chance to beat control", "Campaigns at the same time"):
        assert heading not in page


def test_segments_are_named_only_where_q_says_that_they_differ(shown: dict[str, Any]) -> None:
    page = text(shown)
    assert "Cochran's Q 14.2 on 2 degrees of freedom, adjusted p = 0.0008: the effects differ, and gold" in page
    assert "persuadables: messages help" in page
    assert "Cochran's Q 2.1 on 4 degrees of freedom, adjusted p = 0.710: the effects do not differ" in page
    assert page.count("Group") == 1


def test_posteriors_name_their_priors_and_decide_nothing(shown: dict[str, Any]) -> None:
    page = text(shown)
    assert "Beta(1, 1) for both shares" in page
    assert "normal, mean 0, sd 0.02 (7 past effects)" in page
    assert "It decides nothing" in page


def test_capped_money_stands_beside_the_plain_one_with_its_cap(shown: dict[str, Any]) -> None:
    page = text(shown)
    assert "which 99.9% of all customers stay below" in page
    assert "312.5" in page


def test_runs_show_their_shares_and_what_was_left_out_where_shares_were_learnt(shown: dict[str, Any]) -> None:
    assert "1,000 (25%)" in text(shown)
    shown["strata"] = {"by": "wave", "strata": 1, "left_out": {"2026-03-09T09:00:00+00:00": 12}}
    page = text(shown)
    assert "arms are compared within each run only" in page
    assert "12 customers of runs too small" in page


def test_other_campaigns_are_shown_with_dependence_and_interaction(shown: dict[str, Any]) -> None:
    page = text(shown)
    assert "birthday:3 12.0% 0.400 0.310" in page


@pytest.mark.parametrize("width", [340, 800])
def test_a_curve_falls_from_everybody_and_its_numbers_stand_below_the_axis(width: int) -> None:
    line = Curve("mail", [(1.0, 0.9), (2.0, 0.9), (3.0, 0.6)], [(0.0, 100.0), (1.0, 90.0), (2.0, 85.0), (3.0, 60.0)])
    drawn = str(curves([line, line], Words("k", "T", "D"), width=width, caption="Days"))
    root = ElementTree.fromstring(drawn)
    paths = [e.get("d") or "" for e in root.iter("path")]
    assert len(paths) == 2
    heights = [float(value) for value in re.findall(r"[MV](?:[\d.]+ )?([\d.]+)", paths[0])]
    assert heights == sorted(heights)
    assert len(heights) == 3  # a day on which nobody came back draws no step
    words = [e.text for e in root.iter("text")]
    assert words.count("100") == 2
    for element in root.iter():
        for key in ("x", "x1", "x2"):
            assert 0 <= float(element.get(key) or 0) <= width


def test_curves_of_one_arm_name_and_any_text_are_safe() -> None:
    line = Curve('<b>"x"&', [(1.0, 0.5)], [(0.0, 4.0)])
    root = ElementTree.fromstring(str(curves([line], Words("k", "T", "D"), width=800, caption="Days")))
    assert '<b>"x"&' in "".join(root.itertext())
    assert not [element for element in root.iter() if element.tag.rpartition("}")[2] == "b"]
