"""An analysis as an HTML table for notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.analysis import Analysis
    from experiments.results import Result

_HEADS = ("metric", "arm", "value", "control", "difference", "interval", "relative lift", "p", "method", "status")


def analysis_html(analysis: Analysis) -> str:
    """The results as a table, the split's health below it."""
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _cells(r))}</tr>" for r in analysis.results
    )
    split = "not tested (no expected shares)" if analysis.srm.p_value is None else f"p = {analysis.srm.p_value:.3g}"
    sizes = ", ".join(f"{html.escape(arm)}: {n:,}" for arm, n in analysis.arms.items())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{sizes}. Split: {split}.</p>"


def _cells(result: Result) -> tuple[str, ...]:
    interval = "" if result.low is None else f"{_number(result.low)} to {_number(result.high)}"
    lift = "" if result.relative_lift is None else f"{result.relative_lift:+.1%}"
    p = result.p_value if result.p_adjusted is None else result.p_adjusted
    return (
        result.metric,
        result.arm,
        _number(result.arm_value),
        _number(result.control_value),
        _number(result.difference),
        interval,
        lift,
        "" if p is None else f"{p:.3g}",
        result.method,
        result.status,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
