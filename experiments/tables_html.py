"""An analysis as HTML tables for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.analysis import Analysis
    from experiments.results import Result

_HEADS = ("metric", "arm", "value", "control", "difference", "interval", "relative lift", "p", "method", "status")


def analysis_html(analysis: Analysis) -> str:
    """The results as a table, the split's health below it, then the views that were asked for."""
    split = "not tested (no expected shares)" if analysis.srm.p_value is None else f"p = {analysis.srm.p_value:.3g}"
    sizes = ", ".join(f"{arm}: {n:,}" for arm, n in analysis.arms.items())
    parts = [_table(_HEADS, map(_cells, analysis.results)), _line(f"{sizes}. Split: {split}.")]
    if analysis.stratified:
        parts += [_line("Within strata, put together"), _table(_HEADS, map(_cells, analysis.stratified))]
    parts += [*_look(analysis), *_bayes(analysis), *_survival(analysis), *_segments(analysis)]
    parts += [*_noninferior(analysis), *_reached(analysis)]
    return "".join(parts)


def _look(analysis: Analysis) -> list[str]:
    look = analysis.look
    if look is None:
        return []
    rows = [
        (r.metric, r.arm, f"{r.statistic:.2f}", "" if r.crossed is None else ("yes" if r.crossed else "no"),
         _span(r.low, r.high), _span(r.always_low, r.always_high))
        for r in look.results
    ]  # fmt: skip
    heads = ("metric", "arm", "z", "crossed", "interval at this look", "interval at any moment")
    return [_line(look.line), _table(heads, rows)]


def _bayes(analysis: Analysis) -> list[str]:
    if not analysis.bayes:
        return []
    heads = ("metric", "arm", "prior", "chance to beat control", "loss of arm", "loss of control", "posterior")
    rows = [
        (b.metric, b.arm, b.prior, f"{b.chance_to_beat_control:.1%}", _number(b.loss_of_arm),
         _number(b.loss_of_control), f"{_number(b.mean)} ({_span(b.low, b.high)})")
        for b in analysis.bayes
    ]  # fmt: skip
    return [_table(heads, rows)]


def _survival(analysis: Analysis) -> list[str]:
    parts = []
    for view in analysis.survival:
        parts.append(_line(view.line))
        rows = [
            (a.arm, f"{a.n:,}", f"{a.events:,}", _number(a.at_horizon), _span(a.low, a.high), _number(a.median))
            for a in view.arms
        ]
        parts.append(_table(("arm", "units", "events", "still without", "interval", "median"), rows))
    return parts


def _segments(analysis: Analysis) -> list[str]:
    parts = []
    for report in analysis.segments:
        parts.append(_line(report.line))
        rows = [(effect.segment, *_cells(effect.result)[2:], effect.group) for effect in report.effects]
        parts.append(_table(("segment", *_HEADS[2:], "group"), rows))
    return parts


def _noninferior(analysis: Analysis) -> list[str]:
    rows = [
        (r.metric, r.arm, _number(r.margin), _number(r.worst), _yes(r.noninferior), r.method, r.status)
        for r in analysis.noninferior
    ]
    heads = ("metric", "arm", "margin", "worst case (95 %)", "no worse than the margin", "method", "status")
    return [_table(heads, rows)] if rows else []


def _reached(analysis: Analysis) -> list[str]:
    rows = [
        (r.metric, r.arm, _number(r.cace.itt), _number(r.cace.first_stage), _number(r.cace.effect),
         _span(r.cace.low, r.cace.high), r.cace.status)
        for r in analysis.reached
    ]  # fmt: skip
    heads = ("metric", "arm", "by intention", "reached more often by", "effect on the reached", "interval", "status")
    return [_table(heads, rows)] if rows else []


def _yes(passed: bool | None) -> str:
    return "" if passed is None else "yes" if passed else "no"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _cells(result: Result) -> tuple[str, ...]:
    lift = "" if result.relative_lift is None else f"{result.relative_lift:+.1%}"
    p = result.p_value if result.p_adjusted is None else result.p_adjusted
    return (
        result.metric,
        result.arm,
        _number(result.arm_value),
        _number(result.control_value),
        _number(result.difference),
        _span(result.low, result.high),
        lift,
        "" if p is None else f"{p:.3g}",
        result.method,
        result.status,
    )


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
