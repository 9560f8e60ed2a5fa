"""How fast a delivery run uses each channel's account, and when it leaves one alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from channels.message import Outgoing, Sms
from channels.pacing import Breaker, TokenBucket
from channels.provider import SendResult
from channels.sms_length import measure_sms

SLICE_S: Final = 1.0
"""A paced channel sends a second's worth at a time, so that pauses and suppressions bite in between."""


class Pace:
    """One token bucket and one breaker for each channel's account, as long as a delivery run or longer."""

    def __init__(
        self,
        rates: Mapping[str, float | None],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`rates`: channel -> messages a second (SMS: segments), None for no limit."""
        self._rates = dict(rates)
        self._buckets = {channel: TokenBucket(rate) for channel, rate in rates.items() if rate is not None}
        self._breakers = {channel: Breaker() for channel in rates}
        self._clock_s, self._sleep = clock_s, sleep

    def open_channels(self) -> tuple[str, ...]:
        """The channels whose accounts may be used now; one that rests is let in for a probe when its rest is over."""
        return tuple(c for c, breaker in self._breakers.items() if breaker.admits(now_s=self._clock_s()))

    def resting(self) -> dict[str, str]:
        """Channel -> why its account is left alone."""
        return {c: breaker.reason or "resting" for c, breaker in self._breakers.items() if breaker.state != "closed"}

    def slices(self, channel: str, messages: Sequence[Outgoing]) -> Iterator[tuple[list[Outgoing], float]]:
        """Messages in pieces that may be sent, each with the seconds waited for it; stops where the account must rest.

        While an account is on probation the first piece is one message. Call `learn` after each piece.
        """
        rest = list(messages)
        while rest and self._may_send(channel):
            piece = self._piece(channel, rest)
            rest = rest[len(piece) :]
            yield piece, self._wait(channel, piece)

    def learn(self, channel: str, results: Sequence[SendResult]) -> None:
        """Take in what the provider said: when to come back, and whether the account works."""
        now_s, breaker = self._clock_s(), self._breakers[channel]
        waits = [result.retry_after_s for result in results if result.retry_after_s is not None]
        if waits and channel in self._buckets:
            self._buckets[channel].pause(max(waits), now_s=now_s)
        failed = any(result.outcome in ("transient", "unknown") for result in results)
        # where all went well the breaker's window is all it can remember
        for result in results if failed else results[: breaker.window]:
            breaker.record(result.outcome, now_s=now_s)
        halted = next((result for result in results if result.action == "halt"), None)
        if halted is not None:
            breaker.trip(f"{halted.code}: {halted.reason}", now_s=now_s)

    def _may_send(self, channel: str) -> bool:
        return self._breakers[channel].state in ("closed", "probing")

    def _piece(self, channel: str, messages: Sequence[Outgoing]) -> list[Outgoing]:
        if self._breakers[channel].state == "probing":
            return [messages[0]]
        rate = self._rates[channel]
        if rate is None:
            return list(messages)
        piece: list[Outgoing] = []
        left = rate * SLICE_S
        for message in messages:
            left -= weight_of(message)
            if piece and left < 0:
                break
            piece.append(message)
        return piece

    def _wait(self, channel: str, piece: Sequence[Outgoing]) -> float:
        bucket = self._buckets.get(channel)
        if bucket is None:
            return 0.0
        wait_s = bucket.reserve(float(sum(map(weight_of, piece))), now_s=self._clock_s())
        if wait_s > 0:
            self._sleep(wait_s)
        return wait_s


def weight_of(message: Outgoing) -> int:
    """What a message takes of its account's rate: the segments of an SMS, 1 for anything else."""
    return measure_sms(message.content.body).segments if isinstance(message.content, Sms) else 1
