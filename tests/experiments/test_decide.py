"""The rule: gates in order, every check on record, and no promotion that a gate forbids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.aggregates import Moments
from experiments.compare import compare_all
from experiments.decide import decide
from experiments.design import Design, Effect, Guardrail
from experiments.evidence import Evidence, Verdict
from experiments.holdback import judge_holdback
from experiments.power import sample_size_guardrail, sample_size_guardrail_mean

DESIGN = Design(
    experiment_id="e",
    campaign="c",
    salt="s",
    weights=(("a", 0.3), ("b", 0.3), ("control", 0.4)),
    primary="repurchase",
    horizon_days=30,
    metrics=("revenue", "margin"),
    guardrails=(Guardrail("unsubscribed", max_increase_abs=0.01),),
    minimum_effect=Effect(0.02),
)
SIZES = {"a": 3000, "b": 3000, "control": 4000}


def _moments(n: int, share: float, margin: float) -> Moments:
    """Moments of n customers of whom `share` bought; margins as given per customer."""
    bought = np.zeros(n)
    bought[: round(n * share)] = 1.0
    money = np.resize([-20.0, 20.0], n) + margin
    return Moments.from_rows(("repurchase", "revenue", "margin"), np.column_stack([bought, bought * 40.0, money]))


def _evidence(
    shares: Mapping[str, float],
    *,
    margins: Mapping[str, float] | None = None,
    unsubscribed: Mapping[str, int] | None = None,
    design: Design = DESIGN,
    sizes: Mapping[str, int] = SIZES,
    **changes: Any,
) -> Evidence:
    facts = {arm: _moments(sizes[arm], shares[arm], (margins or {}).get(arm, 0.0)) for arm in sizes}
    ledger = {arm: Moments.from_counts("unsubscribed", n, (unsubscribed or {}).get(arm, 3)) for arm, n in sizes.items()}
    evidence = Evidence(
        design=design,
        results=tuple(compare_all(design, facts, more=[ledger])),
        assigned=sizes,
        mature=sizes,
        delivered={"a": 0.97, "b": 0.96},
    )
    return replace(evidence, **changes)


GOOD = {"a": 0.30, "b": 0.26, "control": 0.25}
MARGINS = {"a": 2.0, "b": 0.0, "control": 0.0}


def _failed(verdict: Verdict) -> set[str]:
    return {reason.code for reason in verdict.failed}


def test_a_clear_winner_is_promoted_with_raw_and_shrunk_lift() -> None:
    verdict = decide(_evidence(GOOD, margins=MARGINS))
    assert (verdict.verdict, verdict.arm) == ("promote", "a")
    assert verdict.expected_lift_raw == pytest.approx(0.05)
    assert verdict.expected_lift_shrunk is not None
    assert 0.0 < verdict.expected_lift_shrunk < 0.05
    assert json.loads(json.dumps(verdict.to_json()))["rule_version"] == verdict.rule_version


def test_every_gate_is_on_record_with_value_and_threshold() -> None:
    verdict = decide(_evidence(GOOD, margins=MARGINS))
    gates = list(dict.fromkeys(reason.gate for reason in verdict.reasons))
    assert gates == [
        "integrity",
        "maturity",
        "size",
        "efficacy",
        "practical",
        "margin",
        "harm",
        "choice",
        "shrinkage",
        "feedback",
    ]
    assert all(reason.text for reason in verdict.reasons)


def test_an_experiment_in_which_nothing_was_sent_is_never_promoted() -> None:
    verdict = decide(_evidence(GOOD, margins=MARGINS, delivered={"a": 0.0, "b": 0.0}))
    assert verdict.verdict == "invalid"
    assert "nothing_delivered" in _failed(verdict)
    unknown = decide(_evidence(GOOD, margins=MARGINS, delivered={}))
    assert unknown.verdict == "review"
    assert "delivery_unknown" in _failed(unknown)


@pytest.mark.parametrize(
    ("health", "code", "expected"),
    [
        ({"srm_p": 1e-5}, "srm_assigned", "invalid"),
        ({"srm_analysed_p": 1e-5}, "srm_analysed", "invalid"),
        ({"crossover": 0.02}, "crossover", "invalid"),
        ({"balance_p": 1e-5}, "balance", "review"),
        ({"contamination": 0.02}, "contamination", "review"),
        ({"delivery_gap": 0.2}, "delivery_gap", "review"),
    ],
)
def test_broken_integrity_stops_the_decision(health: dict, code: str, expected: str) -> None:
    verdict = decide(_evidence(GOOD, margins=MARGINS, health=health))
    assert verdict.verdict == expected
    assert code in _failed(verdict)


def test_the_split_is_tested_from_the_counts_where_nobody_did() -> None:
    sizes = {"a": 3000, "b": 3600, "control": 4000}
    assert "srm_assigned" in _failed(decide(_evidence(GOOD, margins=MARGINS, sizes=sizes)))


def test_one_arm_without_deliveries_is_for_a_human() -> None:
    verdict = decide(_evidence(GOOD, margins=MARGINS, delivered={"a": 0.97, "b": 0.0}))
    assert verdict.verdict == "review"


def test_a_look_that_is_not_due_keeps_testing() -> None:
    design = replace(DESIGN, looks=4)
    early = decide(_evidence(GOOD, margins=MARGINS, design=design, look=2, looks_done=1, information=0.4))
    assert early.verdict == "keep_testing"
    again = decide(_evidence(GOOD, margins=MARGINS, design=design, look=2, looks_done=2, information=0.5))
    assert again.verdict == "keep_testing"
    over = decide(_evidence(GOOD, margins=MARGINS, design=design, look=5, looks_done=4))
    assert over.verdict == "inconclusive"


def test_an_early_look_needs_the_early_boundary() -> None:
    design = replace(DESIGN, looks=4)
    shares = {"a": 0.28, "b": 0.25, "control": 0.25}
    margins = {"a": 2.0, "b": 0.0, "control": 0.0}
    early = decide(_evidence(shares, margins=margins, design=design, look=1, looks_done=0, information=0.25))
    assert early.verdict == "keep_testing"
    boundary = next(reason.threshold for reason in early.reasons if reason.gate == "efficacy")
    # O'Brien-Fleming at a quarter of the information: z 4.333, two-sided level 1.5e-5 (tests/reference/test_looks.py)
    assert boundary == pytest.approx(1.5e-5, rel=0.05)
    late = decide(_evidence(shares, margins=margins, design=design, look=4, looks_done=3))
    assert (late.verdict, late.arm) == ("promote", "a")


def test_too_few_customers_or_conversions_promote_nothing() -> None:
    small = {"a": 300, "b": 300, "control": 400}
    verdict = decide(_evidence({"a": 0.6, "b": 0.26, "control": 0.25}, margins=MARGINS, sizes=small))
    assert verdict.verdict == "inconclusive"
    assert "floor" in _failed(verdict)
    rare = decide(_evidence({"a": 0.05, "b": 0.005, "control": 0.005}, margins=MARGINS))
    assert "conversions" in _failed(rare)
    planned = decide(_evidence(GOOD, margins=MARGINS, design=replace(DESIGN, planned_n=4000)))
    assert "planned_size" in _failed(planned)
    nearly = decide(_evidence(GOOD, margins=MARGINS, design=replace(DESIGN, planned_n=3100)))
    assert nearly.verdict == "promote"


def test_a_lift_below_the_minimum_effect_is_not_worth_acting_on() -> None:
    sizes = {"a": 30_000, "b": 30_000, "control": 40_000}
    verdict = decide(_evidence({"a": 0.265, "b": 0.25, "control": 0.25}, margins=MARGINS, sizes=sizes))
    assert verdict.verdict == "inconclusive"
    passed = {(reason.code, reason.arm): reason.passed for reason in verdict.reasons}
    assert passed["adjusted_p", "a"] is True
    assert passed["minimum_effect", "a"] is False


def test_an_arm_that_lifts_but_loses_money_is_not_promoted() -> None:
    shares = {"a": 0.30, "b": 0.30, "control": 0.25}
    verdict = decide(_evidence(shares, margins={"a": -2.0, "b": 2.0, "control": 0.0}))
    assert (verdict.verdict, verdict.arm) == ("promote", "b")
    loses = decide(_evidence(GOOD, margins={"a": -2.0, "b": 0.0, "control": 0.0}))
    assert loses.verdict == "inconclusive"


def test_without_margin_the_gate_is_open_and_says_so() -> None:
    design = replace(DESIGN, metrics=("revenue",))
    verdict = decide(_evidence(GOOD, design=design))
    assert verdict.verdict == "promote"
    assert "margin_unknown" in {reason.code for reason in verdict.reasons}


def test_margin_may_come_from_elsewhere() -> None:
    evidence = _evidence(GOOD, margins={"a": -2.0, "b": 0.0, "control": 0.0})
    own = tuple(result for result in _evidence(GOOD, margins=MARGINS).results if result.metric == "margin")
    kept = tuple(result for result in evidence.results if result.metric != "margin")
    assert decide(replace(evidence, results=kept, margin=own)).verdict == "promote"


def test_a_guardrail_that_may_be_worse_than_its_margin_needs_a_human() -> None:
    verdict = decide(_evidence(GOOD, margins=MARGINS, unsubscribed={"a": 35, "b": 3, "control": 10}))
    assert (verdict.verdict, verdict.arm) == ("review", "a")
    assert "noninferior" in _failed(verdict)


def test_certain_harm_stops_on_any_day() -> None:
    harmed = {"a": 160, "b": 3, "control": 4}
    design = replace(DESIGN, looks=4)
    verdict = decide(_evidence(GOOD, unsubscribed=harmed, design=design, look=1, looks_done=0, information=0.1))
    assert (verdict.verdict, verdict.arm) == ("stop_harm", "a")
    assert "harm_alarm" in _failed(verdict)


def test_the_alarm_may_watch_everybody_assigned() -> None:
    calm = _evidence(GOOD, margins=MARGINS)
    loud = _evidence(GOOD, unsubscribed={"a": 160, "b": 3, "control": 4})
    watched = tuple(result for result in loud.results if result.metric == "unsubscribed")
    assert decide(replace(calm, monitor=watched)).verdict == "stop_harm"


def test_harm_that_is_certain_at_the_end_stops_without_an_alarm() -> None:
    shares = {"a": 0.25, "b": 0.25, "control": 0.25}
    verdict = decide(_evidence(shares, unsubscribed={"a": 62, "b": 3, "control": 10}))
    assert (verdict.verdict, verdict.arm) == ("stop_harm", "a")


def test_a_significantly_worse_secondary_metric_forbids_promotion() -> None:
    evidence = _evidence(GOOD, margins=MARGINS)
    worse = tuple(
        replace(result, difference=-5.0, p_adjusted=0.001) if result.metric == "revenue" else result
        for result in evidence.results
    )
    verdict = decide(replace(evidence, results=worse))
    assert verdict.verdict == "review"
    assert "significantly_worse" in _failed(verdict)


def test_among_equals_the_cheapest_arm_is_taken() -> None:
    shares = {"a": 0.300, "b": 0.299, "control": 0.25}
    margins = {"a": 2.0, "b": 2.0, "control": 0.0}
    tie = decide(_evidence(shares, margins=margins, arm_cost={"a": 0.10, "b": 0.02}))
    assert (tie.verdict, tie.arm) == ("promote", "b")
    clear = decide(_evidence({"a": 0.36, "b": 0.29, "control": 0.25}, margins=margins, arm_cost={"a": 0.10, "b": 0.02}))
    assert clear.arm == "a"


def test_adaptive_weights_are_never_promoted() -> None:
    design = replace(DESIGN, allocation="thompson")
    assert decide(_evidence(GOOD, margins=MARGINS, design=design)).verdict == "review"


def test_a_past_spread_of_effects_sets_the_shrinkage() -> None:
    tight = decide(_evidence(GOOD, margins=MARGINS, prior_sd=0.002)).expected_lift_shrunk
    wide = decide(_evidence(GOOD, margins=MARGINS, prior_sd=0.2)).expected_lift_shrunk
    assert tight is not None
    assert wide is not None
    assert tight < 0.01 < wide < 0.05


def test_the_same_evidence_gives_the_same_verdict() -> None:
    assert decide(_evidence(GOOD, margins=MARGINS)) == decide(_evidence(GOOD, margins=MARGINS))


def _holdback(arm_share: float, *, unsubscribed: int = 5) -> str:
    design = replace(DESIGN, weights=(("a", 0.9), ("control", 0.1)))
    sizes = {"a": 18_000, "control": 2_000}
    evidence = _evidence(
        {"a": arm_share, "control": 0.25}, design=design, sizes=sizes, unsubscribed={"a": unsubscribed, "control": 1}
    )
    return judge_holdback(design, evidence.results, arm="a").verdict


def test_the_holdback_keeps_demotes_or_waits() -> None:
    assert _holdback(0.30) == "keep"
    assert _holdback(0.24) == "demote"
    assert _holdback(0.26) == "keep_measuring"
    assert _holdback(0.30, unsubscribed=400) == "demote"
    assert judge_holdback(DESIGN, (), arm="a").verdict == "keep_measuring"


def test_a_holdback_without_numbers_waits_and_says_why_but_harm_demotes_all_the_same() -> None:
    design = replace(DESIGN, weights=(("a", 0.9), ("control", 0.1)))
    sizes = {"a": 9_000, "control": 1_000}
    nobody = _evidence({"a": 0.0, "control": 0.0}, design=design, sizes=sizes).results
    waiting = judge_holdback(design, nobody, arm="a")
    assert (waiting.verdict, waiting.reasons[0].code) == ("keep_measuring", "not_comparable")
    harmed = _evidence({"a": 0.0, "control": 0.0}, design=design, sizes=sizes, unsubscribed={"a": 500}).results
    demoted = judge_holdback(design, harmed, arm="a")
    assert demoted.verdict == "demote"
    assert demoted.to_json()["reasons"][-1]["code"] == "guardrail"
    kept = judge_holdback(design, _evidence({"a": 0.35, "control": 0.25}, design=design, sizes=sizes).results, arm="a")
    assert [reason.code for reason in kept.reasons] == ["floor", "lift_left", "guardrail", "lift_shown"]
    assert all(reason.value is not None and reason.threshold is not None for reason in kept.reasons)


def test_a_relative_margin_is_a_share_of_what_control_shows() -> None:
    relative = replace(DESIGN, guardrails=(Guardrail("unsubscribed", max_increase_abs=10.0, kind="relative"),))
    verdict = decide(_evidence(GOOD, margins=MARGINS, design=relative))
    guard = next(reason for reason in verdict.reasons if reason.code == "noninferior" and reason.arm == "a")
    assert guard.threshold == pytest.approx(10 * 3 / 4000)
    assert verdict.verdict == "promote"
    nothing_before = decide(_evidence(GOOD, margins=MARGINS, design=relative, unsubscribed={"control": 0}))
    assert nothing_before.verdict == "review"  # a share of nothing: no rise is tolerated
    assert Design.from_json(relative.to_json()) == relative
    assert relative.content_hash() != DESIGN.content_hash()
    assert "kind" not in DESIGN.to_json()["guardrails"][0]


def test_a_guardrail_measured_on_too_few_customers_is_no_promotion() -> None:
    tight = replace(
        DESIGN,
        guardrails=(Guardrail("unsubscribed", max_increase_abs=0.0005), Guardrail("margin", max_decrease_abs=5.0)),
    )
    verdict = decide(_evidence(GOOD, margins=MARGINS, design=tight))
    sizes = {(reason.metric, reason.arm): reason for reason in verdict.reasons if reason.code == "guardrail_size"}
    assert len(sizes) == 4
    short, enough = sizes["unsubscribed", "a"], sizes["margin", "a"]
    assert short.passed is False
    assert short.threshold == pytest.approx(0.95 * sample_size_guardrail(3 / 4000, 0.0005, power=0.8, ratio=0.75))
    assert enough.passed is True
    assert enough.threshold == pytest.approx(0.95 * sample_size_guardrail_mean(20.0, 5.0, power=0.8, ratio=0.75), abs=1)
    assert verdict.verdict == "inconclusive"  # too small to exclude harm, whatever the harm gate says
    assert verdict.arm is None


@pytest.mark.parametrize(("planned", "verdict"), [(3100, "promote"), (3200, "inconclusive")])
def test_the_planned_size_of_a_guardrail_is_what_no_outcome_moves(planned: int, verdict: str) -> None:
    # the smallest arm has 3,000 customers: 95 % of 3,157
    design = replace(DESIGN, guardrail_n=(("unsubscribed", planned),))
    assert Design.from_json(design.to_json()) == design
    assert design.content_hash() == DESIGN.content_hash()
    for unsubscribed in (1, 6):
        decided = decide(_evidence(GOOD, margins=MARGINS, design=design, unsubscribed={"control": unsubscribed}))
        (reason,) = (r for r in decided.reasons if r.code == "guardrail_size" and r.metric == "unsubscribed")
        assert (reason.value, reason.threshold) == (3000.0, pytest.approx(0.95 * planned))
        assert decided.verdict == verdict


def test_a_metric_that_should_fall_is_judged_the_other_way_round() -> None:
    design = replace(DESIGN, primary="unsubscribed", metrics=(), guardrails=(), minimum_effect=Effect(0.001))
    evidence = _evidence(GOOD, design=design, unsubscribed={"a": 30, "b": 118, "control": 160})
    verdict = decide(evidence)
    assert (verdict.verdict, verdict.arm) == ("promote", "a")
    assert verdict.expected_lift_raw == pytest.approx(0.03)
    assert judge_holdback(design, evidence.results, arm="a").verdict == "keep"
