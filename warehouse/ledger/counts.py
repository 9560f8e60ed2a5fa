"""What became of an experiment's messages, counted so that nothing can be lost silently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from warehouse.ledger import schema

_O = schema.outbox

_SHOWN_AS: Final[Mapping[str, str]] = {
    "pending": "pending",
    "claimed": "pending",
    "sending": "pending",
    "sent": "sent",
    "delivered": "sent",
    "failed": "failed",
    "skipped": "skipped",
    "in_doubt": "in_doubt",
}


@dataclass(frozen=True, slots=True)
class MessageCounts:
    """Messages of one experiment: (arm, channel, state, reason) -> n; the reason is "" where there is none."""

    cells: Mapping[tuple[str, str, str, str], int]

    @property
    def total(self) -> dict[str, int]:
        """Give planned = sent + failed + skipped + in_doubt + pending (delivered counts as sent)."""
        return self._sum()

    @property
    def by_arm(self) -> dict[str, dict[str, int]]:
        """Give the same for each arm."""
        return {arm: self._sum(arm) for arm in sorted({cell[0] for cell in self.cells})}

    @property
    def by_arm_and_channel(self) -> dict[tuple[str, str], dict[str, int]]:
        """Give the same for each arm and channel."""
        pairs = sorted({cell[:2] for cell in self.cells})
        return {pair: self._sum(*pair) for pair in pairs}

    @property
    def skipped(self) -> dict[str, int]:
        """Give the skipped messages by reason."""
        reasons: dict[str, int] = {}
        for (_, _, state, reason), n in sorted(self.cells.items()):
            if state == "skipped":
                reasons[reason] = reasons.get(reason, 0) + n
        return reasons

    def _sum(self, of_arm: str | None = None, of_channel: str | None = None) -> dict[str, int]:
        sums = {"planned": 0, "sent": 0, "failed": 0, "skipped": 0, "in_doubt": 0, "pending": 0}
        for (arm, channel, state, _), n in self.cells.items():
            if of_arm in (None, arm) and of_channel in (None, channel):
                sums["planned"] += n
                sums[_SHOWN_AS[state]] += n
        return sums


def counts(tx: sa.Connection, experiment_id: str) -> MessageCounts:
    """Count the experiment's messages by arm, channel, state and reason."""
    columns = (_O.c.arm, _O.c.channel, _O.c.state, _O.c.reason)
    query = sa.select(*columns, sa.func.count()).where(_O.c.experiment_id == experiment_id).group_by(*columns)
    cells: dict[tuple[str, str, str, str], int] = {}
    for arm, channel, state, reason, n in tx.execute(query):
        cell = (arm, channel, state, reason if state in ("skipped", "failed", "in_doubt") else "")
        cells[cell] = cells.get(cell, 0) + int(n)
    return MessageCounts(dict(sorted(cells.items())))
