"""The gates: one function each, from evidence to checks with value, threshold and pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from experiments.design import Design, Guardrail
from experiments.distributions import normal_sf
from experiments.evidence import Evidence, Reason
from experiments.health import SRM_THRESHOLD, delivery_gap, srm
from experiments.metrics import METRICS, is_higher_better
from experiments.power import sample_size_guardrail, sample_size_guardrail_mean
from experiments.results import Result
from experiments.sequential import look_boundary, sequence_one_sided

BALANCE_THRESHOLD = 0.001
CONTAMINATION_LIMIT = 0.01
CROSSOVER_LIMIT = 0.01
DELIVERY_GAP_LIMIT = 0.10  # arms on different channels differ by some points by nature; more means that one broke
FLOOR_PER_ARM = 350
FLOOR_CONVERSIONS = 25
ENOUGH_OF_PLANNED = 0.95  # arms are drawn by hash: the smallest lands a little under its planned size
HARM_ALPHA = 0.05
HARM_TUNING = 5000.0


def integrity(evidence: Evidence) -> list[Reason]:
    """Is the split what was planned, were the arms alike before, did messages go to the arms and only there."""
    health = evidence.health
    checks = [
        _at_least("srm_assigned", _srm_p(evidence, "srm_p"), SRM_THRESHOLD, "split of assigned customers"),
        _at_least("srm_analysed", _srm_p(evidence, "srm_analysed_p"), SRM_THRESHOLD, "split of analysed customers"),
        _at_most("crossover", health.get("crossover"), CROSSOVER_LIMIT, "customers found in several arms"),
        _at_least("balance", health.get("balance_p"), BALANCE_THRESHOLD, "arms alike before the start"),
        _at_most("contamination", health.get("contamination"), CONTAMINATION_LIMIT, "control reached by messages"),
    ]
    gap = health.get("delivery_gap")
    if gap is None:
        gap = delivery_gap(evidence.delivered, control=evidence.design.control)
    checks.append(_at_most("delivery_gap", gap, DELIVERY_GAP_LIMIT, "difference of delivered shares between arms"))
    return [*checks, _delivered(evidence)]


def maturity(evidence: Evidence) -> list[Reason]:
    """Is this a planned look, and has enough information matured for it."""
    design = evidence.design
    planned = evidence.looks_done < evidence.look <= design.looks
    text = f"look {evidence.look} of {design.looks}, {evidence.looks_done} taken before"
    needed = ENOUGH_OF_PLANNED if evidence.final else evidence.look / design.looks
    matured = evidence.information >= needed - 1e-9
    share = f"{evidence.information:.0%} of the planned information has matured, this look needs {needed:.0%}"
    return [
        Reason("maturity", "planned_look", float(evidence.look), float(design.looks), planned, text),
        Reason("maturity", "information", evidence.information, needed, matured, share),
    ]


def size(evidence: Evidence) -> list[Reason]:
    """Planned size per arm for this look, and the floors below which the approximations are not trusted."""
    design = evidence.design
    smallest = min((evidence.mature.get(name, 0) for name, weight in design.weights if weight > 0.0), default=0)
    reasons = []
    if design.planned_n:
        planned = planned_customers(design, evidence.mature, planned_n=design.planned_n)
        share = 1.0 if evidence.final else evidence.look / design.looks
        there, needed = planned.matured, ENOUGH_OF_PLANNED * share * planned.needed
        text = f"{planned.whose} {there} mature {design.units}, {needed:.0f} were planned for this look"
        reasons.append(Reason("size", "planned_size", float(there), needed, there >= needed, text))
    floor = f"smallest arm has {smallest} mature {design.units}, the floor is {FLOOR_PER_ARM}"
    reasons.append(Reason("size", "floor", float(smallest), FLOOR_PER_ARM, smallest >= FLOOR_PER_ARM, floor))
    conversions = _fewest_conversions(evidence)
    if conversions is not None:
        enough = conversions >= FLOOR_CONVERSIONS
        text = f"fewest conversions in an arm: {conversions:.0f}, the floor is {FLOOR_CONVERSIONS}"
        reasons.append(Reason("size", "conversions", conversions, FLOOR_CONVERSIONS, enough, text))
    return [*reasons, *guardrail_sizes(evidence)]


class Planned(NamedTuple):
    """Customers that were planned, and how many of them are mature; `whose` begins the sentence that says it."""

    needed: float
    matured: int
    whose: str


def planned_customers(design: Design, mature: Mapping[str, int], *, planned_n: int) -> Planned:
    """The customers that were planned, from a planned size of the smallest arm.

    Where the shares are learnt no arm has a size of its own: the plan is of all of them together.
    """
    weights = [(arm, weight) for arm, weight in design.weights if weight > 0.0]
    if design.allocation == "fixed":
        return Planned(planned_n, min((mature.get(arm, 0) for arm, _ in weights), default=0), "smallest arm has")
    needed = planned_n / min(weight for _, weight in weights)
    return Planned(needed, sum(mature.get(arm, 0) for arm, _ in weights), "all arms together have")


def guardrail_sizes(evidence: Evidence) -> list[Reason]:
    """Is every guardrail measured on as many customers as its margin needs (one-sided 95 %, the design's power).

    Against the size that was planned, which no outcome moves; where none was planned, per arm against what control's
    rate says now. Short of it the harm gate would miss harm or refuse harmless arms more often than was agreed.
    """
    design = evidence.design
    share = ENOUGH_OF_PLANNED * (1.0 if evidence.final else evidence.look / design.looks)
    planned = dict(design.guardrail_n)
    reasons = []
    for guard in design.guardrails:
        if guard.metric in planned:
            reasons.append(_planned_guardrail(evidence, guard.metric, planned[guard.metric], share))
            continue
        for arm in design.arms:
            result = evidence.result(guard.metric, arm)
            needed = None if result is None else _needed_for(guard, result, design.power)
            if result is None or needed is None:
                continue
            value, wanted = float(result.n_control), share * needed
            text = f"control has {result.n_control} {design.units}, {guard.metric}'s margin needs {needed}"
            reasons.append(Reason("size", "guardrail_size", value, wanted, value >= wanted, text, arm, guard.metric))
    return reasons


def _planned_guardrail(evidence: Evidence, metric: str, planned_n: int, share: float) -> Reason:
    planned = planned_customers(evidence.design, evidence.mature, planned_n=planned_n)
    wanted = share * planned.needed
    units = evidence.design.units
    text = f"{planned.whose} {planned.matured} mature {units}, {metric}'s margin needs {wanted:.0f} for this look"
    passed = planned.matured >= wanted
    return Reason("size", "guardrail_size", float(planned.matured), wanted, passed, text, None, metric)


def efficacy(evidence: Evidence, arm: str) -> list[Reason]:
    """Is the primary better beyond this look's boundary, Holm-adjusted over the arms."""
    design = evidence.design
    result = evidence.result(design.primary, arm)
    z = look_boundary(design, look=evidence.look, information=evidence.information, past=evidence.past_information)
    level = 2.0 * normal_sf(z)
    p = None if result is None or not result.usable else result.p_adjusted
    lift = improvement(result)
    passed = p is not None and lift is not None and lift > 0.0 and p <= level
    text = f"adjusted p of {design.primary}, boundary z {z:.2f} at look {evidence.look} of {design.looks}"
    return [Reason("efficacy", "adjusted_p", p, level, passed, text, arm, design.primary)]


def practical(evidence: Evidence, arm: str) -> list[Reason]:
    """Is the estimated lift at least the smallest effect worth acting on."""
    design = evidence.design
    result = evidence.result(design.primary, arm)
    lift = improvement(result)
    base = result.control_value if result is not None else None
    needed = design.minimum_effect.absolute(base or 0.0)
    passed = lift is not None and lift >= needed - 1e-12
    text = f"lift of {design.primary} against the minimum effect"
    return [Reason("practical", "minimum_effect", lift, needed, passed, text, arm, design.primary)]


def margin(evidence: Evidence, arm: str) -> list[Reason]:
    """Is the incremental margin per customer above 0 with 80 % confidence (one-sided), where margin is measured."""
    result = evidence.margin_of(arm)
    if result is None or not result.usable:
        return [Reason("margin", "margin_unknown", None, 0.0, None, "margin was not measured", arm, "margin")]
    low = result.lower_80
    text = "lower 80 % bound of the incremental margin per customer"
    return [Reason("margin", "incremental_margin", low, 0.0, low is not None and low > 0.0, text, arm, "margin")]


def harm(evidence: Evidence, arm: str) -> list[Reason]:
    """Is every guardrail non-inferior at its margin (one-sided 95 %), and no secondary metric significantly worse."""
    reasons = [_noninferior(evidence.result(guard.metric, arm), guard, arm) for guard in evidence.design.guardrails]
    guarded = {guard.metric for guard in evidence.design.guardrails}
    for name in evidence.design.metrics:
        result = evidence.result(name, arm)
        if name in guarded or result is None or not result.usable or name not in METRICS:
            continue
        if METRICS[name].source == "ledger":
            continue  # costs of messages rise by design; the margin gate weighs them
        lift, p = improvement(result), result.p_adjusted
        worse = lift is not None and p is not None and lift < 0.0 and p <= evidence.design.alpha
        text = f"{name} is {'' if worse else 'not '}significantly worse"
        reasons.append(Reason("harm", "significantly_worse", p, evidence.design.alpha, not worse, text, arm, name))
    return reasons


def confirmed_harm(evidence: Evidence, arm: str) -> Reason | None:
    """A guardrail that is worse than its margin with 95 % confidence (one-sided), for the final look."""
    for guard in evidence.design.guardrails:
        result = evidence.result(guard.metric, arm)
        bound = None if result is None else best_case(result, guard)
        limit = 0.0 if result is None else guard.margin_at(result.control_value)
        if bound is not None and bound > limit > 0.0:  # a relative margin of nothing is unknown: for a human to judge
            text = f"{guard.metric} is worse than its margin allows, with 95 % confidence"
            return Reason("harm", "confirmed_harm", bound, limit, False, text, arm, guard.metric)
    return None


def harm_alarms(evidence: Evidence) -> list[Reason]:
    """Guardrails (and the primary) watched at every moment by one-sided confidence sequences.

    An alarm: the sequence excludes "no harm" and the estimate is beyond the margin. The error is divided over arms
    and watched metrics, so that all alarms together are false in at most 5 % of harmless experiments.
    """
    design = evidence.design
    watched = len(design.arms) * (len(design.guardrails) + 1)
    alarms = []
    for result in evidence.monitor or evidence.results:
        for guard in design.guardrails:
            if guard.metric == result.metric:
                limit = guard.margin_at(result.control_value)
                alarms.append(_alarm(result, guard.harm_sign, limit, HARM_ALPHA / watched))
        if result.metric == design.primary:
            harm_sign = -1 if is_higher_better(result.metric) else 1
            needed = design.minimum_effect.absolute(result.control_value or 0.0)
            alarms.append(_alarm(result, harm_sign, needed, HARM_ALPHA / watched))
    return [alarm for alarm in alarms if alarm is not None]


def improvement(result: Result | None) -> float | None:
    """The difference, positive where the arm is better."""
    if result is None or result.difference is None:
        return None
    return result.difference if is_higher_better(result.metric) else -result.difference


def _alarm(result: Result, sign: int, margin_abs: float, alpha: float) -> Reason | None:
    n, se = result.n_arm + result.n_control, max(_null_se(result), _strata_se(result))
    if result.difference is None or se <= 0.0 or min(result.n_arm, result.n_control) < FLOOR_PER_ARM:
        return None
    harmed = sign * result.difference
    bound = harmed - sequence_one_sided(se, n, alpha=alpha, tuning=HARM_TUNING)
    if bound <= 0.0 or harmed <= margin_abs:
        return None
    text = f"{result.metric} is worse by {harmed:.4g}, more than {margin_abs:.4g}; the harm sequence excludes 0"
    return Reason("harm", "harm_alarm", bound, 0.0, False, text, result.arm, result.metric)


def _null_se(result: Result) -> float:
    """Standard error without harm: shares pooled over both arms, as a small arm without events would show none.

    Measured (tests/reference/test_error_rates.py): with the unpooled error and arms 9:1, 11 % of alarms were false.
    """
    if result.kind != "proportion" or result.arm_value is None or result.control_value is None:
        return result.se or 0.0
    share = (result.n_arm * result.arm_value + result.n_control * result.control_value) / (
        result.n_arm + result.n_control
    )
    return math.sqrt(share * (1.0 - share) * (1.0 / result.n_arm + 1.0 / result.n_control))


def _strata_se(result: Result) -> float:
    """Of an effect put together over strata: sizes that differ between them make it less certain than they look."""
    return (result.se or 0.0) if "stratified" in result.method or "Mantel" in result.method else 0.0


def _noninferior(result: Result | None, guard: Guardrail, arm: str) -> Reason:
    worst = None if result is None else (result.upper_95 if guard.harm_sign > 0 else result.lower_95)
    value = None if worst is None else guard.harm_sign * worst
    limit = guard.margin_at(None if result is None else result.control_value)
    passed = value is not None and value < limit
    text = f"worst case of {guard.metric} (one-sided 95 %) against its margin"
    return Reason("harm", "noninferior", value, limit, passed, text, arm, guard.metric)


def _needed_for(guard: Guardrail, result: Result, power: float) -> int | None:
    """Control's size that the guardrail's margin needs, arms in the proportion they have; None where unknown."""
    limit, base = guard.margin_at(result.control_value), result.control_value
    if limit <= 0.0 or base is None or min(result.n_arm, result.n_control) < 1:
        return None
    if result.kind == "proportion" and base == 0.0 and result.arm_value is not None:
        base = result.arm_value * result.n_arm / (result.n_arm + result.n_control)  # control shows none yet
    ratio = result.n_arm / result.n_control
    if result.kind == "proportion":
        return sample_size_guardrail(base, limit, power=power, ratio=ratio) if 0.0 < base < 1.0 else None
    if not result.se:
        return None
    sd = result.se / math.sqrt(1.0 / result.n_arm + 1.0 / result.n_control)
    return sample_size_guardrail_mean(sd, limit, power=power, ratio=ratio)


def best_case(result: Result, guard: Guardrail) -> float | None:
    """The harm (positive is worse) that is certain to 95 % (one-sided): negative where it may as well be a gain."""
    best = result.lower_95 if guard.harm_sign > 0 else result.upper_95
    return None if best is None else guard.harm_sign * best


def _delivered(evidence: Evidence) -> Reason:
    """Something must have been sent: without it an experiment compares control with control."""
    shares = [evidence.delivered.get(arm) for arm in evidence.design.arms]
    known = [share for share in shares if share is not None]
    if not known:
        return Reason("integrity", "delivery_unknown", None, 0.0, False, "nobody knows whether messages were delivered")
    least = min(known)
    code = "nothing_delivered" if max(known) <= 0.0 else "delivered"
    text = "smallest share of an arm's customers whom a message reached"
    return Reason("integrity", code, least, 0.0, least > 0.0, text)


def _srm_p(evidence: Evidence, key: str) -> float | None:
    given = evidence.health.get(key)
    if given is not None or evidence.design.allocation != "fixed":
        return given
    counts = evidence.assigned if key == "srm_p" else evidence.mature
    return srm(counts, dict(evidence.design.weights)).p_value


def _fewest_conversions(evidence: Evidence) -> float | None:
    counts: list[float] = []
    for result in evidence.results:
        if result.metric != evidence.design.primary or result.kind != "proportion":
            continue
        counts += [
            round(n * value, 6)
            for n, value in ((result.n_arm, result.arm_value), (result.n_control, result.control_value))
            if value is not None
        ]
    return min(counts) if counts else None


def _at_least(code: str, value: float | None, threshold: float, text: str) -> Reason:
    return Reason("integrity", code, value, threshold, None if value is None else value >= threshold, text)


def _at_most(code: str, value: float | None, threshold: float, text: str) -> Reason:
    return Reason("integrity", code, value, threshold, None if value is None else value <= threshold, text)
