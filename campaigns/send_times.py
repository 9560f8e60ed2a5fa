"""When each step may leave: the slots of every arm's steps, computed once per set of time zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from campaigns.timing import Slot, Window, candidate_zones, next_slot

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StepTiming:
    """When a step may leave: `after` the step before it (the first: after assignment), inside `window`."""

    after: timedelta
    window: Window
    if_late: str
    max_lateness: timedelta


@dataclass(frozen=True, slots=True)
class SendTime:
    """One step's moment in one set of zones: claimable in [not_before, closes_at), dead at `expires_at`."""

    not_before: datetime
    closes_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Zones:
    """The candidate zones of n customers: `codes` index into `levels`; `sources` counts where they came from."""

    levels: tuple[tuple[str, ...], ...]
    codes: NDArray[np.intp]
    sources: Mapping[str, int]


def resolve_zones(candidates: pd.DataFrame, *, default: str | None) -> Zones:
    """The zones in which each candidate may live: the profile's, else all of the country's, else the company's own.

    Without any of these the set is empty, and an empty set never receives a message.
    """
    import pandas as pd

    zone_of, country_of = (
        candidates[c].astype("str").where(candidates[c].notna(), "") for c in ("time_zone", "country")
    )
    numbers, keys = pd.factorize(zone_of + "\0" + country_of)
    counts = np.bincount(numbers, minlength=len(keys))
    levels: list[tuple[str, ...]] = []
    sources = {"profile": 0, "country": 0, "default": 0, "unknown": 0}
    for key, count in zip(keys, counts, strict=True):
        zone, country = str(key).split("\0")
        found = candidate_zones(zone or None, country or None)
        source = "profile" if found == (zone,) else "country" if found else "default" if default else "unknown"
        levels.append(found or ((default,) if default else ()))
        sources[source] += int(count)
    return Zones(tuple(levels), np.asarray(numbers, dtype=np.intp), sources)


def plan_send_times(
    steps: Sequence[StepTiming],
    zones: Sequence[str],
    *,
    as_of: datetime,
    quiet: Window | None,
    offer_ends_at: datetime | None,
) -> tuple[SendTime, ...] | None:
    """The send time of each step in `zones`, or None where some step has no permitted moment.

    A step's delay runs from the moment the step before it may leave. A message never outlives its offer.
    """
    times: list[SendTime] = []
    at = as_of
    for step in steps:
        slot = next_slot(step.window, zones, at=at + step.after, quiet=quiet) if zones else None
        if slot is None or (offer_ends_at is not None and slot.opens_at >= offer_ends_at):
            return None
        times.append(_bounded(step, slot, offer_ends_at))
        at = slot.opens_at
    return tuple(times)


def _bounded(step: StepTiming, slot: Slot, offer_ends_at: datetime | None) -> SendTime:
    expires_at = slot.closes_at if step.if_late == "skip" else max(slot.closes_at, slot.opens_at + step.max_lateness)
    if offer_ends_at is not None:
        expires_at = min(expires_at, offer_ends_at)
    return SendTime(slot.opens_at, min(slot.closes_at, expires_at), expires_at)
