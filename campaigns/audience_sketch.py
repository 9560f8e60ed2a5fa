"""How much of an audience has moved, told from a few thousand numbers instead of every customer's id.

A bottom-k sketch: the k smallest of the hashes of all (customer, arm) pairs. Below k pairs the comparison is exact;
above, the share that moved is estimated with a standard error of at most sqrt(m (1 - m) / k), 0.4 points for m = 5 %.
Source: Broder 1997, "On the resemblance and containment of documents"; Cohen and Kaplan 2007 (bottom-k sketches).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from experiments.assign import fractions

if TYPE_CHECKING:
    import pandas as pd

SIZE: Final = 4096
"""Numbers a sketch holds at most."""
_SCALE: Final = 2**53


def sketch_audience(assignments: pd.DataFrame, *, salt: str) -> tuple[int, ...]:
    """The sketch of who takes part in which arm (columns customer_id, arm); ascending, at most SIZE numbers."""
    pairs = (assignments["arm"] + " " + assignments["customer_id"]).tolist()
    hashes = np.sort(fractions(f"{salt}.audience", pairs))[:SIZE]
    return tuple(int(value * _SCALE) for value in hashes)


def moved_share(then: Sequence[int], now: Sequence[int]) -> float:
    """How much of the two audiences together is in only one of them (0 to 1).

    A customer who changed arm counts as one who left and one who came.
    """
    union, both = sorted(set(then) | set(now)), set(then) & set(now)
    if max(len(then), len(now)) >= SIZE:
        union = union[:SIZE]  # beyond, a sketch does not say what it has
    return sum(value not in both for value in union) / max(len(union), 1)
