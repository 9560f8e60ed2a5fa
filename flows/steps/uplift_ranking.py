"""Does ranking the segments by their effect pay: fitted on one half of the customers, tested on the other (Qini)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from experiments.aggregates import Moments
from experiments.uplift import uplift_report

LEAST_TRAINING: Final = 100
"""Customers of each arm below which a segment's own effect is not believed: it is ranked by that of everybody."""
LEAST_HELD_OUT: Final = 350
"""Customers of each arm below which a ranking is not tested."""


@dataclass(frozen=True, slots=True)
class Halves:
    """One half of one segment: sizes and conversions of the arm and of control."""

    n_arm: int
    hits_arm: int
    n_control: int
    hits_control: int

    @classmethod
    def of(cls, arm: Moments, control: Moments, *, column: str) -> Halves:
        """From the moments of a 0/1 column."""
        return cls(arm.n, round(arm.sum(column)), control.n, round(control.sum(column)))

    def __add__(self, other: Halves) -> Halves:
        return Halves(
            self.n_arm + other.n_arm,
            self.hits_arm + other.hits_arm,
            self.n_control + other.n_control,
            self.hits_control + other.hits_control,
        )

    @property
    def smallest(self) -> int:
        """Customers of the smaller side."""
        return min(self.n_arm, self.n_control)

    @property
    def effect(self) -> float:
        """Difference of the shares."""
        return self.hits_arm / self.n_arm - self.hits_control / self.n_control


def rank_uplift(segments: Mapping[str, Mapping[bool, Halves]]) -> dict[str, Any] | None:
    """Qini and AUUC of the ranking, on the held-out half; None where there are too few customers or nothing to rank.

    `segments`: segment -> whether held out -> counts. Qini and AUUC: 1 is perfect targeting, 0 random; below 0 the
    ranking found on one half did harm on the other.
    """
    empty = Halves(0, 0, 0, 0)
    fitted = sum((halves[False] for halves in segments.values()), start=empty)
    tested = sum((halves[True] for halves in segments.values()), start=empty)
    if fitted.smallest < LEAST_TRAINING or tested.smallest < LEAST_HELD_OUT:
        return None
    scores = {
        name: halves[False].effect if halves[False].smallest >= LEAST_TRAINING else fitted.effect
        for name, halves in segments.items()
    }
    if len(set(scores.values())) < 2:
        return None
    return {"n": tested.n_arm + tested.n_control, "scores": scores, **_test(segments, scores)}


def _test(segments: Mapping[str, Mapping[bool, Halves]], scores: Mapping[str, float]) -> dict[str, float | None]:
    import numpy as np

    groups = []
    for name, halves in segments.items():
        half = halves[True]
        for treated, n, hits in ((1, half.n_arm, half.hits_arm), (0, half.n_control, half.hits_control)):
            groups += [(1, treated, scores[name], hits), (0, treated, scores[name], n - hits)]
    table = np.array(groups, dtype=np.float64)
    outcome, treated, score = np.repeat(table[:, :3], table[:, 3].astype(np.int64), axis=0).T
    report = uplift_report(outcome, treated, score, held_out=np.ones(outcome.size, dtype=bool))
    return {"qini": report.qini, "auuc": report.auuc}
