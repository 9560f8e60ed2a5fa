"""The draw: units of customers or households, their arms, and who stays in control from one epoch to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from campaigns.words import CONTROL
from experiments.assign import draw_arms, fractions

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Before = Mapping[str, tuple[bool, float]]
"""Customer -> whether the last draw of an earlier epoch gave control, and what share control had in that draw."""

RETURNING: Final = "returning"
"""The stratum of those who were not drawn freely, because an earlier draw counts; the check of the split skips them."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """`arms`: one a row. `returning`: whether an earlier epoch's draw counted."""

    arms: NDArray[np.object_]
    returning: NDArray[np.bool_]


def units_of(candidates: pd.DataFrame, unit: str) -> NDArray[np.object_]:
    """What is drawn for each candidate: the customer, or the household; who has none is a household alone.

    Households and customers without one cannot be taken for each other, whatever their ids.
    """
    ids = candidates["customer_id"].to_numpy(dtype=object)
    if unit == "customer":
        return ids
    named = candidates["household_id"].astype("object").fillna("").astype(str).to_numpy(dtype=object)
    return np.where(named != "", "h:" + named, "c:" + ids)


def households_of(units: NDArray[np.object_]) -> NDArray[np.object_]:
    """The units that are households; None for a customer alone, whose id the ledger has already."""
    return np.array([unit if unit.startswith("h:") else None for unit in units], dtype=object)


def draw(
    units: NDArray[np.object_],
    ids: NDArray[np.object_],
    *,
    salt: str,
    weights: Sequence[tuple[str, float]],
    before: Before,
    holdback_salt: str,
) -> Drawn:
    """The arm of every row: one arm a unit, by the hash of the unit.

    Whoever was in control when an earlier epoch was drawn stays there, as far as control's share reaches: of a larger
    former control a part goes on, drawn by a hash of its own that never changes; of a smaller one everybody, and others
    join them. Shares come out as `weights` says either way. The rest is drawn anew among the arms.
    """
    arms = np.asarray(draw_arms(units.tolist(), salt=salt, weights=weights), dtype=object)
    earlier = _by_unit(units, ids, before)
    returning = np.array([unit in earlier for unit in units], dtype=bool)
    rows = np.flatnonzero(returning)
    if not len(rows):
        return Drawn(arms, returning)
    share = dict(weights)[CONTROL]
    stays = fractions(holdback_salt, units[rows].tolist()) < np.array(
        [_control_chance(*earlier[unit], share) for unit in units[rows]]
    )
    arms[rows] = np.where(stays, CONTROL, _among_arms(units[rows], salt, weights))
    return Drawn(arms, returning)


def withheld_arms(
    units: NDArray[np.object_], *, salt: str, weights: Sequence[tuple[str, float]]
) -> NDArray[np.object_]:
    """The arm each unit of control would have had, if there were no control: whose messages it would have been sent."""
    return _among_arms(units, f"{salt}.withheld", weights)


def _among_arms(units: NDArray[np.object_], salt: str, weights: Sequence[tuple[str, float]]) -> NDArray[np.object_]:
    sending = [(name, share) for name, share in weights if name != CONTROL]
    total = sum(share for _, share in sending)
    if total <= 0.0:
        return np.full(len(units), CONTROL, dtype=object)
    scaled = [(name, share / total) for name, share in sending]
    return np.asarray(draw_arms(units.tolist(), salt=salt, weights=scaled), dtype=object)


def _by_unit(units: NDArray[np.object_], ids: NDArray[np.object_], before: Before) -> dict[str, tuple[bool, float]]:
    """The earlier draw of each unit; a household with one member in control was in control."""
    found: dict[str, tuple[bool, float]] = {}
    if not before:
        return found
    for unit, customer in zip(units.tolist(), ids.tolist(), strict=True):
        earlier = before.get(customer)
        if earlier is not None and (unit not in found or earlier[0]):
            found[unit] = earlier
    return found


def _control_chance(was_control: bool, share_then: float, share: float) -> float:
    """The chance to be in control now that makes it `share` over all, however large control was then."""
    if was_control:
        return min(1.0, share / share_then) if share_then > 0.0 else 1.0
    return max(0.0, (share - share_then) / (1.0 - share_then)) if share_then < 1.0 else 0.0
