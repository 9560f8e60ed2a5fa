"""Cluster-robust comparisons: against statsmodels' sandwich, and by the coverage of their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.aggregates import Moments
from experiments.clusters import MEMBERS, as_asked, cluster_moments, clustered, design_effect
from experiments.compare import compare, compare_all
from experiments.design import Design, Effect
from experiments.errors import ExperimentError
from experiments.metrics import METRICS, Metric

SPEND = Metric("spend", "mean", ("spend",))


def households(rng: np.random.Generator, n: int, *, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """n households of 1 to 5 customers: whose each is, and a value of which the share `shared` of variance is common."""
    sizes = rng.integers(1, 6, n)
    of = np.repeat(np.arange(n), sizes)
    common, own = rng.normal(size=n)[of], rng.normal(size=of.size)
    return of, 10.0 + math.sqrt(shared) * common + math.sqrt(1.0 - shared) * own


def test_the_standard_error_is_that_of_statsmodels_clustered_by_household() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(5)
    sides = [households(rng, n, shared=0.6) for n in (400, 300)]
    arms = {name: cluster_moments({"spend": y}, of) for name, (of, y) in zip(("arm", "control"), sides, strict=True)}
    (ours,) = compare(clustered(SPEND), arms, control="control")
    y = np.concatenate([sides[0][1], sides[1][1]])
    treated = np.concatenate([np.ones(sides[0][1].size), np.zeros(sides[1][1].size)])
    groups = np.concatenate([sides[0][0], 10_000 + sides[1][0]])
    fitted = sm.OLS(y, sm.add_constant(treated)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    assert ours.difference == pytest.approx(fitted.params[1], rel=1e-12)
    assert ours.se == pytest.approx(fitted.bse[1], rel=0.004)  # ours has m / (m - 1) of the m clusters of each arm
    assert (ours.n_arm, ours.n_control) == (400, 300)


def covers(rng: np.random.Generator, *, robust: bool) -> bool:
    """Whether the 95 % interval of one null experiment with common purses holds the true difference of nothing."""
    sides = [households(rng, 250, shared=0.7) for _ in range(2)]
    if robust:
        arms = {name: cluster_moments({"spend": y}, of) for name, (of, y) in zip("ac", sides, strict=True)}
    else:
        arms = {name: Moments.from_rows(("spend",), y[:, None]) for name, (_, y) in zip("ac", sides, strict=True)}
    (found,) = compare(clustered(SPEND) if robust else SPEND, arms, control="c")
    assert found.low is not None
    assert found.high is not None
    return found.low <= 0.0 <= found.high


def test_intervals_between_households_cover_as_they_say_where_those_between_customers_do_not() -> None:
    rng = np.random.default_rng(20261122)
    runs = 4000
    assert 0.935 <= sum(covers(rng, robust=True) for _ in range(runs)) / runs <= 0.965
    assert sum(covers(rng, robust=False) for _ in range(1000)) / 1000 < 0.85


def test_a_share_is_given_per_customer_under_its_own_kind() -> None:
    rng = np.random.default_rng(1)
    of = np.repeat(np.arange(300), 2)
    bought = {arm: (rng.random(300) < p)[of].astype(float) for arm, p in (("mail", 0.4), ("control", 0.2))}
    design = Design(
        experiment_id="x:1", campaign="x", salt="s", weights=(("mail", 0.5), ("control", 0.5)), primary="repurchase",
        horizon_days=30.0, unit="household", minimum_effect=Effect(0.05),
    )  # fmt: skip
    found = compare_all(design, {arm: cluster_moments({"repurchase": values}, of) for arm, values in bought.items()})[0]
    assert (found.kind, found.method) == ("proportion", "cluster-robust, delta method, Welch t")
    assert found.arm_value == pytest.approx(bought["mail"].mean())
    naive = math.sqrt(sum(v.mean() * (1 - v.mean()) / v.size for v in bought.values()))
    assert found.se == pytest.approx(naive * math.sqrt(2), rel=0.01)  # two who always agree are one


def test_the_design_effect_of_two_who_always_agree_is_two_and_of_strangers_one() -> None:
    rng = np.random.default_rng(2)
    of = np.repeat(np.arange(5000), 2)
    together, apart = (rng.random(5000) < 0.3)[of].astype(float), (rng.random(10_000) < 0.3).astype(float)
    assert design_effect(cluster_moments({"b": together}, of), "b") == pytest.approx(2.0, rel=0.01)
    assert design_effect(cluster_moments({"b": apart}, of), "b") == pytest.approx(1.0, rel=0.05)
    assert design_effect(cluster_moments({"b": np.zeros(10)}, np.arange(10)), "b") is None


def test_pre_period_values_are_taken_out_per_customer_too() -> None:
    revenue = clustered(METRICS["revenue"])
    assert (revenue.columns, revenue.covariate) == (("revenue", MEMBERS), f"pre_revenue/{MEMBERS}")
    assert clustered(METRICS["spend_per_order"]).columns == ("revenue", "orders")
    with pytest.raises(ExperimentError, match="survival"):
        clustered(METRICS["time_to_repurchase"])
    with pytest.raises(ExperimentError, match="one value for each"):
        cluster_moments({"x": [1.0]}, ["a", "b"])
    (blank,) = compare(
        revenue, {"a": Moments.empty(("revenue", MEMBERS)), "c": Moments.empty(("revenue", MEMBERS))}, control="c"
    )
    assert as_asked(blank, METRICS["revenue"]).kind == "mean"
