"""The decision: gates in order, one verdict, every check on record.

Order: integrity, harm alarm, maturity, size, then per arm efficacy, minimum effect, margin and harm, then the choice
among the arms that pass, shrinkage of its lift, and feedback. All gates are always evaluated and recorded; the verdict
comes from the first that speaks.
"""

from __future__ import annotations

from typing import NamedTuple

from experiments import gates
from experiments.evidence import Evidence, Reason, Verdict, VerdictName
from experiments.shrinkage import Posterior, expected_loss, shrink

__all__ = ["Evidence", "Reason", "Verdict", "decide"]

INVALIDATING = ("srm_assigned", "srm_analysed", "crossover", "nothing_delivered")
DEFAULT_PRIOR_SHARE = 0.05  # past campaigns' true effects: about 5 % of control's value
LOSS_SHARE = 0.1  # of the minimum effect


def decide(evidence: Evidence) -> Verdict:
    """The verdict on an experiment, from everything in `evidence` and nothing else (docs/maths.md, "Decision").

    Source: the gates of docs/maths.md; error rates simulated in tests/reference/test_decision_rates.py.
    """
    integrity = gates.integrity(evidence)
    alarms = gates.harm_alarms(evidence)
    maturity = gates.maturity(evidence)
    size = gates.size(evidence)
    per_arm = {arm: _arm_checks(evidence, arm) for arm in evidence.design.arms}
    passing = [arm for arm, checks in per_arm.items() if _holds(checks)]
    chosen = _choose(evidence, passing)
    reasons = [*integrity, *alarms, *maturity, *size]
    reasons += [check for checks in per_arm.values() for check in checks]
    reasons += [*chosen.reasons, _feedback(evidence, chosen.arm)]
    verdict, arm = _verdict(evidence, _Gates(integrity, alarms, maturity, size, per_arm, chosen.arm))
    if verdict != "promote":
        return Verdict(verdict=verdict, arm=arm, reasons=tuple(reasons))
    posterior = chosen.posterior
    low, high = posterior.interval()
    return Verdict(
        verdict=verdict,
        arm=arm,
        reasons=tuple(reasons),
        expected_lift_raw=gates.improvement(evidence.result(evidence.design.primary, chosen.arm or "")),
        expected_lift_shrunk=posterior.mean,
        expected_lift_low=low,
        expected_lift_high=high,
    )


class _Gates(NamedTuple):
    integrity: list[Reason]
    alarms: list[Reason]
    maturity: list[Reason]
    size: list[Reason]
    per_arm: dict[str, list[Reason]]
    chosen: str | None


class _Choice(NamedTuple):
    arm: str | None
    posterior: Posterior
    reasons: list[Reason]


def _verdict(evidence: Evidence, found: _Gates) -> tuple[VerdictName, str | None]:
    """The first gate that speaks."""
    broken = [reason.code for reason in found.integrity if reason.passed is False]
    if any(code in INVALIDATING for code in broken):
        return "invalid", None
    if found.alarms:
        return "stop_harm", found.alarms[0].arm
    if evidence.looks_done >= evidence.design.looks:
        return "inconclusive", None
    if not _holds(found.maturity):
        return "keep_testing", None
    if not _holds(found.size):
        return ("inconclusive" if evidence.final else "keep_testing"), None
    if broken:
        return "review", None
    if found.chosen is not None:
        return ("promote" if evidence.design.allocation == "fixed" else "review"), found.chosen
    return _without_winner(evidence, found)


def _without_winner(evidence: Evidence, found: _Gates) -> tuple[VerdictName, str | None]:
    """Nobody passes: harm that is certain, a winner held back by a guardrail only, or no difference."""
    if not evidence.final:
        return "keep_testing", None
    for arm in evidence.design.arms:
        if gates.confirmed_harm(evidence, arm) is not None:
            return "stop_harm", arm
    for arm, checks in found.per_arm.items():
        if all(check.passed is not False for check in checks if check.gate != "harm"):
            return "review", arm
    return "inconclusive", None


def _arm_checks(evidence: Evidence, arm: str) -> list[Reason]:
    return [
        *gates.efficacy(evidence, arm),
        *gates.practical(evidence, arm),
        *gates.margin(evidence, arm),
        *gates.harm(evidence, arm),
    ]


def _choose(evidence: Evidence, passing: list[str]) -> _Choice:
    """The arm with the largest shrunk lift; the cheapest where its expected loss against the next is not small."""
    posteriors = {arm: _posterior(evidence, arm) for arm in passing}
    ranked = sorted(passing, key=lambda arm: -posteriors[arm].mean)
    if not ranked:
        reason = Reason("choice", "no_arm", 0.0, 1.0, None, "no arm passes every gate before")
        return _Choice(None, Posterior(0.0, 0.0), [reason])
    best = ranked[0]
    base = evidence.result(evidence.design.primary, best)
    limit = LOSS_SHARE * evidence.design.minimum_effect.absolute((base.control_value if base else None) or 0.0)
    loss = expected_loss(posteriors[best], posteriors[ranked[1]]) if len(ranked) > 1 else 0.0
    clear = loss <= limit
    if not clear:
        best = min(ranked, key=lambda arm: (evidence.arm_cost.get(arm, 0.0), -posteriors[arm].mean))
    text = f"expected loss of choosing {ranked[0]} over the next best" + (
        "" if clear else f": a tie, {best} is cheapest"
    )
    shrunk = Reason(
        "shrinkage",
        "shrunk_lift",
        posteriors[best].mean,
        0.0,
        posteriors[best].mean > 0.0,
        "lift after shrinkage",
        best,
    )
    return _Choice(
        best, posteriors[best], [Reason("choice", "expected_loss", loss, limit, clear or None, text, best), shrunk]
    )


def _posterior(evidence: Evidence, arm: str) -> Posterior:
    """The arm's lift (positive is better) after shrinkage."""
    result = evidence.result(evidence.design.primary, arm)
    lift = gates.improvement(result)
    if result is None or lift is None or result.se is None:
        return Posterior(0.0, 0.0)
    prior_sd = evidence.prior_sd
    if prior_sd is None:
        prior_sd = DEFAULT_PRIOR_SHARE * abs(result.control_value or 0.0)
        prior_sd = prior_sd or evidence.design.minimum_effect.absolute(0.0)
    return shrink(lift, result.se, prior_sd=prior_sd)


def _feedback(evidence: Evidence, chosen: str | None) -> Reason:
    if evidence.design.allocation == "fixed":
        return Reason("feedback", "fixed_split", None, None, True, "fixed split")
    what = f"arms: {chosen} and control only" if chosen else "the arms that are worth it"
    text = (
        "the shares followed the outcomes, so this promotes nothing: it needs a confirmation with fixed shares; set "
        f"experiment.allocation: fixed with {what}, and run it again"
    )
    return Reason("feedback", "needs_fixed_confirmation", None, None, False, text, chosen)


def _holds(checks: list[Reason]) -> bool:
    return all(check.passed is not False for check in checks)
