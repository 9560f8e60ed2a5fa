"""What the report says of the results: the comparisons with control as tables and forest plots."""

from __future__ import annotations

from collections.abc import Sequence

from web import numbers, report_words
from web.charts import Axis, Charts, Interval, Words, at_both_widths, forest
from web.report_data import NET_MARGIN, Plain, ReportData
from web.tables import Cell, Table


def results_table(data: ReportData, rows: Sequence[Plain], *, primary: bool) -> Table | None:
    """Every comparison with control: values, difference with its interval, p; for the primary the truth beside it."""
    if not rows:
        return None
    with_truth = primary and bool(data.truth)
    columns = ["Arm", "In the arm", "In control", "Difference", f"{data.confidence} interval", "Relative", "p"]
    columns += ["Truth"] if with_truth else []
    groups: dict[str, list[list[Cell | str]]] = {}
    for row in rows:
        title = "" if primary else report_words.metric(str(row["metric"]))
        cells: list[Cell | str] = [str(row["arm"]), *_numbers(data, row), *([_truth(data, row)] if with_truth else [])]
        groups.setdefault(title, []).append(cells)
    return Table.grouped("Results against control", columns, groups)


def primary_charts(data: ReportData, rows: Sequence[Plain]) -> Charts:
    """A forest plot of the primary metric, absolute, with the smallest effect worth acting on and the truth."""
    kind = data.kind(data.primary)
    intervals = [
        Interval(
            label=str(row["arm"]),
            estimate=row.get("difference"),
            low=row.get("low"),
            high=row.get("high"),
            note=_note(data, row),
            truth=data.truth.get(str(row["arm"])),
            strong=row["arm"] == data.decision.get("arm"),
        )
        for row in rows
    ]
    unit = "percentage points" if kind == "proportion" else data.currency if data.primary in report_words.MONEY else ""
    name = report_words.metric(data.primary)
    caption = f"Difference from {data.control}" + (f", {unit}" if unit else "")
    digits = 0 if kind == "proportion" else 2
    scale = 100.0 if kind == "proportion" else 1.0
    axis = Axis(caption, lambda value: numbers.signed(scale * value, digits=digits), _mark(data, rows))
    words = _forest_words(name, intervals, data)
    return _both_sizes("primary", name, words, intervals, axis) if _drawable(intervals) else {}


def other_charts(data: ReportData, rows: Sequence[Plain]) -> Charts:
    """A forest plot of the other metrics on one scale, relative to control; what has no such number stays below."""
    intervals: list[Interval | str] = []
    for row in rows:
        heading = report_words.metric(str(row["metric"]))
        if row.get("relative_lift") is None or row["metric"] == NET_MARGIN:
            continue
        if heading not in intervals:
            intervals.append(heading)
        intervals.append(
            Interval(
                label=str(row["arm"]),
                estimate=row["relative_lift"],
                low=row.get("relative_low"),
                high=row.get("relative_high"),
                note=numbers.relative(row["relative_lift"]),
                strong=row["arm"] == data.decision.get("arm"),
            )
        )
    axis = Axis(f"Difference relative to {data.control}", lambda value: numbers.signed(100 * value, digits=0) + "%")
    words = "Each row shows how much an arm differs from control, in percent of control."
    return _both_sizes("others", "Other metrics", words, intervals, axis) if _drawable(intervals) else {}


def _numbers(data: ReportData, row: Plain) -> list[Cell | str]:
    name, kind, currency = str(row["metric"]), str(row["kind"]), data.currency
    status = str(row.get("status") or "ok")
    shown = data.interval(row)
    if row.get("difference") is None:
        shown = report_words.STATUSES.get(status, status.replace("_", " "))
    adjusted = row.get("p_adjusted")
    return [
        report_words.level(name, kind, row.get("arm_value"), currency),
        report_words.level(name, kind, row.get("control_value"), currency),
        Cell(data.difference(name, row.get("difference")), "num strong"),
        shown,
        numbers.relative(row.get("relative_lift")),
        numbers.p_value(adjusted if adjusted is not None else row.get("p_value")),
    ]


def _truth(data: ReportData, row: Plain) -> Cell:
    truth = data.truth.get(str(row["arm"]))
    low, high = row.get("low"), row.get("high")
    text = data.difference(str(row["metric"]), truth)
    if truth is None or low is None or high is None:
        return Cell(text)
    return Cell(f"{text}, inside", "num good") if low <= truth <= high else Cell(f"{text}, outside", "num warn")


def _note(data: ReportData, row: Plain) -> str:
    if row.get("difference") is None:
        status = str(row.get("status") or "")
        return report_words.STATUSES.get(status, status.replace("_", " "))
    return f"{data.difference(str(row['metric']), row['difference'])} {data.interval(row)}"


def _mark(data: ReportData, rows: Sequence[Plain]) -> tuple[float, str] | None:
    effect = data.design.get("minimum_effect") or {}
    value = float(effect.get("value") or 0.0)
    if effect.get("kind") == "relative":
        value *= abs(next((row["control_value"] for row in rows if row.get("control_value") is not None), 0.0))
    return (value, "worth acting on from here") if value else None


def _forest_words(name: str, intervals: Sequence[Interval], data: ReportData) -> str:
    shown = "; ".join(f"{row.label} {row.note}" for row in intervals)
    return f"{name}, difference from {data.control} with {data.confidence} interval: {shown}."


def _drawable(intervals: Sequence[Interval | str]) -> bool:
    return any(isinstance(row, Interval) and row.estimate is not None for row in intervals)


def _both_sizes(key: str, title: str, words: str, rows: Sequence[Interval | str], axis: Axis) -> Charts:
    return at_both_widths(lambda size, width: forest(rows, axis, Words(f"{key}-{size}", title, words), width=width))
