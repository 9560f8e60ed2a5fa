"""Planning: sizes, detectable effects, guardrails, time to decision, and what a design would do on past customers."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import power
from experiments.bandit import floor_for, next_weights, standardise, thompson_weights
from experiments.design import Design, Effect, Guardrail
from experiments.errors import ExperimentError
from experiments.proportions import Counts
from experiments.simulate import History, Planted, simulate, standard_effects


def test_the_planned_size_has_the_planned_power() -> None:
    for ratio in (1.0, 3.0):
        n = power.sample_size_proportion(0.2, 0.03, alpha=0.05, power=0.8, ratio=ratio, comparisons=2)
        shown = power.power_proportion(0.2, 0.03, n_arm=round(ratio * n), n_control=n, alpha=0.05, comparisons=2)
        assert shown == pytest.approx(0.8, abs=0.002)
    n = power.sample_size_mean(40.0, 3.0, alpha=0.05, power=0.9, comparisons=2)
    assert power.power_mean(40.0, 3.0, n_arm=n, n_control=n, alpha=0.05, comparisons=2) == pytest.approx(0.9, abs=0.001)


def test_the_smallest_detectable_effect_inverts_the_size() -> None:
    n = power.sample_size_proportion(0.2, 0.03, alpha=0.05, power=0.8)
    effect = power.smallest_detectable_effect_proportion(0.2, n, n, alpha=0.05, power=0.8)
    assert effect == pytest.approx(0.03, rel=1e-3)
    huge = power.smallest_detectable_effect_mean(50.0, 2_000_000, 1_000_000, alpha=0.05, power=0.8)
    assert huge == pytest.approx(2.8016 * 50 * np.sqrt(1.5e-6), rel=1e-3)


def test_every_size_has_a_smallest_detectable_effect_of_means() -> None:
    """SciPy's noncentral t gives nan in the far lower tail at some degrees of freedom, 248 among them."""
    for n_arm, n_control in [(206, 44), *((n, n) for n in range(2, 120))]:
        effect = power.smallest_detectable_effect_mean(0.4, n_arm, n_control, alpha=0.0125, power=0.8)
        assert effect is not None
        shown = power.power_mean(0.4, effect, n_arm=n_arm, n_control=n_control, alpha=0.0125)
        assert shown == pytest.approx(0.8, abs=1e-6)
        surely = power.power_mean(0.4, 100.0, n_arm=n_arm, n_control=n_control, alpha=0.0125)
        assert surely == pytest.approx(1.0, abs=1e-9)


def test_what_cannot_be_shown_is_none_and_what_makes_no_sense_is_refused() -> None:
    assert power.smallest_detectable_effect_proportion(0.9, 5, 5, alpha=0.05, power=0.8) is None
    assert power.smallest_detectable_effect_proportion(1.0, 50, 50, alpha=0.05, power=0.8) is None
    assert power.smallest_detectable_effect_mean(1.0, 1, 1, alpha=0.05, power=0.8) is None
    assert power.power_proportion(0.2, 0.1, n_arm=0, n_control=5, alpha=0.05) == 0.0
    assert power.power_proportion(0.0, 1.0, n_arm=9, n_control=9, alpha=0.05) == 1.0
    assert power.power_mean(1.0, 1.0, n_arm=1, n_control=1, alpha=0.05) == 0.0
    for call in (
        lambda: power.sample_size_proportion(0.2, 0.0, alpha=0.05, power=0.8),
        lambda: power.sample_size_proportion(0.9, 0.2, alpha=0.05, power=0.8),
        lambda: power.sample_size_proportion(0.2, 0.1, alpha=0.0, power=0.8),
        lambda: power.sample_size_mean(0.0, 1.0, alpha=0.05, power=0.8),
        lambda: power.sample_size_guardrail(0.0, 0.01, power=0.8),
        lambda: power.sample_size_guardrail_mean(1.0, 0.0, power=0.8),
    ):
        with pytest.raises(ExperimentError, match="power"):
            call()


def test_a_guardrail_needs_its_own_size() -> None:
    # (1.644854 + 0.841621)**2 * 2 * 0.01 * 0.99 / 0.005**2 = 4896.6
    assert power.sample_size_guardrail(0.01, 0.005, power=0.8) == 4897
    assert power.sample_size_guardrail_mean(20.0, 1.0, power=0.8) == 4947
    assert power.cuped_sd(10.0, 0.6) == pytest.approx(8.0)


def test_time_to_decision_counts_inflow_horizon_and_lateness() -> None:
    days = {"horizon_days": 30.0, "lateness_days": 3.0}
    assert power.days_to_decision(1000, waiting=400, inflow_per_day=60, **days) == 43.0
    assert power.days_to_decision(1000, waiting=4000, inflow_per_day=0, **days) == 33.0
    assert power.days_to_decision(1000, waiting=0, inflow_per_day=0, **days) is None


def test_thompson_gives_weight_by_the_chance_of_being_best_above_the_floor() -> None:
    arms = {"a": Counts(60, 200), "b": Counts(20, 200), "control": Counts(22, 200)}
    weights = dict(thompson_weights(arms))
    assert weights["a"] == pytest.approx(0.8)
    assert weights["b"] == weights["control"] == pytest.approx(0.1)
    fresh = dict(thompson_weights(dict.fromkeys(arms, Counts(0, 0))))
    assert list(fresh.values()) == pytest.approx([1 / 3] * 3)
    assert sum(dict(thompson_weights(arms, floor=1 / 3)).values()) == pytest.approx(1.0)
    with pytest.raises(ExperimentError, match="do not fit"):
        thompson_weights(arms, floor=0.4)


