"""Pace: how fast an account may be used, when it rests, and when a message that was refused is tried again.

Nothing here waits or looks at a clock: instants come in as seconds of any steadily rising clock, waits go out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final, Literal

from channels.provider import Outcome

BACKOFF_CAP_S: Final = 300.0

BURST_S: Final = 0.05
"""An idle account saves up tokens for so long, and no longer."""


@dataclass(slots=True)
class TokenBucket:
    """Reservations at `rate_per_s`, with bursts of at most a twentieth of a second's worth (or one reservation).

    An SMS weighs its segments. A bucket may be owed to: whoever reserves is told how long to wait, and the next one
    waits behind. `pause` holds everybody, as a Retry-After asks. `free_at_s` is all it has to remember.
    """

    rate_per_s: float
    free_at_s: float = float("-inf")

    def __post_init__(self) -> None:
        if not self.rate_per_s > 0:
            raise ValueError(f"a rate is above 0 per second, got {self.rate_per_s}")

    def reserve(self, weight: float, *, now_s: float) -> float:
        """Take `weight` tokens and give the seconds to wait before they may be used."""
        start = max(self.free_at_s, now_s - BURST_S)
        self.free_at_s = start + weight / self.rate_per_s
        return max(0.0, start - now_s)

    def pause(self, seconds: float, *, now_s: float) -> None:
        """Let nobody through before `seconds` from now."""
        self.free_at_s = max(self.free_at_s, now_s + seconds)


BreakerState = Literal["closed", "open", "probing"]


@dataclass(slots=True)
class Breaker:
    """Stops sending through an account that does not work, and tries it again with one probe at a time.

    It opens when at least half of the last `window` attempts (and at least `least` of them) were transient or unknown,
    or at once when told to `trip`. After `rest_s` one caller is let through; its success closes the breaker, its
    failure opens it for another rest, each twice as long, up to `longest_rest_s`. A probe that is never heard of again
    makes room for the next after as long a rest. The fields below `longest_rest_s` are all it has to remember.
    """

    window: int = 50
    least: int = 20
    rest_s: float = 30.0
    longest_rest_s: float = 600.0
    reason: str | None = None
    recent: list[bool] = field(default_factory=list)
    """Whether each of the last attempts failed, oldest first."""
    opened_at_s: float | None = None
    rests: int = 0
    probe: str | None = None
    """Who is trying the account."""

    @property
    def state(self) -> BreakerState:
        """closed: send; open: do not; probing: one caller is trying."""
        if self.opened_at_s is None:
            return "closed"
        return "open" if self.probe is None else "probing"

    @property
    def is_settled(self) -> bool:
        """Whether more success would teach it nothing."""
        return self.state == "closed" and len(self.recent) >= self.window and not any(self.recent)

    def may_ask(self, *, now_s: float) -> bool:
        """Whether `admits` would let somebody through now."""
        return self.opened_at_s is None or now_s >= self.opened_at_s + self._rest()

    def admits(self, *, now_s: float, who: str = "") -> bool:
        """Whether the caller may send; while open, one caller gets True when the rest is over and must `record`."""
        if not self.may_ask(now_s=now_s):
            return False
        if self.opened_at_s is not None:
            self.probe, self.opened_at_s = who, now_s
        return True

    def record(self, outcome: Outcome, *, now_s: float, who: str = "") -> None:
        """Learn from an attempt of the caller: accepted and permanent say that the account works."""
        failed = outcome in ("transient", "unknown")
        if self.opened_at_s is not None:
            if self.probe == who and not failed:
                self._close()
            elif self.probe == who:
                self._open(self.reason or "the probe failed", now_s)
            return
        self.recent = [*self.recent, failed][-self.window :]
        if len(self.recent) >= self.least and 2 * sum(self.recent) >= len(self.recent):
            self._open(f"{sum(self.recent)} of the last {len(self.recent)} attempts failed", now_s)

    def trip(self, reason: str, *, now_s: float, who: str = "") -> None:
        """Open at once, as for a refused password; where it is open, only the probe's news makes the rest longer."""
        if self.opened_at_s is None or self.probe == who:
            self._open(reason, now_s)

    def _open(self, reason: str, now_s: float) -> None:
        self.rests += 1
        self.opened_at_s, self.probe, self.reason = now_s, None, reason
        self.recent = []

    def _close(self) -> None:
        self.opened_at_s, self.probe, self.reason, self.rests = None, None, None, 0

    def _rest(self) -> float:
        return float(min(self.longest_rest_s, self.rest_s * 2 ** min(max(self.rests - 1, 0), 30)))


def backoff_s(attempt: int, *, rng: random.Random, base_s: float = 1.0, retry_after_s: float | None = None) -> float:
    """Seconds until a message that was refused for the `attempt`-th time (from 1) is tried again.

    Full jitter: uniform between 0 and min(cap, base * 2^attempt); what the provider asked for is a floor, with up to a
    fifth on top so that the callers do not come back together.
    """
    jittered = rng.uniform(0.0, min(BACKOFF_CAP_S, base_s * 2.0 ** min(attempt, 30)))
    floor = 0.0 if retry_after_s is None else retry_after_s * rng.uniform(1.0, 1.2)
    return max(jittered, floor)
