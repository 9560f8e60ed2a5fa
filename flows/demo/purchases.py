"""How the demonstration's customers buy: a BG/NBD process in a time that runs faster in high season.

While alive a customer buys as a Poisson process with a rate of their own (Gamma over customers); after each purchase
they leave for good with a probability of their own (Beta over customers). The season stretches time: the process is
homogeneous in the shop's own time, so that its distributions stay known exactly in every window of the calendar.

Source: Fader, Hardie and Lee 2005, "Counting Your Customers" the Easy Way, Marketing Science 24(2), assumptions i-v.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]
Instants = NDArray[np.datetime64]

RATE_SHAPE, RATE_SCALE_DAYS = 1.5, 115.0
DROPOUT_A, DROPOUT_B = 0.8, 3.1
NEVER_BOUGHT = 0.03
HISTORY_DAYS = 912
GROWTH = 0.85
AHEAD_DAYS = 800
HOURS = (
    0.3,
    0.15,
    0.1,
    0.1,
    0.1,
    0.2,
    0.5,
    0.8,
    1.0,
    1.2,
    1.3,
    1.3,
    1.4,
    1.3,
    1.2,
    1.2,
    1.3,
    1.5,
    1.8,
    2.0,
    2.0,
    1.7,
    1.1,
    0.45,
)
WEEKDAYS = (0.94, 0.92, 0.95, 0.98, 1.06, 1.1, 1.05)
MONTHS = (0.94, 0.92, 0.97, 0.98, 1.0, 0.97, 0.94, 0.92, 0.98, 1.02, 1.18, 1.22)
DAY = np.timedelta64(1, "D")
HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True)
class ShopTime:
    """The shop's own time: days of average business since the start of history, a monotone map of the calendar."""

    origin: np.datetime64
    elapsed: Floats

    @classmethod
    def until(cls, as_of: datetime) -> ShopTime:
        """Covers the history before `as_of` and AHEAD_DAYS after it."""
        last = np.datetime64(as_of.astimezone(UTC).replace(tzinfo=None), "D")
        origin = last - HISTORY_DAYS * DAY
        days = origin + np.arange(HISTORY_DAYS + AHEAD_DAYS)
        months = days.astype("datetime64[M]").astype(np.int64) % 12
        weekdays = (days.astype(np.int64) + 3) % 7
        pace = np.outer(np.array(MONTHS)[months] * np.array(WEEKDAYS)[weekdays], np.array(HOURS) / sum(HOURS))
        return cls(origin.astype("datetime64[s]"), np.concatenate([[0.0], np.cumsum(pace)]))

    def of(self, at: Instants | np.datetime64) -> Floats:
        """Shop time of calendar instants."""
        hours = (np.asarray(at, dtype="datetime64[s]") - self.origin) / HOUR
        return np.interp(hours, np.arange(self.elapsed.size), self.elapsed)

    def calendar(self, shop_days: Floats) -> Instants:
        """Calendar instants (whole seconds, UTC) of shop times."""
        hours = np.interp(shop_days, self.elapsed, np.arange(self.elapsed.size))
        return self.origin + (hours * 3600).astype("timedelta64[s]")


@dataclass(frozen=True)
class Buyers:
    """What nobody sees: each customer's rate (purchases per shop day while alive), dropout per purchase, alive now."""

    rate: Floats
    dropout: Floats
    alive: Flags

    def chance_of_purchase(self, shop_days: float, *, wait: float = 0.0) -> Floats:
        """P(any purchase in the `shop_days` that begin after another `wait` shop days), exact, per customer.

        Alive and still so after the wait, exp(-dropout x rate x wait), then not idle, 1 - exp(-rate x days).
        """
        stays = np.exp(-self.dropout * self.rate * wait)
        chance: Floats = np.where(self.alive, -stays * np.expm1(-self.rate * shop_days), 0.0)
        return chance


@dataclass(frozen=True)
class Purchases:
    """Purchases in order of customer and time: the customer's row, the shop time, and the serial number within them."""

    customer: Rows
    shop_time: Floats
    serial: Rows


def make_history(n: int, until: float, rng: np.random.Generator) -> tuple[Floats, Buyers, Purchases]:
    """Arrivals (shop time, ascending), the customers as they are at shop time `until`, and their purchases."""
    arrived = np.sort(until * rng.random(n) ** GROWTH)
    rate = rng.gamma(RATE_SHAPE, 1.0 / RATE_SCALE_DAYS, size=n)
    dropout = rng.beta(DROPOUT_A, DROPOUT_B, size=n)
    first = arrived + rng.exponential(1.5, size=n)
    bought = (first < until) & (rng.random(n) >= NEVER_BOUGHT)
    alive = bought & (rng.random(n) >= dropout)
    rows = np.flatnonzero(bought)
    later = _go_on(Buyers(rate, dropout, alive), first.copy(), until, rng, rows)
    customer = np.concatenate([rows, later.customer])
    shop_time = np.concatenate([first[rows], later.shop_time])
    return arrived, Buyers(rate, dropout, alive), in_order(customer, shop_time)


def go_on(buyers: Buyers, start: float, until: float, rng: np.random.Generator) -> Purchases:
    """What the customers buy by themselves in shop time [start, until); `buyers.alive` must hold as of `start`.

    The exponential has no memory, so that nothing but the state at `start` matters. The state is not changed.
    """
    rows = np.arange(buyers.rate.size)
    state = Buyers(buyers.rate, buyers.dropout, buyers.alive.copy())
    found = _go_on(state, np.full(rows.size, start), until, rng, rows)
    return in_order(found.customer, found.shop_time)


def in_order(customer: Rows, shop_time: Floats) -> Purchases:
    """Purchases sorted by customer and time, numbered from 1 within each customer."""
    order = np.lexsort((shop_time, customer))
    customer, shop_time = customer[order], shop_time[order]
    starts = np.flatnonzero(np.diff(customer, prepend=-1))
    lengths = np.diff(np.append(starts, customer.size))
    serial = np.arange(customer.size) - np.repeat(starts, lengths) + 1
    return Purchases(customer, shop_time, serial)


def _go_on(state: Buyers, since: Floats, until: float, rng: np.random.Generator, rows: Rows) -> Purchases:
    """Every living customer's next purchase, round after round, until nobody buys before `until`; marks who left."""
    at = since.copy()
    found_rows: list[Rows] = []
    found_times: list[Floats] = []
    rows = rows[state.alive[rows]]
    while rows.size:
        at[rows] += rng.exponential(size=rows.size) / state.rate[rows]
        rows = rows[at[rows] < until]
        found_rows.append(rows)
        found_times.append(at[rows].copy())
        left = rng.random(rows.size) < state.dropout[rows]
        state.alive[rows[left]] = False
        rows = rows[~left]
    if not found_rows:
        return Purchases(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    customer = np.concatenate(found_rows)
    return Purchases(customer, np.concatenate(found_times), np.zeros(customer.size, np.int64))
