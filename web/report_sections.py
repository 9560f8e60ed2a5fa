"""The tables and charts of the report, one function a section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from web import numbers, report_words
from web.charts import Axis, Interval, Words, forest, stacked_bars
from web.report_data import ReportData
from web.tables import Cell, Table

WIDTHS: Final[Mapping[str, int]] = {"wide": 800, "narrow": 340}
PASSED: Final = {True: Cell("✓ passed", "good"), False: Cell("✕ failed", "bad"), None: Cell("– not checked", "calm")}
SIGNS: Final = {True: ("✓", "good"), False: ("✕", "bad"), None: ("–", "calm")}
Charts = Mapping[str, Markup]
Row = Mapping[str, Any]

_ARM_GATES: Final = ("efficacy", "practical", "margin", "harm")
_LAST_GATES: Final = ("choice", "shrinkage", "feedback")
_P_VALUES: Final = frozenset({"adjusted_p", "significantly_worse", "srm_assigned", "srm_analysed", "balance"})
_SHARES: Final = frozenset(
    {"contamination", "crossover", "delivery_gap", "delivered", "nothing_delivered", "information"}
)
_COUNTS: Final = frozenset({"planned_look", "planned_size", "floor", "conversions"})


def arms_table(data: ReportData) -> Table:
    """The arms: planned share, what they promise and send, how many customers, how many of them count by now."""
    weights = {str(name): float(weight) for name, weight in data.design.get("weights") or ()}
    rows: list[tuple[str, ...]] = []
    for name, arm in data.arms.items():
        steps = arm.get("steps") or ""
        rows.append(
            (
                name,
                numbers.share(weights.get(name), digits=0),
                numbers.count(arm.get("assigned")),
                numbers.count(arm.get("mature")),
                str(arm.get("offer") or numbers.NOTHING),
                steps if isinstance(steps, str) and steps else ", ".join(map(str, steps)) or numbers.NOTHING,
            )
        )
    titles = ("Arm", "Share", "Assigned", "Mature", "Offer", "Messages")
    used = [i for i in range(len(titles)) if i == 0 or any(row[i] != numbers.NOTHING for row in rows)]
    cells = [[Cell(row[i], "text" if titles[i] in ("Offer", "Messages") else "num") for i in used] for row in rows]
    return Table.of("The arms of the experiment", [titles[i] for i in used], cells)


def funnel_table(data: ReportData) -> Table | None:
    """Planned and what became of it, per arm; planned is the sum of the rest."""
    if not data.funnel:
        return None
    states = [state for state in report_words.STATES if any(counts.get(state) for counts in data.funnel.values())]
    columns = ["Arm", "Planned", *(report_words.STATES[state].capitalize() for state in states)]
    rows = [
        [arm, numbers.count(counts["planned"]), *(numbers.count(counts.get(state, 0)) for state in states)]
        for arm, counts in data.funnel.items()
    ]
    return Table.of("Messages per arm, from planned to sent", columns, rows)


def funnel_charts(data: ReportData) -> Charts:
    """The same as bars, drawn for wide and for narrow pages."""
    if not any(counts["planned"] for counts in data.funnel.values()):
        return {}
    states = report_words.STATES
    bars = {arm: {states[s]: n for s, n in counts.items() if s in states} for arm, counts in data.funnel.items()}
    classes = {words: f"part-{state.replace('_', '-')}" for state, words in states.items()}
    sent = sum(counts.get("sent", 0) + counts.get("delivered", 0) for counts in data.funnel.values())
    planned = sum(counts["planned"] for counts in data.funnel.values())
    return {
        size: stacked_bars(
            bars,
            classes,
            Words(f"funnel-{size}", "Messages per arm", f"{sent:,} of {planned:,} planned messages were sent."),
            width=width,
        )
        for size, width in WIDTHS.items()
    }


def skipped_table(data: ReportData) -> Table | None:
    """Why messages were not sent."""
    rows = [[reason.replace("_", " "), numbers.count(n)] for reason, n in data.skipped.items()]
    return Table.of("Messages that were not sent, by reason", ("Not sent because", "Messages"), rows) if rows else None


def results_table(data: ReportData, rows: Sequence[Row], *, primary: bool) -> Table | None:
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


def primary_charts(data: ReportData, rows: Sequence[Row]) -> Charts:
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


def other_charts(data: ReportData, rows: Sequence[Row]) -> Charts:
    """A forest plot of the other metrics on one scale, relative to control; what has no such number stays below."""
    intervals: list[Interval | str] = []
    for row in rows:
        heading = report_words.metric(str(row["metric"]))
        if row.get("relative_lift") is None:
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


def health_table(data: ReportData) -> Table | None:
    """The checks of the experiment itself, each against its threshold: the decision's, else the measurement's."""
    rows: list[list[Cell | str]] = [
        [_sentence(str(reason.get("text") or reason.get("code"))), *_outcome(data, reason)]
        for reason in _reasons(data, "integrity")
    ]
    for key, value in data.health.items():
        label, threshold, at_least = report_words.HEALTH.get(key, (key.replace("_", " ").capitalize(), None, True))
        if threshold is not None and rows and value is not None and _reasons(data, "integrity"):
            continue
        text = numbers.p_value(value) if key.endswith("_p") else _plain(value)
        passed = None if threshold is None or value is None else value >= threshold if at_least else value <= threshold
        wanted = numbers.NOTHING if threshold is None else f"{'≥' if at_least else '≤'} {threshold:g}"
        rows.append([label, text, wanted, PASSED[passed]])
    return Table.of("Health of the experiment", ("Check", "Value", "Wanted", "Outcome"), rows) if rows else None


def gates_tables(data: ReportData) -> tuple[tuple[str, Table], ...]:
    """Every gate of the decision with value, threshold and outcome, in the order of the rule: (heading, table).

    The checks of the arms stand side by side, one column an arm.
    """
    reasons = list(data.decision.get("reasons") or ())
    per_arm = [reason for reason in reasons if reason.get("gate") in _ARM_GATES and reason.get("arm")]
    before = [r for r in reasons if r not in per_arm and r.get("gate") not in ("integrity", *_LAST_GATES)]
    last = [reason for reason in reasons if reason.get("gate") in _LAST_GATES]
    integrity = _integrity_row(data)
    first = [*([integrity] if integrity else []), *(_gate_row(data, reason) for reason in before)]
    columns = ("Gate", "Check", "Value", "Wanted", "Outcome")
    found = {
        "The experiment": Table.of("Gates of the experiment", columns, first) if first else None,
        "Each arm": _arm_matrix(data, per_arm) if per_arm else None,
        "The choice": Table.of("Gates of the choice", columns, [_gate_row(data, r) for r in last]) if last else None,
    }
    return tuple((heading, table) for heading, table in found.items() if table is not None)


def _arm_matrix(data: ReportData, reasons: Sequence[Row]) -> Table:
    arms = list(dict.fromkeys(str(reason["arm"]) for reason in reasons))
    checks: dict[tuple[str, str, str], dict[str, Row]] = {}
    for reason in reasons:
        key = (str(reason.get("gate")), str(reason.get("code")), str(reason.get("metric") or ""))
        checks.setdefault(key, {})[str(reason["arm"])] = reason
    rows: list[list[Cell | str]] = []
    for (gate, code, metric), by_arm in checks.items():
        first = next(iter(by_arm.values()))
        words = _sentence(report_words.check(code, metric, str(first.get("text") or code)))
        wanted = report_words.threshold(code, _gate_number(data, first, "threshold"))
        cells = [_signed_cell(data, by_arm[arm]) if arm in by_arm else Cell(numbers.NOTHING, "calm") for arm in arms]
        rows.append([report_words.GATES.get(gate, gate), Cell(words, "words"), wanted, *cells])
    return Table.of("Gates of each arm", ("Gate", "Check", "Wanted", *arms), rows)


def _signed_cell(data: ReportData, reason: Row) -> Cell:
    sign, css = SIGNS.get(reason.get("passed"), SIGNS[None])
    return Cell(f"{_gate_number(data, reason, 'value')} {sign}", f"num {css}")


def _integrity_row(data: ReportData) -> list[Cell | str] | None:
    found = [reason.get("passed") for reason in _reasons(data, "integrity")]
    if not found:
        return None
    open_checks = found.count(None)
    rest = f", {open_checks} could not be made" if open_checks else ""
    words = Cell(f"The checks under health, above{rest}", "words")
    return [
        report_words.GATES["integrity"],
        words,
        f"{found.count(True)} of {len(found)}",
        "",
        PASSED[False not in found],
    ]


def _gate_row(data: ReportData, reason: Row) -> list[Cell | str]:
    gate = str(reason.get("gate"))
    words = Cell(_sentence(str(reason.get("text") or reason.get("code") or "")), "words")
    return [report_words.GATES.get(gate, gate), words, *_outcome(data, reason)]


def _outcome(data: ReportData, reason: Row) -> list[Cell | str]:
    wanted = report_words.threshold(str(reason.get("code")), _gate_number(data, reason, "threshold"))
    return [_gate_number(data, reason, "value"), wanted, PASSED.get(reason.get("passed"), PASSED[None])]


def _reasons(data: ReportData, gate: str) -> list[Row]:
    return [reason for reason in data.decision.get("reasons") or () if reason.get("gate") == gate]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _numbers(data: ReportData, row: Row) -> list[Cell | str]:
    name, kind, currency = str(row["metric"]), str(row["kind"]), data.currency
    status = str(row.get("status") or "ok")
    shown = report_words.interval(kind, row.get("difference"), row.get("low"), row.get("high"))
    if row.get("difference") is None:
        shown = report_words.STATUSES.get(status, status.replace("_", " "))
    adjusted = row.get("p_adjusted")
    return [
        report_words.level(name, kind, row.get("arm_value"), currency),
        report_words.level(name, kind, row.get("control_value"), currency),
        Cell(report_words.difference(name, kind, row.get("difference"), currency), "num strong"),
        shown,
        numbers.relative(row.get("relative_lift")),
        numbers.p_value(adjusted if adjusted is not None else row.get("p_value")),
    ]


def _truth(data: ReportData, row: Row) -> Cell:
    truth = data.truth.get(str(row["arm"]))
    low, high = row.get("low"), row.get("high")
    text = report_words.difference(str(row["metric"]), str(row["kind"]), truth, data.currency)
    if truth is None or low is None or high is None:
        return Cell(text)
    return Cell(f"{text}, inside", "num good") if low <= truth <= high else Cell(f"{text}, outside", "num warn")


def _note(data: ReportData, row: Row) -> str:
    if row.get("difference") is None:
        status = str(row.get("status") or "")
        return report_words.STATUSES.get(status, status.replace("_", " "))
    kind = str(row["kind"])
    shown = report_words.difference(str(row["metric"]), kind, row["difference"], data.currency)
    return f"{shown} {report_words.interval(kind, row['difference'], row.get('low'), row.get('high'))}"


def _mark(data: ReportData, rows: Sequence[Row]) -> tuple[float, str] | None:
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
    return {
        size: forest(rows, axis, Words(f"{key}-{size}", title, words), width=width) for size, width in WIDTHS.items()
    }


def _plain(value: float | None) -> str:
    return numbers.NOTHING if value is None else numbers.plain(float(value))


def _gate_number(data: ReportData, reason: Row, key: str) -> str:
    value, code, metric = reason.get(key), str(reason.get("code")), str(reason.get("metric") or "")
    if value is None:
        return numbers.NOTHING
    if code in _P_VALUES:
        return numbers.p_value(value) if key == "value" else numbers.plain(value)
    if code in _SHARES:
        return numbers.share(value)
    if code in _COUNTS:
        return numbers.count(value)
    metric = metric or data.primary
    if code in ("shrunk_lift", "expected_loss") or data.kind(metric):
        return report_words.difference(metric, data.kind(metric), value, data.currency)
    return _plain(value)
