"""Prints what a decision needs beside the minimum effect: the lift that promotes, guardrails, and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retain.printing import cell, say

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def show_needs(power: Mapping[str, Any]) -> None:
    """Print what of it is known of a plan's power."""
    if power["promoted_from"] is not None:
        say(
            f"promoted with the planned chance from a true effect of {cell(power['promoted_from'])}: the estimate must "
            "reach the minimum effect too, and at exactly that half of them do not"
        )
    for guard in power["guardrails"]:
        if guard["needed_per_arm"] is not None:
            say(f"guardrail {guard['metric']} needs {guard['needed_per_arm']:,} customers in the smallest arm")
    if power["days_to_decision"] is not None:
        say(f"by the segment's inflow all of them are measured in {power['days_to_decision']:,.0f} days")
