"""The whole rule, replayed on null and planted experiments: how often it promotes what it should not, and should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.design import Design, Effect, Guardrail
from experiments.power import power_proportion, sample_size_proportion
from experiments.simulate import History, Planted, simulate, standard_effects

DESIGN = Design(
    experiment_id="e",
    campaign="c",
    salt="s",
    weights=(("a", 0.25), ("b", 0.25), ("d", 0.25), ("control", 0.25)),
    primary="repurchase",
    horizon_days=30,
    metrics=("revenue", "margin"),
    guardrails=(Guardrail("unsubscribed", max_increase_abs=0.01),),
    minimum_effect=Effect(0.0),
)


def _history(n: int, *, heavy: float = 1.0) -> History:
    rng = np.random.default_rng(31)
    bought = (rng.random(n) < 0.25).astype(float)
    revenue = bought * rng.lognormal(3.0, heavy, n)
    return History({"repurchase": bought, "revenue": revenue, "margin": 0.4 * revenue}, None, {"unsubscribed": 0.004})


@pytest.mark.parametrize("looks", [1, 4])
def test_null_arms_are_promoted_in_at_most_five_percent(looks: int) -> None:
    # the minimum effect is 0 here, so that significance and margin alone hold the rate
    found = simulate(replace(DESIGN, looks=looks), _history(8000), planted=Planted("none"), seed=1, runs=300)
    assert found.false_promotion <= 0.05
    assert found.stop_harm <= 0.05


@pytest.mark.parametrize("weights", [(("a", 0.5), ("control", 0.5)), (("a", 20 / 21), ("control", 1 / 21))])
def test_null_money_is_promoted_in_at_most_five_percent_even_twenty_to_one(weights: tuple) -> None:
    design = replace(DESIGN, weights=weights, primary="revenue", metrics=("margin",), looks=4)
    found = simulate(design, _history(12_000, heavy=2.0), planted=Planted("none"), seed=2, runs=400)
    assert found.false_promotion <= 0.05


@pytest.mark.parametrize("looks", [1, 4])
def test_the_planned_power_is_reached_by_the_whole_design(looks: int) -> None:
    """Planned for 80 % at two arms; four looks cost less than a point. At the minimum effect itself the promotion also
    needs a point estimate of at least that effect, which half of all experiments have."""
    n = sample_size_proportion(0.25, 0.05, alpha=0.05, power=0.8, comparisons=2)
    design = replace(
        DESIGN, weights=(("a", 1 / 3), ("b", 1 / 3), ("control", 1 / 3)), minimum_effect=Effect(0.05), looks=looks
    )
    history = _history(3 * n)
    planted = next(effect for effect in standard_effects(design, history) if effect.name == "minimum_effect")
    found = simulate(design, history, planted=planted, seed=3, runs=500)
    assert power_proportion(0.25, 0.05, n_arm=n, n_control=n, alpha=0.05, comparisons=2) == pytest.approx(
        0.8, abs=0.002
    )
    assert found.power == pytest.approx(0.80, abs=0.03)  # 500 runs: standard error 1.8 points
    assert found.promotion is not None
    assert 0.4 <= found.promotion <= 0.6
    assert found.claimed_over_true is not None
    assert found.shrunk_over_true is not None
    assert found.shrunk_over_true < found.claimed_over_true


def test_harm_is_stopped_and_never_promoted() -> None:
    history = _history(6000)
    design = replace(DESIGN, looks=4, minimum_effect=Effect(0.02))
    harm = next(effect for effect in standard_effects(design, history) if effect.name == "harm")
    both = Planted("lift and harm", lift=dict.fromkeys(design.arms, 0.06), harm=harm.harm)
    found = simulate(design, history, planted=both, seed=4, runs=100)
    assert found.false_promotion <= 0.05
    assert found.stop_harm >= 0.8