DESIGN = Design(
    experiment_id="e", campaign="c", salt="s", weights=(("a", 0.5), ("control", 0.5)), primary="repurchase",
    horizon_days=30, metrics=("revenue", "margin"), guardrails=(Guardrail("unsubscribed", max_increase_abs=0.01),),
    minimum_effect=Effect(0.04), looks=2,
)  # fmt: skip


def _history(n: int = 6000) -> History:
    rng = np.random.default_rng(1)
    bought = (rng.random(n) < 0.25).astype(float)
    spend = bought * rng.lognormal(3, 1, n)
    columns = {"repurchase": bought, "revenue": spend, "margin": 0.4 * spend}
    return History(columns, rng.integers(0, 20, n).astype(float), {"unsubscribed": 0.003})


def test_a_simulation_is_repeatable_and_finds_what_was_planted() -> None:
    history, told = _history(), []
    nothing, effect, harm = standard_effects(DESIGN, history)
    null = simulate(DESIGN, history, planted=nothing, seed=3, runs=40, progress=told.append)
    assert told == list(range(1, 41))
    assert null == simulate(DESIGN, history, planted=nothing, seed=3, runs=40)
    assert null.false_promotion <= 0.1
    assert null.power is None
    found = simulate(DESIGN, history, planted=effect, seed=3, runs=40)
    assert found.power is not None
    assert found.power > 0.8
    assert found.claimed_over_true is not None
    assert found.claimed_over_true >= 1.0
    assert simulate(DESIGN, history, planted=harm, seed=3, runs=10).stop_harm == 1.0
    assert null.decision_day is not None
    assert 40 <= null.decision_day <= 53
    assert null.to_json()["scenario"] == "none"


def test_effects_on_money_and_costs_are_planted_too() -> None:
    history = _history()
    revenue = Design(
        experiment_id="e", campaign="c", salt="s", weights=(("a", 0.5), ("control", 0.5)), primary="revenue",
        horizon_days=30, metrics=("margin",), minimum_effect=Effect(0.1, "relative"),
    )  # fmt: skip
    up = simulate(revenue, history, planted=Planted("up", lift={"a": 10.0}), seed=1, runs=10)
    assert up.power is not None
    assert up.power > 0.9
    costly = simulate(DESIGN, history, planted=Planted("costly", {"a": 0.06}, cost={"a": 20.0}), seed=1, runs=10)
    assert costly.promotion == 0.0
    down = simulate(DESIGN, history, planted=Planted("down", {"a": -0.1}), seed=1, runs=10)
    assert down.stop_harm > 0.5


def test_a_history_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ExperimentError, match="primary"):
        simulate(DESIGN, History({"revenue": np.ones(50)}), planted=Planted("none"), seed=1)
    with pytest.raises(ExperimentError, match="one length"):
        simulate(DESIGN, History({"repurchase": np.ones(50)}, np.ones(3)), planted=Planted("none"), seed=1)


def test_the_next_weights_learn_within_waves_where_pooled_counts_would_name_the_wrong_arm() -> None:
    # b is better in either wave, but most of it was drawn in the wave in which everybody bought less
    good, poor = {"a": Counts(360, 900), "b": Counts(45, 100)}, {"a": Counts(5, 100), "b": Counts(90, 900)}
    pooled = {arm: Counts(good[arm].successes + poor[arm].successes, 1000) for arm in good}
    assert dict(thompson_weights(pooled))["a"] > 0.85
    assert dict(next_weights([("a", 0.5), ("b", 0.5)], [good, poor]))["b"] > 0.85


def test_without_matured_waves_the_next_weights_are_the_first_ones() -> None:
    first = (("a", 0.3), ("b", 0.0), ("control", 0.7))
    assert next_weights(first, []) == first
    assert next_weights(first, [{"a": Counts(3, 10)}]) == first  # nobody of control: nothing can be compared


def test_an_arm_without_a_share_never_gets_one_and_every_other_keeps_the_floor() -> None:
    first = (("a", 0.3), ("b", 0.0), ("c", 0.3), ("control", 0.4))
    wave = {"a": Counts(900, 1000), "b": Counts(1000, 1000), "c": Counts(1, 1000), "control": Counts(1, 1000)}
    weights = dict(next_weights(first, [wave]))
    assert weights == pytest.approx({"a": 0.8, "b": 0.0, "c": 0.1, "control": 0.1})
    assert next_weights(first, [wave]) == next_weights(first, [wave])


def test_the_floor_leaves_room_among_twenty_one_arms() -> None:
    assert floor_for(3) == 0.1
    assert floor_for(21) * 21 == pytest.approx(0.5)


def test_standardised_counts_are_as_precise_as_the_waves_they_come_from() -> None:
    waves = [{"a": Counts(30, 100), "b": Counts(30, 100)}, {"a": Counts(30, 100), "b": Counts(30, 100)}]
    found = standardise(waves, arms=["a", "b"])
    assert found["a"].share == pytest.approx(0.3, abs=0.005)
    assert found["a"].n == pytest.approx(200, abs=2)
    uneven = standardise([{"a": Counts(30, 100), "b": Counts(3, 10)}, waves[0]], arms=["a", "b"])
    assert uneven["b"].n < 100  # half of what is known of b rests on ten customers
