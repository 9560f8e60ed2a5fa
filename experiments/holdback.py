"""After promotion: the holdback goes on being measured, and can demote what was promoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.design import Design
from experiments.evidence import Reason
from experiments.gates import FLOOR_PER_ARM, improvement
from experiments.metrics import METRICS
from experiments.results import Result


@dataclass(frozen=True, slots=True)
class HoldbackVerdict:
    """`keep`: the lift is still there; `demote`: it is gone or it harms; `keep_measuring`: too early to say."""

    verdict: Literal["keep", "demote", "keep_measuring"]
    reasons: tuple[Reason, ...]


def judge_holdback(design: Design, results: Sequence[Result], *, arm: str) -> HoldbackVerdict:
    """The promoted arm against its holdback (as control), measured like any experiment.

    Demote where the upper one-sided 95 % bound of the lift is below the minimum effect, or where a guardrail is worse
    than its margin with 95 % confidence; keep where the lower bound is above 0; else go on measuring.
    """
    primary = next((r for r in results if (r.metric, r.arm) == (design.primary, arm)), None)
    if primary is None or not primary.usable or min(primary.n_arm, primary.n_control) < FLOOR_PER_ARM:
        smallest = 0 if primary is None else min(primary.n_arm, primary.n_control)
        text = f"{smallest} customers in the smaller side, the floor is {FLOOR_PER_ARM}"
        return HoldbackVerdict(
            "keep_measuring", (Reason("size", "floor", float(smallest), FLOOR_PER_ARM, False, text, arm),)
        )
    reasons = [_lift_left(design, primary), *_harms(design, results, arm)]
    if any(reason.passed is False for reason in reasons):
        return HoldbackVerdict("demote", tuple(reasons))
    low = _bounds(primary)[0]
    shown = Reason(
        "holdback", "lift_shown", low, 0.0, None if low is None or low <= 0.0 else True, "lower 95 % bound", arm
    )
    return HoldbackVerdict("keep" if shown.passed else "keep_measuring", (*reasons, shown))


def _lift_left(design: Design, primary: Result) -> Reason:
    high = _bounds(primary)[1]
    needed = design.minimum_effect.absolute(primary.control_value or 0.0)
    left = high is None or high >= needed
    text = f"upper 95 % bound of {primary.metric}'s lift over the holdback, estimate {improvement(primary) or 0.0:.4g}"
    return Reason("holdback", "lift_left", high, needed, left, text, primary.arm, primary.metric)


def _harms(design: Design, results: Sequence[Result], arm: str) -> list[Reason]:
    reasons = []
    for guard in design.guardrails:
        result = next((r for r in results if (r.metric, r.arm) == (guard.metric, arm)), None)
        bound = None if result is None else (result.lower_95 if guard.harm_sign > 0 else result.upper_95)
        if bound is not None:
            value = guard.harm_sign * bound
            text = f"{guard.metric}: harm that is certain to 95 %"
            reasons.append(
                Reason("holdback", "guardrail", value, guard.margin, value <= guard.margin, text, arm, guard.metric)
            )
    return reasons


def _bounds(result: Result) -> tuple[float | None, float | None]:
    """One-sided 95 % bounds of the improvement."""
    better = METRICS[result.metric].higher_is_better if result.metric in METRICS else True
    if better:
        return result.lower_95, result.upper_95
    return (
        None if result.upper_95 is None else -result.upper_95,
        None if result.lower_95 is None else -result.lower_95,
    )
