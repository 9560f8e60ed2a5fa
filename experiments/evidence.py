"""Evidence and verdict: what a decision is made from, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from experiments.design import Design
from experiments.results import Result

VerdictName = Literal[
    "promote", "keep_testing", "stop_harm", "inconclusive", "invalid", "review", "keep", "demote", "keep_measuring"
]
"""The last three: of a promoted arm against its holdback."""
RULE_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the rule looks at.

    `health` (each None or absent where not measured): `srm_p` and `srm_analysed_p` (computed from the counts where
    absent), `balance_p`, `contamination` (share of control reached), `crossover` (share of customers in several arms),
    `delivery_gap`. `assigned`, `mature`: units per arm (customers, or the design's households). `delivered`: share of
    each arm's customers whom at least one message reached. `look`: this look's number from 1 (`sequential.due_look`);
    `looks_done`: registered before it; `information`: matured share of the planned information; `past_information`:
    the same at the past looks. `monitor`: guardrail results of everybody assigned so far, for the daily harm alarm
    (else those of `results`). `margin`: results of the margin metric (else taken from `results`). `prior_sd`: spread
    of past campaigns' true effects in the primary's unit (else 5 % of control's value).
    """

    design: Design
    results: tuple[Result, ...]
    assigned: Mapping[str, int]
    mature: Mapping[str, int]
    look: int = 1
    looks_done: int = 0
    information: float = 1.0
    health: Mapping[str, float | None] = field(default_factory=dict)
    delivered: Mapping[str, float | None] = field(default_factory=dict)
    margin: tuple[Result, ...] | None = None
    arm_cost: Mapping[str, float] = field(default_factory=dict)
    past_information: tuple[float, ...] = ()
    monitor: tuple[Result, ...] = ()
    prior_sd: float | None = None

    @property
    def final(self) -> bool:
        """Whether this is the last planned look."""
        return self.look >= self.design.looks

    def result(self, metric: str, arm: str) -> Result | None:
        """The result of one metric and arm."""
        return next((result for result in self.results if (result.metric, result.arm) == (metric, arm)), None)

    def margin_of(self, arm: str) -> Result | None:
        """The margin result of an arm; None where margin was not measured."""
        pool = self.margin if self.margin is not None else self.results
        return next((result for result in pool if result.arm == arm and result.metric == "margin"), None)


@dataclass(frozen=True, slots=True)
class Reason:
    """One check: its gate, a stable code, value against threshold; `passed` is None where it could not be checked."""

    gate: str
    code: str
    value: float | None
    threshold: float | None
    passed: bool | None
    text: str
    arm: str | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the rule says. Expected lifts are absolute, in the primary's unit, positive where better."""

    verdict: VerdictName
    arm: str | None
    reasons: tuple[Reason, ...]
    expected_lift_raw: float | None = None
    expected_lift_shrunk: float | None = None
    expected_lift_low: float | None = None
    expected_lift_high: float | None = None
    rule_version: str = RULE_VERSION

    @property
    def failed(self) -> tuple[Reason, ...]:
        """The checks that did not pass."""
        return tuple(reason for reason in self.reasons if reason.passed is False)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)
