"""Pace: how fast an account may be used, when it rests, and when a message that was refused is tried again.

Nothing here waits or looks at a clock: instants come in as seconds of any steadily rising clock, waits go out.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

from channels.provider import Outcome

BACKOFF_CAP_S: Final = 300.0


@dataclass(slots=True)
class TokenBucket:
    """Reservations at `rate_per_s`, with bursts of at most a twentieth of a second's worth (or one reservation).

    An SMS weighs its segments. A bucket may be owed to: whoever reserves is told how long to wait, and the next one
    waits behind. `pause` holds everybody, as a Retry-After asks.
    """

    rate_per_s: float
    _free_at_s: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        if not self.rate_per_s > 0:
            raise ValueError(f"a rate is above 0 per second, got {self.rate_per_s}")

    def reserve(self, weight: float, *, now_s: float) -> float:
        """Take `weight` tokens and give the seconds to wait before they may be used."""
        burst_s = 0.05
        start = max(self._free_at_s, now_s - burst_s)
        self._free_at_s = start + weight / self.rate_per_s
        return max(0.0, start - now_s)

    def pause(self, seconds: float, *, now_s: float) -> None:
        """Let nobody through before `seconds` from now."""
        self._free_at_s = max(self._free_at_s, now_s + seconds)


BreakerState = Literal["closed", "open", "probing"]


@dataclass(slots=True)
class Breaker:
    """Stops sending through an account that does not work, and tries it again with one probe at a time.

    It opens when at least half of the last `window` attempts (and at least `least` of them) were transient or unknown,
    or at once when told to `trip`. After `rest_s` one caller is let through; its success closes the breaker, its
    failure opens it for another rest, each twice as long, up to `longest_rest_s`. A probe that is never heard of again
    makes room for the next after as long a rest.
    """

    window: int = 50
    least: int = 20
    rest_s: float = 30.0
    longest_rest_s: float = 600.0
    reason: str | None = field(default=None, init=False)
    _recent: deque[bool] = field(default_factory=deque, init=False)
    _opened_at_s: float | None = field(default=None, init=False)
    _rests: int = field(default=0, init=False)
    _probing: bool = field(default=False, init=False)

    @property
    def state(self) -> BreakerState:
        """closed: send; open: do not; probing: one caller is trying."""
        if self._opened_at_s is None:
            return "closed"
        return "probing" if self._probing else "open"

    def admits(self, *, now_s: float) -> bool:
        """Whether the caller may send; while open, one caller gets True when the rest is over and must `record`."""
        if self._opened_at_s is None:
            return True
        if now_s < self._opened_at_s + self._rest():
            return False
        self._probing, self._opened_at_s = True, now_s
        return True

    def record(self, outcome: Outcome, *, now_s: float) -> None:
        """Learn from an attempt: accepted and permanent say that the account works."""
        failed = outcome in ("transient", "unknown")
        if self._opened_at_s is not None:
            if self._probing and not failed:
                self._close()
            elif self._probing:
                self._open(self.reason or "the probe failed", now_s)
            return
        self._recent.append(failed)
        while len(self._recent) > self.window:
            self._recent.popleft()
        if len(self._recent) >= self.least and 2 * sum(self._recent) >= len(self._recent):
            self._open(f"{sum(self._recent)} of the last {len(self._recent)} attempts failed", now_s)

    def trip(self, reason: str, *, now_s: float) -> None:
        """Open at once, as for a refused password."""
        self._open(reason, now_s)

    def _open(self, reason: str, now_s: float) -> None:
        self._rests += 1
        self._opened_at_s, self._probing, self.reason = now_s, False, reason
        self._recent.clear()

    def _close(self) -> None:
        self._opened_at_s, self._probing, self.reason, self._rests = None, False, None, 0

    def _rest(self) -> float:
        return float(min(self.longest_rest_s, self.rest_s * 2 ** max(self._rests - 1, 0)))


def backoff_s(attempt: int, *, rng: random.Random, base_s: float = 1.0, retry_after_s: float | None = None) -> float:
    """Seconds until a message that was refused for the `attempt`-th time (from 1) is tried again.

    Full jitter: uniform between 0 and min(cap, base * 2^attempt); what the provider asked for is a floor, with up to a
    fifth on top so that the callers do not come back together.
    """
    jittered = rng.uniform(0.0, min(BACKOFF_CAP_S, base_s * 2.0 ** min(attempt, 30)))
    floor = 0.0 if retry_after_s is None else retry_after_s * rng.uniform(1.0, 1.2)
    return max(jittered, floor)
