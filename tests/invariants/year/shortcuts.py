"""What a year need not do twice: read the same bytes of a file, look at the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.steps.planning_rules import config_hash
from flows.wiring import Workspace


def read_once(real: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """The same bytes of a file mean the same: a year reads each of its files a thousand times."""
    known: dict[tuple[Path, bytes], Any] = {}

    def read(path: Path) -> Any:
        key = (path, path.read_bytes())
        if key not in known:
            known[key] = real(path)
        return known[key]

    return read


def checked_once(real: Callable[[Workspace, Any], list[str]]) -> Callable[[Workspace, Any], list[str]]:
    """The same words need no second look."""
    known: dict[str, list[str]] = {}

    def check(ws: Workspace, file: Any) -> list[str]:
        key = config_hash(ws, file)
        if key not in known:
            known[key] = real(ws, file)
        return list(known[key])

    return check
