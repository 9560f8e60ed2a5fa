"""What a year need not do twice: look at the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flows.steps.planning_rules import config_hash
from flows.wiring import Workspace


def checked_once(real: Callable[[Workspace, Any], list[str]]) -> Callable[[Workspace, Any], list[str]]:
    """The same words need no second look."""
    known: dict[str, list[str]] = {}

    def check(ws: Workspace, file: Any) -> list[str]:
        key = config_hash(ws, file)
        if key not in known:
            known[key] = real(ws, file)
        return list(known[key])

    return check
