"""What the report says of the whole programme: all campaigns together against the global holdout."""

from __future__ import annotations

from typing import Final

from web import numbers, report_words
from web.report_data import Plain, ReportData
from web.tables import Cell, Table

COLUMNS: Final = ("Metric", "With campaigns", "In the holdout", "Difference", "Interval", "Relative")


def programme_words(programme: Plain) -> str:
    """The comparison in a few sentences: who, when, how many, and whose past still shows."""
    sides, released = programme["sides"], programme.get("released_lately") or {}
    holdout, others = numbers.count(sides["holdout"]), numbers.count(sides["programme"])
    said = (
        f"All campaigns together, from {str(programme['from'])[:10]} to {str(programme['to'])[:10]}: {others} "
        f"customers drawn at random against the {holdout} of the global holdout "
        f"({numbers.share(programme['share'], digits=0)} of everybody), whom no campaign touches."
    )
    late = sum(released.values())
    if not late:
        return said
    return f"{said} {numbers.count(late)} of them were in the holdout before; what they missed then still shows."


def programme_table(data: ReportData, programme: Plain) -> Table:
    """One row for each metric: both sides, the difference with its interval, the relative lift."""
    rows: list[list[Cell | str]] = []
    for row in programme["results"]:
        name, kind = str(row["metric"]), str(row["kind"])
        digits = report_words.decimals(kind, abs(row["difference"] or 0.0))
        rows.append(
            [
                report_words.metric(name),
                report_words.level(name, kind, row.get("arm_value"), data.currency),
                report_words.level(name, kind, row.get("control_value"), data.currency),
                report_words.difference(name, kind, row.get("difference"), data.currency, digits=digits),
                report_words.interval(kind, row.get("low"), row.get("high"), digits=digits),
                numbers.share(row.get("relative_lift"), digits=1),
            ]
        )
    return Table.of("The whole programme against the global holdout", COLUMNS, rows)
