"""Health, survival, strata, segments, CACE, Bayesian view, uplift and lifetime: the cases that have no oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.aggregates import Moments, SurvivalCounts
from experiments.bayes import beta_best, gaussian_lift
from experiments.cace import cace
from experiments.clv import BgNbd, GammaGamma, fit_bgnbd, fit_gamma_gamma
from experiments.distributions import pearson3_ppf, pearson3_sf, root
from experiments.dunnett import dunnett
from experiments.errors import ExperimentError
from experiments.health import balance, contamination, crossover, delivery_gap, srm, srm_by_stratum
from experiments.heterogeneity import segment_report
from experiments.means import Sample
from experiments.metrics import METRICS
from experiments.multiplicity import preferential_bonferroni
from experiments.proportions import Counts, chi2_homogeneity
from experiments.regression import ancova
from experiments.shrinkage import Posterior, expected_loss, prior_spread, shrink
from experiments.strata import cochran_mantel_haenszel, cochran_q, merge_strata, post_stratify
from experiments.survival import kaplan_meier, log_rank, restricted_mean, rmst_difference, stratified_log_rank
from experiments.uplift import uplift_report
from experiments.winsorising import pooled_cap


def test_a_split_is_tested_only_where_there_is_something_to_test() -> None:
    assert srm({"a": 0, "b": 0}, {"a": 1, "b": 1}).p_value is None
    assert srm({"a": 9}, {"a": 1}).healthy
    # an arm without weight leaves the degrees of freedom; customers in it make the split impossible
    assert srm({"a": 5200, "b": 4800, "z": 0}, {"a": 1, "b": 1, "z": 0}).df == 1
    assert srm({"a": 5, "b": 5, "z": 1}, {"a": 1, "b": 1}).p_value == 0.0
    strata = srm_by_stratum({"x": {"a": 70, "b": 30}, "y": {"a": 50, "b": 50}, "z": {}}, {"a": 1, "b": 1})
    assert strata["x"].p_value == pytest.approx(2 * srm({"a": 70, "b": 30}, {"a": 1, "b": 1}).p_value)
    assert strata["z"].p_value is None


def test_arms_that_differed_before_are_seen() -> None:
    rng = np.random.default_rng(1)
    alike = {name: Moments.from_rows(("pre",), rng.normal(10, 3, 500)) for name in ("a", "control")}
    assert (balance(alike, control="control") or 0.0) > 0.001
    apart = alike | {"a": Moments.from_rows(("pre",), rng.normal(12, 3, 500))}
    assert (balance(apart, control="control") or 1.0) < 0.001
    assert balance({}, control="control") is None
    assert (
        balance(
            {"a": Moments.from_rows(("pre",), [1, 1]), "control": Moments.from_rows(("pre",), [1, 1])},
            control="control",
        )
        is None
    )


def test_shares_of_health_are_none_where_nobody_is() -> None:
    assert delivery_gap({"a": 0.9, "b": 0.95, "control": 0.0}) == pytest.approx(0.05)
    assert delivery_gap({"a": 0.9}) is None
    assert contamination(control_assigned=0, control_reached=0) is None
    assert contamination(control_assigned=200, control_reached=1) == 0.005
    assert crossover(assigned=100, in_several_arms=2) == 0.02
    assert crossover(assigned=0, in_several_arms=0) is None


def test_a_curve_ends_where_everybody_had_the_event() -> None:
    curve = kaplan_meier(SurvivalCounts.from_times([1, 2, 2], [1, 1, 1]))
    assert curve.survival == pytest.approx((2 / 3, 0.0))
    assert curve.low[-1] is None
    assert (curve.at(0.5), curve.at(1.0), curve.at(9.0)) == pytest.approx((1.0, 2 / 3, 0.0))
    assert curve.median == 2.0
    assert kaplan_meier(SurvivalCounts.from_times([1, 2], [0, 0])).median is None
    assert kaplan_meier(SurvivalCounts.empty()).times == ()


def test_a_log_rank_without_events_or_arms_has_no_p() -> None:
    never = SurvivalCounts.from_times([5, 5], [0, 0])
    assert log_rank({"a": never, "b": never}).p_value is None
    assert log_rank({"a": never}).chi2 is None
    assert log_rank({"a": never, "b": SurvivalCounts.empty()}).p_value is None
    with pytest.raises(ExperimentError, match="same arms"):
        stratified_log_rank([{"a": never}, {"b": never}])
    with pytest.raises(ExperimentError, match="horizon"):
        restricted_mean(never, horizon=0.0)
    assert rmst_difference(never, never, horizon=4.0).p_value is None


def test_strata_with_an_empty_side_are_never_left_out_silently() -> None:
    full = Moments.from_rows(("y",), [1.0, 2.0, 3.0])
    assert post_stratify([(full, full), (full, Moments.empty(("y",)))], column="y") is None
    assert post_stratify([], column="y") is None
    same = Moments.from_rows(("y",), [2.0, 2.0])
    flat = post_stratify([(same, same), (Moments.empty(("y",)), Moments.empty(("y",)))], column="y")
    assert flat is not None
    assert (flat.difference, flat.p_value) == (0.0, None)
    merged = merge_strata({"x": {"a": full}, "y": {"a": full, "b": same}})
    assert (merged["a"].n, merged["b"].n) == (6, 2)


def test_tables_and_effects_without_variation_have_no_p() -> None:
    assert cochran_mantel_haenszel([(Counts(0, 5), Counts(0, 5)), (Counts(1, 1), Counts(0, 0))]) == (None, None, None)
    assert cochran_q([], []).q is None
    assert cochran_q([0.3], [0.1]).pooled == 0.3
    assert cochran_q([0.3, 0.3], [0.1, 0.1]).i2 == 0.0
    with pytest.raises(ExperimentError, match="2 effects"):
        cochran_q([0.1, 0.2], [0.1])
    with pytest.raises(ExperimentError, match="units in every arm"):
        chi2_homogeneity([Counts(0, 5), Counts(0, 5)])
    with pytest.raises(ExperimentError, match="Dunnett"):
        dunnett([Sample(1.0, 0.0, 5)], Sample(1.0, 0.0, 5))


def _segment(lift: float, base: float, n: int = 2000) -> dict[str, Moments]:
    return {
        "a": Moments.from_counts("repurchase", n, round(n * (base + lift))),
        "control": Moments.from_counts("repurchase", n, round(n * base)),
    }


def test_segments_are_named_only_when_their_effects_differ() -> None:
    metric = METRICS["repurchase"]
    alike = segment_report(metric, {"x": _segment(0.05, 0.2), "y": _segment(0.05, 0.3)}, arm="a", control="control")
    assert not alike.differ
    assert alike.best is None
    assert {effect.group for effect in alike.effects} == {"unknown"}
    apart = segment_report(
        metric,
        {
            "gold": _segment(0.10, 0.30),
            "loyal": _segment(0.0, 0.60),
            "gone": _segment(0.0, 0.05),
            "annoyed": _segment(-0.08, 0.30),
            "empty": {},
        },
        arm="a",
        control="control",
    )
    assert apart.differ
    assert apart.best == "gold"
    assert [effect.group for effect in apart.effects] == [
        "persuadables", "sure_things", "lost_causes", "sleeping_dogs", "unknown",
    ]  # fmt: skip


def test_the_effect_on_the_reached_is_the_effect_of_intent_over_delivery() -> None:
    rng = np.random.default_rng(5)
    reached = rng.random(4000) < 0.65
    bought = rng.random(4000) < 0.2 + 0.2 * reached
    arm = Moments.from_rows(("bought", "delivered"), np.column_stack([bought, reached]))
    control = Moments.from_rows(("bought", "delivered"), np.column_stack([rng.random(4000) < 0.2, np.zeros(4000)]))
    result = cace(arm, control, outcome="bought")
    assert result.status == "ok"
    assert result.effect == pytest.approx((result.itt or 0.0) / (result.first_stage or 1.0))
    assert result.low is not None
    assert result.high is not None
    assert result.low < 0.2 < result.high
    # two-stage least squares with robust (HC0) errors gives the same error: statsmodels IV2SLS has no HC0, so by hand
    z = np.r_[np.ones(4000), np.zeros(4000)]
    d, y = np.r_[reached, np.zeros(4000)], np.r_[bought, control.mean("bought") * np.ones(4000)]
    residual = y[:4000] - result.effect * d[:4000]
    by_hand = math.sqrt(residual.var(ddof=1) / 4000 + control.var("bought") / 4000) / reached.mean()
    assert result.se == pytest.approx(by_hand)
    assert z.mean() == 0.5


def test_the_effect_on_the_reached_is_refused_where_it_cannot_be_told() -> None:
    few = Moments.from_rows(("bought", "delivered"), [[1.0, 0.05], [0.0, 0.05], [0.0, 0.05]])
    none = Moments.from_rows(("bought", "delivered"), [[1.0, 0.0], [0.0, 0.0]])
    assert cace(few, none, outcome="bought").status == "weak_first_stage"
    assert cace(few.select(("bought",)), none, outcome="bought").status == "delivery_unknown"
    assert cace(Moments.empty(("bought", "delivered")), none, outcome="bought").status == "insufficient_data"
    sure = Moments.from_rows(("bought", "delivered"), [[1.0, 1.0], [1.0, 1.0]])
    nobody = Moments.from_rows(("bought", "delivered"), [[0.0, 0.0], [0.0, 0.0]])
    assert cace(sure, nobody, outcome="bought").status == "zero_variance"


def test_shrinkage_pulls_to_the_prior_by_precision() -> None:
    # prior N(0, 1), estimate 1.96 with standard error 0.6: weight 1 / 1.36
    posterior = shrink(1.96, 0.6, prior_sd=1.0)
    assert posterior.mean == pytest.approx(1.96 / 1.36)
    assert posterior.sd == pytest.approx(0.6 / math.sqrt(1.36))
    assert shrink(1.0, 0.5, prior_sd=0.0) == (0.0, 0.0)
    assert shrink(1.0, 0.0, prior_sd=1.0) == (1.0, 0.0)
    assert expected_loss(Posterior(2.0, 0.0), Posterior(1.0, 0.0)) == 0.0
    assert expected_loss(Posterior(1.0, 0.0), Posterior(2.0, 0.0)) == 1.0


def test_the_spread_of_past_effects_is_found_and_starts_at_the_minimum_effect() -> None:
    assert prior_spread([], [], start=0.1) == pytest.approx(0.1)
    # one exact effect of 0.3 beside a start of 0.1 that counts for four: (4 * 0.01 + 0.09) / 5
    assert prior_spread([0.3], [0.0], start=0.1) == pytest.approx(math.sqrt(0.13 / 5))
    # an estimate that is all noise changes next to nothing, and a hundred exact zeros leave a tenth
    assert prior_spread([0.8], [1.0], start=0.1) == pytest.approx(0.1, rel=0.01)
    assert prior_spread([0.0] * 1000, [0.0] * 1000, start=0.1) == pytest.approx(0.01)
    rng = np.random.default_rng(5)
    errors = rng.uniform(0.02, 0.2, 4000)
    estimates = rng.normal(0.0, 0.06, errors.size) + rng.normal(0.0, errors)
    assert prior_spread(estimates.tolist(), errors.tolist(), start=0.1) == pytest.approx(0.06, rel=0.1)


def test_posteriors_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ExperimentError, match="Beta"):
        beta_best([(0.0, 1.0)])
    with pytest.raises(ExperimentError, match="standard error"):
        gaussian_lift(0.1, 0.0)
    assert gaussian_lift(0.1, 0.2, prior_sd=0.0).loss_of_arm == 0.0


def test_a_score_is_judged_on_held_out_units_only() -> None:
    rng = np.random.default_rng(2)
    n = 1000
    treated, held_out = rng.integers(0, 2, n), rng.random(n) < 0.5
    outcome = rng.integers(0, 2, n)
    memorised = np.where(held_out, rng.random(n), outcome * (2.0 * treated - 1.0))
    report = uplift_report(outcome, treated, memorised, held_out=held_out)
    assert report.n == held_out.sum()
    assert report.qini is not None
    assert abs(report.qini) < 0.2
    with pytest.raises(ExperimentError, match="both arms"):
        uplift_report(outcome, np.ones(n), memorised, held_out=held_out)
    with pytest.raises(ExperimentError, match="same length"):
        uplift_report(outcome, treated, memorised, held_out=held_out[:5])
    nobody = uplift_report(np.zeros(n), treated, memorised, held_out=held_out)
    assert nobody.qini is None


def test_a_skewed_reference_distribution_inverts_and_mirrors() -> None:
    for skew in (-0.8, 0.0, 0.3, 1.5):
        for share in (0.025, 0.5, 0.975):
            assert pearson3_sf(pearson3_ppf(share, skew), skew) == pytest.approx(1 - share)
            assert pearson3_ppf(share, skew) == pytest.approx(-pearson3_ppf(1 - share, -skew))


def test_a_root_beyond_the_range_is_its_nearest_end() -> None:
    assert root(lambda x: x - 5.0, 0.0, 1.0) == 1.0
    assert root(lambda x: x + 5.0, 0.0, 1.0) == 0.0
    assert root(lambda x: x, 0.0, 1.0) == 0.0
    assert root(lambda x: x - 1.0, 0.0, 1.0) == 1.0
    assert root(lambda x: x**3 - 0.2, 0.0, 1.0) == pytest.approx(0.2 ** (1 / 3), rel=1e-12)


def test_small_helpers_refuse_nonsense() -> None:
    with pytest.raises(ExperimentError, match="no values"):
        pooled_cap([0.0, np.nan], 0.9, nonzero=True)
    with pytest.raises(ExperimentError, match="regression"):
        ancova([1.0, 2.0, 3.0], [1, 1, 1], [[1.0], [2.0], [3.0]])
    with pytest.raises(ExperimentError, match="same length"):
        ancova([1.0, 2.0], [1], [[1.0], [2.0]])
    assert preferential_bonferroni(alpha=0.05, primary_share=0.5, arms=2, metrics=1) == (0.025, 0.0)


PUBLISHED = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426, log_likelihood=-9582.4)


def test_lifetime_formulas_give_the_published_example() -> None:
    # Fader, Hardie and Lee's customer 0001: x 2, t_x 30.43, T 38.86 weeks; E[orders in 39 weeks] 1.226
    assert PUBLISHED.expected_orders(39.0, 2, 30.43, 38.86) == pytest.approx(1.226, abs=5e-4)
    assert PUBLISHED.p_alive([0, 2], [0.0, 30.43], [38.86, 38.86])[0] == 1.0
    assert 0.0 < PUBLISHED.p_alive(2, 30.43, 38.86) < 1.0


def test_alive_chances_match_simulated_customers() -> None:
    x, t_x, T, alive = _customers(200_000, seed=1)
    few = (x == 2) & (np.abs(t_x - 20) < 2)
    expected = PUBLISHED.p_alive(x[few], t_x[few], T[few]).mean()
    assert alive[few].mean() == pytest.approx(expected, abs=0.02)


def test_the_fit_finds_the_parameters_that_made_the_data() -> None:
    x, t_x, T, _ = _customers(20_000, seed=2)
    fitted = fit_bgnbd(x, t_x, T)
    assert (fitted.r, fitted.alpha) == pytest.approx((0.243, 4.414), rel=0.1)
    assert (fitted.a, fitted.b) == pytest.approx((0.793, 2.426), rel=0.25)
    grouped = np.unique(np.column_stack([x, np.round(t_x, 1), T]), axis=0, return_counts=True)
    counted = fit_bgnbd(grouped[0][:, 0], grouped[0][:, 1], grouped[0][:, 2], weights=grouped[1])
    assert counted.r == pytest.approx(fitted.r, rel=0.02)
    days = fit_bgnbd(x, t_x * 7, T * 7)
    assert days.alpha == pytest.approx(7 * fitted.alpha, rel=0.01)
    assert days.log_likelihood == pytest.approx(fitted.log_likelihood - x.sum() * math.log(7), rel=1e-6)


def test_the_likelihood_is_that_of_one_customer_by_hand() -> None:
    # x = 0: integrate exp(-lambda T) over Gamma(r, alpha): (alpha / (alpha + T))**r for each of 9 customers, and one
    # repeat buyer more, so that the fit is defined
    from experiments.clv import _bgnbd_terms

    logs = _bgnbd_terms(np.array([0.5, 2.0, 0.7, 2.0]), np.zeros(1), np.zeros(1), np.full(1, 3.0))
    assert logs[0] == pytest.approx(0.5 * math.log(2.0 / 5.0))


def test_order_values_are_fitted_and_shrunk() -> None:
    rng = np.random.default_rng(4)
    nu = rng.gamma(4.0, 1 / 15.0, 20_000)
    count = rng.integers(1, 6, 20_000)
    value = rng.gamma(6.0 * count) / nu / count
    fitted = fit_gamma_gamma(count, value)
    assert (fitted.p, fitted.q, fitted.gamma) == pytest.approx((6.0, 4.0, 15.0), rel=0.15)
    expected = fitted.expected_value([1, 50], [100.0, 100.0])
    population = fitted.p * fitted.gamma / (fitted.q - 1.0)
    assert population < expected[0] < expected[1] < 100.0
    with pytest.raises(ExperimentError, match="no finite mean"):
        GammaGamma(1.0, 0.9, 1.0, 0.0).expected_value(1, 1.0)
    with pytest.raises(ExperimentError, match="at least two"):
        fit_gamma_gamma([1, 0], [5.0, 0.0])


def test_impossible_histories_are_refused() -> None:
    with pytest.raises(ExperimentError, match="purchase history"):
        fit_bgnbd([1], [5.0], [4.0])
    with pytest.raises(ExperimentError, match="repeat purchases"):
        fit_bgnbd([0, 0], [0.0, 0.0], [4.0, 5.0])
    with pytest.raises(ExperimentError, match="a = 1"):
        BgNbd(0.2, 4.0, 1.0, 2.0, 0.0).expected_orders(10.0, 1, 2.0, 3.0)


def _customers(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Customers of a BG/NBD world with the published parameters, observed for 39 weeks."""
    rng = np.random.default_rng(seed)
    rate, quit_chance = rng.gamma(0.243, 1 / 4.414, n), rng.beta(0.793, 2.426, n)
    clock, x, t_x = np.zeros(n), np.zeros(n), np.zeros(n)
    alive = np.ones(n, dtype=bool)
    watching = np.ones(n, dtype=bool)
    while watching.any():
        clock[watching] += rng.exponential(1.0, watching.sum()) / np.maximum(rate[watching], 1e-12)
        watching &= clock < 39.0
        x[watching] += 1
        t_x[watching] = clock[watching]
        quits = watching & (rng.random(n) < quit_chance)
        alive &= ~quits
        watching &= alive
    return x, t_x, np.full(n, 39.0), alive
