"""What the report says of the arms and of their messages."""

from __future__ import annotations

from web import numbers, report_words
from web.charts import Charts, Words, at_both_widths, stacked_bars
from web.report_data import ReportData
from web.tables import Cell, Table


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
                numbers.count(arm.get("reached")),
                str(arm.get("offer") or numbers.NOTHING),
                steps if isinstance(steps, str) and steps else ", ".join(map(str, steps)) or numbers.NOTHING,
            )
        )
    titles = ("Arm", "Share", "Assigned", "Mature", "Reached", "Offer", "Messages")
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
    said = f"{sent:,} of {planned:,} planned messages were sent."
    return at_both_widths(
        lambda size, width: stacked_bars(bars, classes, Words(f"funnel-{size}", "Messages per arm", said), width=width)
    )


def skipped_table(data: ReportData) -> Table | None:
    """Why messages were not sent."""
    rows = [[reason.replace("_", " "), numbers.count(n)] for reason, n in data.skipped.items()]
    return Table.of("Messages that were not sent, by reason", ("Not sent because", "Messages"), rows) if rows else None
