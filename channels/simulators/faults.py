"""Faults on request: which of a provider's bad days the next request meets, by seed, by number or by recipient."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from channels.simulators.http import Manner, Response


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request: whether the provider takes it, and what the caller sees (None: the true answer)."""

    accepts: bool
    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "whole"
    delay_s: float = 0.0
    callback_first: bool = False
    """The receipt of what was accepted arrives before the answer does."""

    def shape(self, truth: Response) -> Response:
        """The answer as the caller gets it."""
        shaped = replace(truth, manner=self.manner, delay_s=self.delay_s)
        if self.status is not None:
            shaped = replace(shaped, status=self.status, headers=self.headers)
        return shaped if self.body is None else replace(shaped, body=self.body)


FAULTS: Final[Mapping[str, Fault]] = {
    "too_many": Fault(
        False, 429, b'{"code": 20429, "message": "Too Many Requests", "status": 429}', {"Retry-After": "7"}
    ),
    "error_500": Fault(False, 500, b"{}"),
    "error_502_html": Fault(False, 502, b"<html>Bad Gateway</html>"),
    "error_503_accepted": Fault(True, 503, b"{}"),
    "unauthorised": Fault(False, 401, b'{"code": 20003, "message": "Authenticate", "status": 401}'),
    "hang_before": Fault(False, manner="hang"),
    "hang_accepted": Fault(True, manner="hang"),
    "reset_before": Fault(False, manner="reset"),
    "reset_accepted": Fault(True, manner="reset"),
    "closed_accepted": Fault(True, manner="fin"),
    "cut_accepted": Fault(True, manner="cut"),
    "html_accepted": Fault(True, 200, b"<html>OK</html>"),
    "empty_accepted": Fault(True, body=b""),
    "wrong_id_accepted": Fault(True, body=b'{"sid": "nobody\'s", "name": "nobody\'s"}'),
    "slow_drip": Fault(True, manner="drip"),
    "late_accepted": Fault(True, delay_s=1.5),
    "callback_first": Fault(True, callback_first=True),
    "callback_only": Fault(True, manner="reset", callback_first=True),
}


@dataclass
class FaultPlan:
    """Chooses the fault of each request; the same plan over the same requests chooses the same."""

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    """Fault -> its share of all requests."""
    by_number: Mapping[int, str] = field(default_factory=dict)
    """Number of the request, from 1 -> fault."""
    by_recipient: Mapping[str, str] = field(default_factory=dict)
    """Recipient -> fault, every time."""
    brown_outs: Mapping[int, int] = field(default_factory=dict)
    """First request -> how many: for so long every second one is too many, the others are accepted slowly."""

    def __post_init__(self) -> None:
        named = {*self.rates, *self.by_number.values(), *self.by_recipient.values()}
        if unknown := sorted(named - set(FAULTS)):
            raise ValueError(f"unknown faults {', '.join(unknown)}; there are {', '.join(sorted(FAULTS))}")
        self._rng = random.Random(self.seed)  # noqa: S311 (a repeatable trial, no secret)
        self._count = 0
        self.met: Counter[str] = Counter()
        """Fault -> how many requests met it."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> FaultPlan:
        """A plan as the control endpoint takes it."""
        by_number = {int(number): name for number, name in document.get("by_number", {}).items()}
        rates, by_recipient = dict(document.get("rates", {})), dict(document.get("by_recipient", {}))
        brown_outs = {int(first): int(many) for first, many in document.get("brown_outs", {}).items()}
        return cls(int(document.get("seed", 0)), rates, by_number, by_recipient, brown_outs)

    def choose(self, recipient: str) -> Fault | None:
        """The fault of the next request, or None for a good day."""
        name = self._draw(recipient)
        if name is None:
            return None
        self.met[name] += 1
        return FAULTS[name]

    def _draw(self, recipient: str) -> str | None:
        self._count += 1
        drawn = self._rng.random()
        name = self.by_number.get(self._count) or self.by_recipient.get(recipient)
        if name is not None:
            return name
        if any(first <= self._count < first + many for first, many in self.brown_outs.items()):
            return "too_many" if self._count % 2 else "late_accepted"
        for fault, rate in sorted(self.rates.items()):
            if drawn < rate:
                return fault
            drawn -= rate
        return None
