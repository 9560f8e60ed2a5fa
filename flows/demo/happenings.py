"""What else happens to the demonstration's customers: visits, answers to surveys, complaints and their end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.demo.purchases import Buyers, Instants, Rows

VISIT_DAYS, VISITS_PER_PURCHASE, STRAY_VISITS = 180, 1.6, 0.3
NPS_ANSWERED, COMPLAINED, RESOLVED = 0.05, 0.012, 0.88
COMPLAINT_LAG_DAYS, RESOLUTION_DAYS = 6.0, 4.0
PAGES = ("home", "new", "offers", "account", "coffee", "kitchen", "garden")
NPS_WEIGHTS = np.array([2, 1, 1, 2, 2, 4, 6, 14, 22, 22, 24]) / 100
DAY_S = 86_400


@dataclass(frozen=True)
class Happenings:
    """One entry per event: the customer's row, instant, kind, value (nan where there is none) and properties (JSON)."""

    customer: Rows
    at: Instants
    event: NDArray[np.str_]
    value: NDArray[np.float64]
    properties: NDArray[np.str_]


def make_happenings(
    buyers: Buyers, bought_by: Rows, bought_at: Instants, until: np.datetime64, rng: np.random.Generator
) -> Happenings:
    """All events before `until`, ascending in time; surveys and complaints follow purchases."""
    parts = [_visits(buyers, until, rng), _surveys(bought_by, bought_at, rng), *_complaints(bought_by, bought_at, rng)]
    columns = [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]
    customer, at, event, value, properties = columns
    past = np.flatnonzero(at < until)
    order = past[np.lexsort((customer[past], at[past]))]
    return Happenings(customer[order], at[order], event[order], value[order], properties[order])


Part = tuple[Rows, Instants, NDArray[np.str_], NDArray[np.float64], NDArray[np.str_]]


def _visits(buyers: Buyers, until: np.datetime64, rng: np.random.Generator) -> Part:
    expected = np.where(buyers.alive, buyers.rate * VISIT_DAYS * VISITS_PER_PURCHASE, STRAY_VISITS)
    counts = rng.poisson(expected)
    customer = np.repeat(np.arange(counts.size), counts)
    n = customer.size
    ago_s = 1 + (rng.random(n) * VISIT_DAYS * DAY_S).astype(np.int64)
    page = np.array([f'{{"page": "{page}"}}' for page in PAGES])[rng.integers(len(PAGES), size=n)]
    return customer, until - ago_s.astype("timedelta64[s]"), np.full(n, "visit"), np.full(n, np.nan), page


def _surveys(bought_by: Rows, bought_at: Instants, rng: np.random.Generator) -> Part:
    asked = np.flatnonzero(rng.random(bought_by.size) < NPS_ANSWERED)
    score = np.searchsorted(np.cumsum(NPS_WEIGHTS), rng.random(asked.size), side="right").clip(0, 10)
    at = bought_at[asked] + _seconds(1 + 6 * rng.random(asked.size))
    return bought_by[asked], at, np.full(asked.size, "nps"), score.astype(np.float64), np.full(asked.size, "")


def _complaints(bought_by: Rows, bought_at: Instants, rng: np.random.Generator) -> tuple[Part, Part]:
    angry = np.flatnonzero(rng.random(bought_by.size) < COMPLAINED)
    who, opened = bought_by[angry], bought_at[angry] + _seconds(rng.exponential(COMPLAINT_LAG_DAYS, size=angry.size))
    settled = np.flatnonzero(rng.random(angry.size) < RESOLVED)
    resolved = opened[settled] + _seconds(0.2 + rng.exponential(RESOLUTION_DAYS, size=settled.size))
    return _plain(who, opened, "complaint_opened"), _plain(who[settled], resolved, "complaint_resolved")


def _plain(customer: Rows, at: Instants, event: str) -> Part:
    n = customer.size
    return customer, at, np.full(n, event), np.full(n, np.nan), np.full(n, "")


def _seconds(days: NDArray[np.float64]) -> NDArray[np.timedelta64]:
    return (days * DAY_S).astype("timedelta64[s]")
