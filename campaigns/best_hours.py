"""Each customer's best hour on a channel: learned from what they opened, clicked, bought and visited, and when.

All hours are those of the customer's own clock at the moment of the deed: who clicks at eight does so in summer and in
winter, though by UTC these are two hours. A customer of whom nothing is known gets the hour most others have (the
crowd's); where there is no crowd either, any hour of the window. A share chosen by hash explores: its members get any
hour, so that other hours are learned too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
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
_DAY: Final = timedelta(days=1)
_KERNEL: Final = (0.25, 0.5, 0.25)  # the hour before and after count half: 8:59 and 9:01 are neighbours


def column_of(channel: str) -> str:
    """The column of the candidates that holds the best local hour on a channel (missing: not known)."""
    return f"best_hour_{channel}"


def same_clocks(zones: Zones, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Split the time from `since` to `until` where some customers' clocks change, to the day."""
    names = sorted(set(_clocks(zones)))
    begins, now = since, [utc_offset(name, since) for name in names]
    for day in range(1, (until - since) // _DAY + 1):
        at = since + day * _DAY
        offsets = [utc_offset(name, at) for name in names]
        if offsets != now:
            yield begins, at
            begins, now = at, offsets
    if begins < until:
        yield begins, until


def local_hours(
    utc_hours: NDArray[np.float64], rows: NDArray[np.intp], zones: Zones, *, at: datetime
) -> NDArray[np.float64]:
    """The local hours (0 to 23, nan stays) at which most of these hours of UTC fall for the customers in `rows`."""
    ahead = np.array([utc_offset(name, at) / timedelta(hours=1) for name in _clocks(zones)] or [0.0])
    # an hour of UTC goes to the local hour of its middle: 5:45 ahead, 8 to 9 o'clock is 13:45 to 14:45
    found: NDArray[np.float64] = np.floor(utc_hours + 0.5 + ahead[zones.codes[rows]]) % 24
    return found


def _clocks(zones: Zones) -> list[str]:
    """The clock of each level; where several zones are possible their first."""
    return [level.zones[0] if level.zones else "UTC" for level in zones.levels]


def learn_hours(customer_ids: Sequence[str], habits: NDArray[np.float64], deeds: pd.DataFrame) -> NDArray[np.float64]:
    """The best local hour of each customer (0 to 23, nan where nothing is known), in the given order.

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
    *,
    salt: str,
) -> list[NDArray[np.int64]]:
    """The local hour of every candidate for each step (0 to 23); ANY_HOUR for who explores, and without best_hour."""
    anywhere = np.full(len(candidates), ANY_HOUR, dtype=np.int64)
    if not any(step.at == "best_hour" for step in steps):
        return [anywhere] * len(steps)
    local = {name: _known_hours(candidates, name) for name in ("sms", "email", "push")}
    draw = np.asarray(fractions(f"{salt}.explore", candidates["customer_id"].tolist()))
    found = []
    for step, channel in zip(steps, channels, strict=True):
        hours = np.select([channel == name for name in local], list(local.values()), default=ANY_HOUR)
        hours = np.where(draw < step.explore, ANY_HOUR, hours)
        found.append(hours.astype(np.int64) if step.at == "best_hour" else anywhere)
    return found


def _known_hours(candidates: pd.DataFrame, channel: str) -> NDArray[np.int64]:
    """Everybody's hour on a channel: their own, else the crowd's; ANY_HOUR where neither is known."""
    import pandas as pd

    n = len(candidates)
    column = column_of(channel)
    known = pd.to_numeric(candidates[column]).to_numpy(dtype=float) if column in candidates else np.full(n, np.nan)
    own = ~np.isnan(known)
    hours = np.full(n, ANY_HOUR, dtype=np.int64)
    hours[own] = known[own].astype(np.int64)
    if own.sum() >= CROWD:
        hours[~own] = int(np.argmax(np.bincount(hours[own], minlength=24)))
    return hours
