"""What the report shows beside the results: curves, effects by segment, posteriors, capped money, the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from web import numbers, report_words
from web.charts import Axis, Charts, Curve, Interval, Words, at_both_widths, curves, forest
from web.report_data import Plain, ReportData
from web.report_programme import programme_table, programme_words
from web.tables import Cell, Table

GROUPS: Final[Mapping[str, str]] = {
    "persuadables": "messages help",
    "sleeping dogs": "messages do harm",
    "sure things": "they buy anyway",
    "lost causes": "they do not buy either way",
    "unknown": numbers.NOTHING,
}


@dataclass(frozen=True)
class Reading:
    """One reading: a heading, what it says in a sentence, a chart and a table where there are any."""

    heading: str
    words: str
    charts: Charts
    table: Table | None


def readings(data: ReportData) -> tuple[Reading, ...]:
    """Every reading that the measurement has, in the order in which they are of use."""
    found = [_survival(data), *_segments(data), _capped(data), _bayesian(data), _runs(data), _overlaps(data)]
    found.append(_programme(data))
    return tuple(reading for reading in found if reading is not None)


def _programme(data: ReportData) -> Reading | None:
    programme = data.raw.get("programme")
    if not programme:
        return None
    return Reading("The whole programme", programme_words(programme), {}, programme_table(data, programme))


def _survival(data: ReportData) -> Reading | None:
    survival = data.raw.get("survival")
    if not survival or not any(arm.get("points") for arm in survival["arms"].values()):
        return None
    lines = [
        Curve(
            name,
            [(float(day), float(away)) for day, away in arm.get("curve") or _as_curve(arm["points"])],
            [
                (0.0, float(arm["n"])),
                *((float(day), float(n)) for day, n in arm.get("risk") or _as_risk(arm["points"])),
            ],
        )
        for name, arm in survival["arms"].items()
        if arm.get("points")
    ]
    p = survival["log_rank"].get("p_value")
    sentence = "The share of each arm that has not bought again, day by day. " + (
        f"Log-rank test over all arms: p {_p(p)}. " if p is not None else ""
    )
    sentence += "Customers who are still being watched count as long as they were."
    rows: list[list[Cell | str]] = [
        [name, *_time_cells(arm, survival, name)] for name, arm in survival["arms"].items() if arm.get("points")
    ]
    last = f"Still away at day {max(int(day) for line in lines for day, _ in line.steps)}"
    table = Table.of(
        "Time to repurchase", ("Arm", "Customers", "Came back", last, "Half came back by day", "Days gained"), rows
    )
    said = "; ".join(f"{line.label} {numbers.share(line.steps[-1][1])} still away" for line in lines)
    charts = at_both_widths(
        lambda size, width: curves(
            lines,
            Words(f"survival-{size}", "Time to repurchase", f"Share not yet back by days since assignment: {said}."),
            width=width,
            caption="Days since assignment",
        )
    )
    return Reading("How long customers stayed away", sentence, charts, table)


def _as_curve(points: Sequence[Plain]) -> list[tuple[float, float]]:
    return [(point["day"], point["away"]) for point in points]


def _as_risk(points: Sequence[Plain]) -> list[tuple[float, float]]:
    return [(point["day"], point["at_risk"]) for point in points]


def _time_cells(arm: Plain, survival: Plain, name: str) -> list[Cell | str]:
    last = arm["points"][-1]
    limits = "" if last["low"] is None else f" [{numbers.share(last['low'])}, {numbers.share(last['high'])}]"
    row = next((r for r in survival["rmst"] if r["arm"] == name), None)
    gained: str = numbers.NOTHING
    if row is not None and row.get("difference") is not None:
        low, high = row.get("low"), row.get("high")
        shown = "" if low is None else f" [{numbers.signed(-high, digits=1)}, {numbers.signed(-low, digits=1)}]"
        gained = f"{numbers.signed(-row['difference'], digits=1)}{shown}"
    median = arm.get("median_days")
    return [
        numbers.count(arm["n"]),
        numbers.count(arm["events"]),
        numbers.share(last["away"]) + limits,
        numbers.NOTHING if median is None else f"{median:g}",
        gained,
    ]


def _segments(data: ReportData) -> list[Reading]:
    found = []
    for number, report in enumerate(data.raw.get("segments") or ()):
        feature = str(report["feature"]).replace("_", " ")
        kind = next((str(row["kind"]) for row in data.results if row["metric"] == report["metric"]), "proportion")
        rows: list[list[Cell | str]] = []
        intervals: list[Interval] = []
        for effect in report["effects"]:
            shown = data.interval({"metric": report["metric"], "kind": kind, **effect})
            gap = data.difference(str(report["metric"]), effect.get("difference"))
            group = str(effect.get("group") or "unknown")
            rows.append(
                [
                    str(effect["segment"]),
                    numbers.count((effect.get("n_arm") or 0) + (effect.get("n_control") or 0)),
                    Cell(gap, "num strong"),
                    shown,
                    numbers.p_value(effect.get("p_adjusted")),
                    Cell(GROUPS[group] if group == "unknown" else f"{group}: {GROUPS.get(group, '')}", "text"),
                ]
            )
            estimate, low, high = (effect.get(key) for key in ("difference", "low", "high"))
            intervals.append(Interval(str(effect["segment"]), estimate, low, high, f"{gap} {shown}"))
        differ = bool(report.get("differ"))
        columns = [feature.capitalize(), "Customers", "Difference", f"{data.confidence} interval", "p", "Group"]
        width = len(columns) if differ else len(columns) - 1  # nobody is named where effects do not differ
        table = Table.of(f"Effect of {report['arm']} by {feature}", columns[:width], [row[:width] for row in rows])
        found.append(
            Reading(
                f"{report['arm']} by {feature}",
                _segment_words(report, differ=differ),
                _segment_charts(data, kind, f"segment-{number}", f"{report['arm']} by {feature}", intervals),
                table,
            )
        )
    return found


def _segment_words(report: Plain, *, differ: bool) -> str:
    q, df, p = report.get("q"), report.get("df"), report.get("p_adjusted")
    if q is None or p is None:
        return "Too few customers to tell whether the effect differs."
    test = f"Cochran's Q {q:.1f} on {df} degrees of freedom, adjusted p {_p(p)}"
    if not differ:
        return f"{test}: the effects do not differ by more than chance: the overall one is the best for each."
    best = report.get("best")
    return f"{test}: the effects differ" + (f", and {best} has the largest." if best else ".")


def _segment_charts(data: ReportData, kind: str, key: str, title: str, rows: Sequence[Interval]) -> Charts:
    if not any(row.estimate is not None for row in rows):
        return {}
    scale, digits = (100.0, 0) if kind == "proportion" else (1.0, 2)
    unit = ", percentage points" if kind == "proportion" else ""
    axis = Axis(f"Difference from {data.control}{unit}", lambda value: numbers.signed(scale * value, digits=digits))
    said = "; ".join(f"{row.label} {row.note}" for row in rows)
    return at_both_widths(
        lambda size, width: forest(list(rows), axis, Words(f"{key}-{size}", title, f"{said}."), width=width)
    )


def _capped(data: ReportData) -> Reading | None:
    capped = data.raw.get("winsorised")
    if not capped or not capped["results"]:
        return None
    rows: list[list[Cell | str]] = []
    for row in capped["results"]:
        name = str(row["metric"])
        plain = next((r for r in data.results if (r["metric"], r["arm"]) == (name, row["arm"])), None)
        rows.append(
            [
                f"{report_words.metric(name)}: {row['arm']}",
                _gap(data, plain),
                Cell(_gap(data, row), "num strong"),
                numbers.amount(capped["caps"].get(name), unit=data.currency),
                numbers.count(capped["customers"].get(name)),
            ]
        )
    share = f"{100 * capped['quantile']:g}%"
    words = (
        f"The same money with one cap for all arms, which {share} of all customers stay below. Where the two differ, "
        "the plain result hangs on a few orders. The plain one decides."
    )
    columns = ("Metric and arm", "Plain difference", "Capped difference", "Cap", "Customers capped")
    return Reading("Without the largest orders", words, {}, Table.of("Money, plain and capped", columns, rows))


def _gap(data: ReportData, row: Plain | None) -> str:
    if row is None:
        return numbers.NOTHING
    return f"{data.difference(str(row['metric']), row.get('difference'))} {data.interval(row)}"


def _bayesian(data: ReportData) -> Reading | None:
    views = data.raw.get("bayesian") or ()
    if not views:
        return None
    rows: list[list[Cell | str]] = [
        [
            str(view["arm"]),
            Cell(str(view["prior"]), "text"),
            numbers.share(view["chance_to_beat_control"]),
            data.step(str(view["metric"]), view["mean"]),
            data.step(str(view["metric"]), view["loss_of_arm"]),
            data.step(str(view["metric"]), view["loss_of_control"]),
        ]
        for view in views
    ]
    words = "Another way to read the same numbers, with the prior by name. It decides nothing."
    columns = ("Arm", "Prior", "Chance to beat control", "Expected effect", "Loss of choosing it", "Loss of control")
    return Reading("The chance to beat control", words, {}, Table.of("Posteriors", columns, rows))


def _runs(data: ReportData) -> Reading | None:
    waves = data.raw.get("waves") or ()
    if len(waves) < 2:
        return None
    arms = list(data.arms)
    rows: list[list[Cell | str]] = []
    for wave in waves:
        sizes, weights = wave["assigned"], wave.get("weights") or {}
        cells = [
            numbers.count(sizes.get(arm, 0)) + (f" ({numbers.share(weights[arm], digits=0)})" if arm in weights else "")
            for arm in arms
        ]
        rows.append([numbers.instant(str(wave["as_of"])), *cells, "yes" if wave["mature"] else "not yet"])
    strata: Mapping[str, Any] = data.raw.get("strata") or {}
    words = "Customers of each run, with the share that the draw aimed at."
    if strata:
        left = sum((strata.get("left_out") or {}).values())
        words += " The shares followed the outcomes, so that arms are compared within each run only."
        words += f" {left:,} customers of runs too small to compare are left out." if left else ""
    return Reading("The runs", words, {}, Table.of("Customers by run", ("Run", *arms, "Mature"), rows))


def _overlaps(data: ReportData) -> Reading | None:
    found = (data.raw.get("circumstances") or {}).get("overlapping") or ()
    if not found:
        return None
    rows: list[list[Cell | str]] = []
    for other in found:
        tests = other.get("interaction") or ()
        lowest = min((t["p_adjusted"] for t in tests if t.get("p_adjusted") is not None), default=None)
        rows.append(
            [
                str(other["experiment"]),
                numbers.share(other["share"]),
                numbers.p_value(other.get("p_value")),
                numbers.p_value(lowest),
            ]
        )
    words = (
        "Other experiments that treated these customers at the same time: whether they met one arm more than another, "
        "and whether the effect differs among those whom they treated."
    )
    columns = ("Experiment", "Share treated there", "p of dependence", "p of interaction")
    return Reading("Campaigns at the same time", words, {}, Table.of("Overlapping experiments", columns, rows))


def _p(value: float) -> str:
    text = numbers.p_value(value)
    return text if text.startswith("<") else f"= {text}"
