"""After promotion: the holdback goes on being measured, and can demote what was promoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from experiments.design import Design
from experiments.evidence import Reason
from experiments.gates import FLOOR_PER_ARM, best_case, improvement
from experiments.metrics import is_higher_better
from experiments.results import Result


@dataclass(frozen=True, slots=True)
class HoldbackVerdict:
    """`keep`: the lift is still there; `demote`: it is gone or it harms; `keep_measuring`: too early to say."""

    verdict: Literal["keep", "demote", "keep_measuring"]
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def judge_holdback(design: Design, results: Sequence[Result], *, arm: str) -> HoldbackVerdict:
    """The promoted arm against its holdback (as control), measured like any experiment.

    Demote where the upper one-sided 95 % bound of the lift is below the minimum effect, or where a guardrail is worse
    than its margin with 95 % confidence; keep where the lower bound is above 0; else go on measuring. Below 350
    customers on a side, or where the primary cannot be compared, only a guardrail can demote. Every reason has its
    value and threshold.
    """
    primary = next((r for r in results if (r.metric, r.arm) == (design.primary, arm)), None)
    early = _too_early(design, primary, arm)
    harms = _harms(design, results, arm)
    if primary is None or early.passed is False:
        harmed = any(reason.passed is False for reason in harms)
        return HoldbackVerdict("demote" if harmed else "keep_measuring", (early, *harms))
    reasons = [early, _lift_left(design, primary), *harms]
    if any(reason.passed is False for reason in reasons):
        return HoldbackVerdict("demote", tuple(reasons))
    low = _bounds(primary)[0]
    text = f"lower 95 % bound of {primary.metric}'s lift over the holdback"
    above = True if low is not None and low > 0.0 else None
    shown = Reason("holdback", "lift_shown", low, 0.0, above, text, arm, primary.metric)
    return HoldbackVerdict("keep" if shown.passed else "keep_measuring", (*reasons, shown))


def _too_early(design: Design, primary: Result | None, arm: str) -> Reason:
    """Whether there are enough customers on both sides, and numbers at all."""
    smallest = 0 if primary is None else min(primary.n_arm, primary.n_control)
    if primary is not None and smallest >= FLOOR_PER_ARM and not primary.usable:
        text = f"{primary.metric} cannot be compared: {primary.status}"
        return Reason("size", "not_comparable", float(smallest), FLOOR_PER_ARM, False, text, arm, design.primary)
    text = f"{smallest} customers in the smaller side, the floor is {FLOOR_PER_ARM}"
    return Reason("size", "floor", float(smallest), FLOOR_PER_ARM, smallest >= FLOOR_PER_ARM, text, arm, design.primary)


def _lift_left(design: Design, primary: Result) -> Reason:
    high = _bounds(primary)[1]
    needed = design.minimum_effect.absolute(primary.control_value or 0.0)
    left = high is None or high >= needed
    text = f"upper 95 % bound of {primary.metric}'s lift over the holdback, estimate {improvement(primary) or 0.0:.4g}"
    return Reason("holdback", "lift_left", high, needed, left, text, primary.arm, primary.metric)


def _harms(design: Design, results: Sequence[Result], arm: str) -> list[Reason]:
    """Guardrails with enough customers on both sides: is harm beyond the margin certain to 95 %."""
    reasons = []
    for guard in design.guardrails:
        result = next((r for r in results if (r.metric, r.arm) == (guard.metric, arm)), None)
        value = None if result is None else best_case(result, guard)
        if result is None or value is None or min(result.n_arm, result.n_control) < FLOOR_PER_ARM:
            continue
        limit = guard.margin_at(result.control_value)
        kept = value <= limit if limit > 0.0 else None  # a relative margin of nothing is unknown
        text = f"{guard.metric}: harm that is certain to 95 %, against its margin"
        reasons.append(Reason("holdback", "guardrail", value, limit, kept, text, arm, guard.metric))
    return reasons


def _bounds(result: Result) -> tuple[float | None, float | None]:
    """One-sided 95 % bounds of the improvement."""
    if is_higher_better(result.metric):
        return result.lower_95, result.upper_95
    return (
        None if result.upper_95 is None else -result.upper_95,
        None if result.lower_95 is None else -result.lower_95,
    )
