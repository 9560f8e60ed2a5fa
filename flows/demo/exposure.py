"""What a campaign did to the customers of the demonstration: who was assigned to what, and which messages left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.demo.purchases import Flags, Instants, Rows
from flows.demo.world import World, to_second

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Exposure:
    """Who was assigned to which arm at one instant, and which messages really left.

    assigned: columns customer_id, arm. sent: columns customer_id, channel, sent_at (aware); optionally code, the
    customer's own discount code. Of several messages to a customer the first one counts. horizon: the outcome window.
    """

    assigned: pd.DataFrame
    sent: pd.DataFrame
    assigned_at: datetime
    horizon: timedelta
    control: str = "control"


@dataclass(frozen=True)
class Seen:
    """An exposure from the customers' side; the arrays have one entry per customer of the world.

    arm: index into `arms`, -1 where not assigned. sent_at: NaT, channel and code: "" where nothing arrived between
    `start` (the assignment) and `end` (the end of the horizon).
    """

    ids: NDArray[np.str_]
    arms: tuple[str, ...]
    arm: Rows
    start: np.datetime64
    end: np.datetime64
    sent_at: Instants
    channel: NDArray[np.str_]
    code: NDArray[np.str_]

    @property
    def reached(self) -> Flags:
        """Who was assigned and received a message."""
        reached: Flags = ~np.isnat(self.sent_at) & (self.arm >= 0)
        return reached


def look_at(world: World, exposure: Exposure) -> Seen:
    """The exposure in the order of the world's customers.

    Raises ValueError for a customer the world does not hold, one assigned twice, or an assignment before the world's
    instant.
    """
    start = to_second(exposure.assigned_at)
    if start < to_second(world.as_of):
        raise ValueError(f"assigned_at: {start} lies before the world's instant {to_second(world.as_of)}")
    end = start + np.timedelta64(int(exposure.horizon.total_seconds()), "s")
    ids = world.customers["customer_id"].to_numpy(dtype=np.str_)
    arms = tuple(dict.fromkeys(exposure.assigned["arm"]))
    arm = np.full(ids.size, -1, dtype=np.int64)
    rows = _rows(world, exposure.assigned, "assigned")
    if np.unique(rows).size != rows.size:
        raise ValueError("assigned: a customer stands there twice; an assignment happens once")
    arm[rows] = exposure.assigned["arm"].map({name: i for i, name in enumerate(arms)}).to_numpy(dtype=np.int64)
    sent_at, channel, code = _first_messages(world, exposure.sent, (start, end))
    return Seen(ids, arms, arm, start, end, sent_at, channel, code)


def _first_messages(
    world: World, sent: pd.DataFrame, window: tuple[np.datetime64, np.datetime64]
) -> tuple[Instants, NDArray[np.str_], NDArray[np.str_]]:
    n = len(world.customers)
    sent_at = np.full(n, np.datetime64("NaT"), dtype="datetime64[s]")
    channel, code = np.zeros(n, dtype="U8"), np.zeros(n, dtype="U64")
    at = _instants(sent)
    in_time = np.flatnonzero((at >= window[0]) & (at < window[1]))
    latest_first = in_time[np.argsort(at[in_time], kind="stable")[::-1]]
    rows = _rows(world, sent, "sent")[latest_first]
    sent_at[rows] = at[latest_first]
    channel[rows] = sent["channel"].to_numpy(dtype=np.str_)[latest_first]
    if "code" in sent:
        code[rows] = sent["code"].fillna("").to_numpy(dtype=np.str_)[latest_first]
    return sent_at, channel, code


def _instants(sent: pd.DataFrame) -> Instants:
    import pandas as pd

    aware = pd.to_datetime(sent["sent_at"], utc=True)
    instants: Instants = aware.dt.tz_localize(None).to_numpy(dtype="datetime64[s]")
    return instants


def _rows(world: World, frame: pd.DataFrame, name: str) -> Rows:
    import pandas as pd

    rows: Rows = pd.Index(world.customers["customer_id"]).get_indexer(pd.Index(frame["customer_id"])).astype(np.int64)
    if (rows < 0).any():
        stranger = frame["customer_id"].to_numpy()[rows < 0][0]
        raise ValueError(f"{name}: {int((rows < 0).sum())} customers are not of this world, first {stranger!r}")
    return rows
