"""What past campaigns achieved: the prior that a winner's lift is shrunk by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from experiments.results import Result
from experiments.shrinkage import prior_spread
from warehouse.ledger.results import decisions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experiments.design import Design
    from flows.wiring import Workspace


@dataclass(frozen=True, slots=True)
class Prior:
    """How far true effects are thought to spread around none, in the primary's unit.

    `past_effects`: arms of past experiments it was learnt from; without any it is the minimum effect.
    """

    sd: float
    past_effects: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def find_prior(ws: Workspace, design: Design, results: Sequence[Result], *, now: datetime) -> Prior | None:
    """The spread of past effects on the same primary metric, decided before `now`, beside the minimum effect.

    Effects are compared as shares of control's value: a point more means something else at 2 % than at 30 %. None
    where control's value or the minimum effect is not known or 0.
    """
    base = next((r.control_value for r in results if r.metric == design.primary and r.control_value is not None), None)
    return prior_at(ws, design, base, now=now)


def prior_at(ws: Workspace, design: Design, base: float | None, *, now: datetime) -> Prior | None:
    """The prior where control's value of the primary is `base`."""
    start = None if not base else design.minimum_effect.absolute(base) / abs(base)
    if not base or not start:
        return None
    known = _past(ws, design, now)
    spread = prior_spread([effect for effect, _ in known], [error for _, error in known], start=start)
    return Prior(spread * abs(base), len(known))


def _past(ws: Workspace, design: Design, now: datetime) -> list[tuple[float, float]]:
    """Effect and error, as shares of control's value, of every arm in the last decision of each other experiment."""
    with ws.ledger.read() as tx:
        last = {row.experiment_id: row for row in decisions(tx) if row.decided_at < now}
    last.pop(design.experiment_id, None)
    return [
        (result.difference / abs(result.control_value), result.se / abs(result.control_value))
        for row in last.values()
        if row.verdict not in ("invalid", "keep_testing", "keep_measuring")
        for result in _results(row.evidence)
        if result.metric == design.primary and result.usable and result.control_value
        if result.difference is not None and result.se is not None
    ]


def _results(evidence: Mapping[str, Any]) -> list[Result]:
    return [Result.from_json(result) for result in evidence["measurement"]["results"]]
