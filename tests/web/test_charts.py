"""Charts: accessible, inside their frame, safe against any text, the same for the same values."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.charts import Axis, Interval, Words, at_both_widths, forest, nice_ticks, stacked_bars

WORDS = Words("c", "Title", "What it shows")
AXIS = Axis("Difference", lambda value: f"{value:g}")
ROWS = [Interval("good", 0.04, 0.02, 0.06, "+4", truth=0.045, strong=True), Interval("bad", -0.01, -0.03, 0.01, "-1")]
SVG = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(svg))


def of_class(root: ElementTree.Element, css: str) -> list[ElementTree.Element]:
    return [element for element in root.iter() if css in (element.get("class") or "").split()]


@pytest.mark.parametrize("width", [340, 800])
def test_a_forest_plot_says_in_words_what_it_is(width: int) -> None:
    root = parse(forest(ROWS, AXIS, WORDS, width=width))
    assert root.get("role") == "img"
    named = {element.get("id"): element.text for element in root if element.tag in ("title", "desc")}
    assert [named[key] for key in (root.get("aria-labelledby") or "").split()] == ["Title", "What it shows"]
    assert len(of_class(root, "estimate")) == 3  # two rows and the legend
    assert len(of_class(root, "truth")) == 2
    assert root.get("viewBox", "").split()[2] == str(width)


@pytest.mark.parametrize("width", [340, 800])
def test_estimates_stand_in_order_between_the_ends_of_their_intervals(width: int) -> None:
    root = parse(forest(ROWS, Axis("d", str, mark=(0.015, "from here")), WORDS, width=width))
    whole = [line for line in of_class(root, "interval") if line.get("x1") != line.get("x2")]
    squares = of_class(root, "estimate")
    for line, square in zip(whole, squares[:2], strict=True):
        middle = float(square.get("x", "")) + 5
        assert float(line.get("x1", "")) < middle < float(line.get("x2", ""))
    (zero,) = of_class(root, "zero")
    (mark,) = of_class(root, "mark")
    assert float(squares[1].get("x", "")) < float(zero.get("x1", "")) < float(mark.get("x1", ""))
    assert "from here" in "".join(root.itertext())


def test_headings_and_rows_without_numbers_are_drawn_as_text_only() -> None:
    root = parse(forest(["Margin", Interval("empty", None, None, None, "too few data")], AXIS, WORDS, width=800))
    assert [element.text for element in of_class(root, "heading")] == ["Margin"]
    assert not of_class(root, "interval")
    assert "too few data" in "".join(root.itertext())


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=5),
    st.sampled_from([340, 800]),
)
def test_everything_stays_inside_the_frame(values: list[tuple[float, float]], width: int) -> None:
    rows = [
        Interval(f"row {i}", middle, middle - reach, middle + reach, "") for i, (middle, reach) in enumerate(values)
    ]
    root = parse(forest(rows, AXIS, WORDS, width=width))
    height = float(root.get("viewBox", "").split()[3])
    for element in root.iter():
        for key in ("x", "x1", "x2"):
            assert 0 <= float(element.get(key, "0")) <= width
        for key in ("y", "y1", "y2"):
            assert -10 <= float(element.get(key, "0")) <= height


@pytest.mark.parametrize("width", [340, 800])
def test_a_long_name_is_cut_in_the_chart(width: int) -> None:
    name = "an-arm-with-a-name-of-sixty-four-letters-which-is-the-longest-one"
    note = "+4.0 pp [+1.9, +6.1]"
    for svg in (
        forest([Interval(name, 1.0, 0.0, 2.0, note)], AXIS, WORDS, width=width),
        stacked_bars({name: {"sent": 1.0}}, {"sent": "part-sent"}, WORDS, width=width),
    ):
        (label,) = of_class(parse(svg), "label")
        assert label.text is not None
        assert label.text.endswith("…")
        assert name.startswith(label.text[:-1])
    whole = forest([Interval("double-points", 1.0, 0.0, 2.0, note)], AXIS, WORDS, width=width)
    assert [element.text for element in of_class(parse(whole), "label")] == ["double-points"]


def test_no_text_can_break_out_of_a_chart() -> None:
    evil = '</svg><script>alert(1)</script>" onload="x'
    for svg in (
        forest(
            [evil, Interval(evil, 1.0, 0.0, 2.0, evil)], Axis(evil, lambda _: evil), Words("k", evil, evil), width=340
        ),
        stacked_bars({evil: {evil: 1}}, {evil: "part-sent"}, Words("k", evil, evil), width=800),
    ):
        root = parse(svg)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            "svg",
            "title",
            "desc",
            "g",
            "line",
            "rect",
            "text",
            "path",
        }
        assert not [name for element in root.iter() for name in element.attrib if name.startswith("on")]
        assert "<script" not in str(svg)


@pytest.mark.parametrize("width", [340, 800])
def test_bars_are_as_long_as_their_numbers_and_name_only_parts_that_occur(width: int) -> None:
    bars = {"a": {"sent": 90.0, "skipped": 10.0}, "b": {"sent": 50.0}}
    classes = {"sent": "part-sent", "failed": "part-failed", "skipped": "part-skipped"}
    root = parse(stacked_bars(bars, classes, WORDS, width=width))
    long, short = (float(rect.get("width", "")) for rect in of_class(root, "part-sent")[:2])
    assert long / short == pytest.approx(1.8, rel=0.01)
    text = "".join(root.itertext())
    assert "skipped" in text
    assert "failed" not in text


def test_bars_of_nothing_are_drawn_empty() -> None:
    root = parse(stacked_bars({"a": {"sent": 0.0}}, {"sent": "part-sent"}, WORDS, width=800))
    assert not of_class(root, "part-sent")
    assert parse(stacked_bars({}, {"sent": "part-sent"}, WORDS, width=800)).get("role") == "img"


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, size: float) -> None:
    high = low + size
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    slack = 1e-6 * size + 1e-9
    assert all(low - slack <= tick <= high + slack for tick in ticks)


def test_ticks_are_ones_twos_or_fives_apart() -> None:
    assert nice_ticks(-2.9, 9.1) == [-2, 0, 2, 4, 6, 8]
    assert nice_ticks(0, 1, most=5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(0, 34, most=7) == [0, 5, 10, 15, 20, 25, 30]
    assert nice_ticks(3, 3) == [3]


def test_a_chart_is_drawn_once_for_each_width_with_names_of_its_own() -> None:
    charts = at_both_widths(lambda size, width: forest(ROWS, AXIS, Words(f"x-{size}", "t", "d"), width=width))
    assert list(charts) == ["wide", "narrow"]
    ids = [name for svg in charts.values() for name in re.findall(r' id="([^"]+)"', svg)]
    assert len(set(ids)) == len(ids) == 4
    assert charts == at_both_widths(lambda size, width: forest(ROWS, AXIS, Words(f"x-{size}", "t", "d"), width=width))
