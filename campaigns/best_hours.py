"""Each customer's best hour on a channel: learned from what they opened, clicked, bought and visited, and when.

What is known is kept in hours of UTC and turned into the customer's local hour when a run is planned. A customer of
whom nothing is known gets the hour most others have (the crowd's); where there is no crowd either, any hour of the
window. A share chosen by hash explores: its members get any hour, so that other hours are learned too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from campaigns.send_times import ANY_HOUR, StepTiming
from campaigns.timing import utc_offset
from campaigns.whereabouts import Zones
from experiments.assign import fractions

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

CROWD: Final = 20
"""So many customers must have an hour of their own before theirs is taken for the crowd's."""
WEIGHTS: Final[Mapping[str, float]] = {"click": 3.0, "open": 1.0, "habit": 1.0}
"""What one click, one open, and the hour of most purchases and visits count."""
_KERNEL: Final = (0.25, 0.5, 0.25)  # the hour before and after count half: 8:59 and 9:01 are neighbours


def column_of(channel: str) -> str:
    """The column of the candidates that holds the best hour of UTC on a channel (missing: not known)."""
    return f"best_hour_{channel}"


def learn_hours(customer_ids: Sequence[str], habits: NDArray[np.float64], deeds: pd.DataFrame) -> NDArray[np.float64]:
    """The best hour of UTC of each customer (0 to 23, nan where nothing is known), in the given order.

    `habits`: the hour of most purchases and visits (nan: none). `deeds`: customer_id, hour, kind ("open" or "click"),
    n: what the customer did with earlier messages of the channel. Neighbouring hours lend each other half their weight;
    of equals the earliest wins.
    """
    import pandas as pd

    scores = np.zeros((len(customer_ids), 24))
    known = np.flatnonzero(~np.isnan(habits))
    scores[known, habits[known].astype(np.intp) % 24] += WEIGHTS["habit"]
    rows = pd.Index(customer_ids).get_indexer(pd.Index(deeds["customer_id"]))
    ours = rows >= 0
    weights = deeds["kind"].map(dict(WEIGHTS)).to_numpy(dtype=float) * deeds["n"].to_numpy(dtype=float)
    np.add.at(scores, (rows[ours], deeds["hour"].to_numpy(dtype=np.intp)[ours] % 24), weights[ours])
    smooth = sum(share * np.roll(scores, shift, axis=1) for shift, share in zip((1, 0, -1), _KERNEL, strict=True))
    best: NDArray[np.float64] = np.argmax(np.asarray(smooth), axis=1).astype(np.float64)
    best[scores.sum(axis=1) == 0] = np.nan
    return best


def hours_at(
    steps: Sequence[StepTiming],
    channels: Sequence[NDArray[np.object_]],
    candidates: pd.DataFrame,
    zones: Zones,
    *,
    as_of: datetime,
    salt: str,
) -> list[NDArray[np.int64]]:
    """The local hour of every candidate for each step (0 to 23); ANY_HOUR for who explores, and without best_hour."""
    anywhere = np.full(len(candidates), ANY_HOUR, dtype=np.int64)
    if not any(step.at == "best_hour" for step in steps):
        return [anywhere] * len(steps)
    local = {name: _local_hours(candidates, name, zones, as_of) for name in ("sms", "email", "push")}
    draw = np.asarray(fractions(f"{salt}.explore", candidates["customer_id"].tolist()))
    found = []
    for step, channel in zip(steps, channels, strict=True):
        hours = np.select([channel == name for name in local], list(local.values()), default=ANY_HOUR)
        hours = np.where(draw < step.explore, ANY_HOUR, hours)
        found.append(hours.astype(np.int64) if step.at == "best_hour" else anywhere)
    return found


def _local_hours(candidates: pd.DataFrame, channel: str, zones: Zones, as_of: datetime) -> NDArray[np.int64]:
    """Everybody's local hour on a channel: their own, else the crowd's; ANY_HOUR where zone or hours are not known."""
    import pandas as pd

    n = len(candidates)
    column = column_of(channel)
    utc = pd.to_numeric(candidates[column]).to_numpy(dtype=float) if column in candidates else np.full(n, np.nan)
    clocks = [level.zones[0] if level.zones else "UTC" for level in zones.levels]
    offsets = [utc_offset(zone, as_of).total_seconds() // 3600 for zone in clocks]
    own = ~np.isnan(utc)
    hours = np.full(n, ANY_HOUR, dtype=np.int64)
    shifts = np.asarray(offsets or [0.0])[zones.codes]
    hours[own] = (utc[own] + shifts[own]).astype(np.int64) % 24
    if own.sum() >= CROWD:
        hours[~own] = int(np.argmax(np.bincount(hours[own], minlength=24)))
    return hours
