"""Prints comparisons of arms with control: the table that measurements and analyses share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from retain.printing import percent, print_table

if TYPE_CHECKING:
    from typing import Any


def show_results(results: Sequence[Mapping[str, Any]]) -> None:
    """Print one row a result: p adjusted over the arms where it is, and the status where there is no p at all."""
    rows = [
        [
            result["metric"],
            result["arm"],
            result["arm_value"],
            result["control_value"],
            result["difference"],
            _interval(result["low"], result["high"]),
            percent(result["relative_lift"], signed=True),
            result["p_value"] if result["p_adjusted"] is None else result["p_adjusted"],
            result["status"] if result["p_value"] is None else result["method"],
        ]
        for result in results
    ]
    print_table(("metric", "arm", "value", "control", "difference", "interval", "lift", "p", "method"), rows)


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:+.4g} to {high:+.4g}"
