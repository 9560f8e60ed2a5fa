"""Files of customers, orders or events become facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse.facts import load

if TYPE_CHECKING:
    from flows.wiring import Workspace
    from warehouse.facts.load import LoadSummary, Progress


def load_facts(
    ws: Workspace,
    table: str,
    files: Sequence[Path],
    *,
    renames: Mapping[str, str],
    now: datetime,
    progress: Progress | None = None,
) -> LoadSummary:
    """Load `files` into `table`; `renames` maps our column names to the files'. Atomic and idempotent on keys.

    Raises FactsError where a file is missing or broken: nothing is loaded then.
    """
    return load.load_table(
        ws.facts,
        table,
        files,
        renames=renames,
        time_zone=ws.settings.load_time_zone,
        quarantine_dir=ws.root / "data" / "quarantine",
        now=now,
        progress=progress,
    )


def load_customers_from_orders(
    ws: Workspace, files: Sequence[Path], *, renames: Mapping[str, str], now: datetime
) -> LoadSummary:
    """Make a customer of every customer id in order files (or, without files, in the orders already loaded)."""
    return load.load_customers_from_orders(
        ws.facts,
        files,
        renames=renames,
        time_zone=ws.settings.load_time_zone,
        quarantine_dir=ws.root / "data" / "quarantine",
        now=now,
    )


def load_counts(summary: LoadSummary) -> dict[str, int]:
    """The counts of a load; the rows that were refused by reason."""
    refused = {f"quarantined: {reason}": n for reason, n in summary.reasons.items()}
    counts = {"read": summary.read, "added": summary.added, "updated": summary.updated, "unchanged": summary.unchanged}
    return counts | {"quarantined": summary.quarantined} | refused
