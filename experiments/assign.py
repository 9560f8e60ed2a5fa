"""Assignment: a unit's place in [0, 1) by hash, and the arm it falls into."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BELOW_ONE = 1.0 - 2.0**-53  # the largest float below 1: a hash within 2**-54 of 1 would round up to it
_WEIGHT_TOLERANCE = 1e-9


def fraction(salt: str, unit: str) -> float:
    """The unit's place in [0, 1): the first 8 bytes (big-endian) of SHA-256(salt + "." + unit), divided by 2**64.

    >>> round(fraction("winback-1", "c-42"), 6)
    0.413602
    """
    digest = hashlib.sha256(f"{salt}.{unit}".encode()).digest()
    return min(int.from_bytes(digest[:8], "big") / 2.0**64, _BELOW_ONE)


def fractions(salt: str, units: Sequence[str]) -> NDArray[np.float64]:
    """`fraction` of many units at once, shape (len(units),), in their order."""
    import numpy as np

    prefix = hashlib.sha256(f"{salt}.".encode())
    heads = bytearray(8 * len(units))
    for index, unit in enumerate(units):
        state = prefix.copy()
        state.update(unit.encode())
        heads[8 * index : 8 * index + 8] = state.digest()[:8]
    places = np.frombuffer(heads, dtype=">u8").astype(np.float64) / 2.0**64
    return np.minimum(places, _BELOW_ONE)


def draw_arms(units: Sequence[str], *, salt: str, weights: Sequence[tuple[str, float]]) -> list[str]:
    """The arm of every unit: where its fraction falls in the cumulative weights, taken in the given order.

    Raises: ExperimentError where weights are negative, repeat an arm or do not sum to 1 (within 1e-9).
    """
    import numpy as np

    names = [name for name, _ in weights]
    edges = _edges(weights)
    arms = np.searchsorted(np.asarray(edges), fractions(salt, units), side="right")
    return [names[index] for index in arms.tolist()]


def _edges(weights: Sequence[tuple[str, float]]) -> list[float]:
    """Upper edges of the arms' intervals; the last arm that has weight reaches to 1 whatever the rounding."""
    names = [name for name, _ in weights]
    if len(set(names)) != len(names):
        raise ExperimentError(f"weights: an arm is named twice in {names}; name each arm once")
    if any(not 0.0 <= weight <= 1.0 for _, weight in weights):
        raise ExperimentError(f"weights: each must lie in 0..1, got {dict(weights)}")
    total = sum(weight for _, weight in weights)
    if abs(total - 1.0) > _WEIGHT_TOLERANCE:
        raise ExperimentError(f"weights: must sum to 1 (100 %), got {total:.9g} from {dict(weights)}")
    edges: list[float] = []
    running = 0.0
    for _, weight in weights:
        running += weight
        edges.append(running)
    last = max(index for index, (_, weight) in enumerate(weights) if weight > 0.0)
    return [*edges[:last], *([1.0] * (len(edges) - last))]
