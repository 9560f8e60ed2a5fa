"""What imports of lists have in common: their summary, the rows set aside, and what the words of a row mean."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from campaigns.words import EVERY_TOPIC

if TYPE_CHECKING:
    from flows.wiring import Workspace

CHUNK: Final = 5_000
_TOPIC: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass
class ListImport:
    """What became of the rows of a list: read = added + unchanged + quarantined."""

    read: int = 0
    added: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    quarantine_file: Path | None = None
    refused: list[tuple[str, str, int]] = field(default_factory=list, repr=False)

    @property
    def unchanged(self) -> int:
        """Rows that said what was known already."""
        return self.read - self.added - self.quarantined

    def refuse(self, reason: str, path: Path, number: int) -> None:
        """Set a row aside."""
        self.quarantined += 1
        self.reasons[reason] += 1
        self.refused.append((reason, str(path), number))

    def counts(self) -> dict[str, int]:
        """The counts as plain numbers."""
        told = {"read": self.read, "added": self.added, "unchanged": self.unchanged}
        return {**told, "quarantined": self.quarantined}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            **self.counts(),
            "reasons": dict(sorted(self.reasons.items())),
            "quarantine_file": str(self.quarantine_file) if self.quarantine_file else None,
        }


def write_refused(ws: Workspace, kind: str, outcome: ListImport, *, now: datetime) -> None:
    """Write reason, file and row of what was refused beside the other quarantine files; never what the row held."""
    if not outcome.refused:
        return
    folder = ws.root / "data" / "quarantine"
    folder.mkdir(parents=True, exist_ok=True)
    stem, turn = f"{kind}-{now:%Y%m%dT%H%M%SZ}", 1
    path = folder / f"{stem}.csv"
    while path.exists():
        turn += 1
        path = folder / f"{stem}-{turn}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("reason", "file", "row"), *outcome.refused])
    outcome.quarantine_file = path


def read_scope(channel: str | None, topic: str | None, *, channels: Sequence[str]) -> tuple[str, str] | str:
    """Channel and topic of a row ("all" where it says none), or the reason why it is refused."""
    meant = (channel or "all").lower()
    about = (topic or EVERY_TOPIC).lower()
    if meant not in (*channels, "all"):
        return "bad_channel"
    if not _TOPIC.fullmatch(about):
        return "bad_topic"
    return meant, about


def read_instant(text: str | None, zone: str) -> datetime | None:
    """An instant in ISO 8601, read in `zone` where it names none; None where it cannot be read."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (found.replace(tzinfo=ZoneInfo(zone)) if found.tzinfo is None else found).astimezone(UTC)
