"""Other libraries agree on random data: statsmodels, scipy, lifelines, tea-tasting (on pandas), scikit-uplift."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import power, proportions
from experiments.aggregates import Moments, SurvivalCounts
from experiments.analysis import analyze
from experiments.bayes import BetaPrior, beta_chance
from experiments.compare import compare
from experiments.dunnett import dunnett
from experiments.means import Sample, noninferiority, permutation, pooled
from experiments.metrics import Metric
from experiments.multiplicity import benjamini_hochberg, benjamini_yekutieli, hochberg, holm
from experiments.proportions import Counts
from experiments.strata import cochran_mantel_haenszel, cochran_q, post_stratify
from experiments.survival import kaplan_meier, log_rank, restricted_mean, rmst_difference, stratified_log_rank
from experiments.uplift import uplift_report

SEEDS = range(5)


def _survival(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    times = np.minimum(rng.geometric(0.05, n), 40)
    events = (times < 40) & (rng.random(n) < 0.8)
    return times, events.astype(int), rng.integers(0, 3, n), rng.integers(0, 4, n)


def _by(times: np.ndarray, events: np.ndarray, groups: np.ndarray) -> dict[str, SurvivalCounts]:
    return {str(g): SurvivalCounts.from_times(times[groups == g], events[groups == g]) for g in np.unique(groups)}


@pytest.mark.parametrize("seed", SEEDS)
def test_kaplan_meier_agrees_with_lifelines(seed: int) -> None:
    from lifelines import KaplanMeierFitter

    times, events, _, _ = _survival(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lifelines' own, about pandas
        fitter = KaplanMeierFitter().fit(times, events)
    curve = kaplan_meier(SurvivalCounts.from_times(times, events))
    theirs = fitter.survival_function_["KM_estimate"]
    limits = fitter.confidence_interval_survival_function_
    for index, time in enumerate(curve.times):
        assert curve.survival[index] == pytest.approx(theirs.loc[time], rel=1e-9)
        if curve.low[index] is not None:
            assert (curve.low[index], curve.high[index]) == pytest.approx(tuple(limits.loc[time]), rel=1e-8)
    assert curve.median == fitter.median_survival_time_


@pytest.mark.parametrize("seed", SEEDS)
def test_log_rank_agrees_with_statsmodels_for_three_arms_and_strata(seed: int) -> None:
    from statsmodels.duration.survfunc import survdiff

    times, events, arms, strata = _survival(seed)
    chi2, p = survdiff(times, events, arms)
    test = log_rank(_by(times, events, arms))
    assert (test.chi2, test.p_value, test.df) == pytest.approx((chi2, p, 2))
    chi2, p = survdiff(times, events, arms, weight_type="gb")
    assert log_rank(_by(times, events, arms), weights="gehan").chi2 == pytest.approx(chi2)
    chi2, p = survdiff(times, events, arms, strata=strata)
    parts = [_by(times[strata == s], events[strata == s], arms[strata == s]) for s in range(4)]
    assert stratified_log_rank(parts).chi2 == pytest.approx(chi2)


@pytest.mark.parametrize("seed", SEEDS)
def test_restricted_mean_agrees_with_lifelines_and_its_error_with_simulation(seed: int) -> None:
    from lifelines import KaplanMeierFitter
    from lifelines.utils import restricted_mean_survival_time

    times, events, _, _ = _survival(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = restricted_mean_survival_time(KaplanMeierFitter().fit(times, events), t=30)
    assert restricted_mean(SurvivalCounts.from_times(times, events), horizon=30).value == pytest.approx(expected)


def test_the_error_of_the_restricted_mean_is_the_spread_over_samples() -> None:
    rng = np.random.default_rng(11)
    values, errors = [], []
    for _ in range(400):
        times = np.minimum(rng.geometric(0.05, 300), rng.integers(10, 60, 300))
        events = rng.random(300) < 0.9
        mean = restricted_mean(SurvivalCounts.from_times(times, events), horizon=30)
        values.append(mean.value)
        errors.append(mean.se)
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.08)


def test_without_censoring_the_restricted_mean_is_a_plain_mean() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.geometric(0.06, 500), rng.geometric(0.08, 400)
    counts = [SurvivalCounts.from_times(t, np.ones_like(t)) for t in (first, second)]
    result = rmst_difference(counts[0], counts[1], horizon=25)
    capped = [np.minimum(t, 25) for t in (first, second)]
    assert result.difference == pytest.approx(capped[0].mean() - capped[1].mean())
    assert result.se == pytest.approx(math.sqrt(sum(t.var() / t.size for t in capped)), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_stratified_tables_agree_with_statsmodels(seed: int) -> None:
    from statsmodels.stats.contingency_tables import StratifiedTable

    rng = np.random.default_rng(seed)
    strata = [tuple(Counts(int(rng.integers(1, n)), int(n)) for n in rng.integers(20, 90, 2)) for _ in range(4)]
    tables = [[[c.successes, c.n - c.successes] for c in pair] for pair in strata]
    theirs = StratifiedTable([np.array(table) for table in tables])
    ours = cochran_mantel_haenszel(strata)
    assert ours.chi2 == pytest.approx(theirs.test_null_odds(correction=False).statistic)
    assert ours.p_value == pytest.approx(theirs.test_null_odds(correction=False).pvalue)
    assert ours.odds_ratio == pytest.approx(theirs.oddsratio_pooled)
    corrected = cochran_mantel_haenszel(strata, correction=True)
    assert corrected.chi2 == pytest.approx(theirs.test_null_odds(correction=True).statistic)


@pytest.mark.parametrize("seed", SEEDS)
def test_cochran_q_agrees_with_statsmodels(seed: int) -> None:
    from statsmodels.stats.meta_analysis import combine_effects

    rng = np.random.default_rng(seed)
    effects, errors = rng.normal(0.1, 0.2, 6), rng.uniform(0.05, 0.2, 6)
    theirs = combine_effects(effects, errors**2, method_re="chi2")
    ours = cochran_q(effects.tolist(), errors.tolist())
    assert (ours.q, ours.pooled, ours.i2) == pytest.approx((theirs.q, theirs.mean_effect_fe, max(0.0, theirs.i2)))
    assert ours.p_value == pytest.approx(stats.chi2.sf(theirs.q, 5))


def test_post_stratification_is_the_regression_on_strata_and_gains_precision() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(8)
    stratum = rng.integers(0, 3, 3000)
    arm = rng.integers(0, 2, 3000)
    y = 10.0 * stratum + arm * (1.0 + stratum) + rng.normal(0, 1, 3000)
    pairs = [tuple(Moments.from_rows(("y",), y[(stratum == s) & (arm == a)]) for a in (1, 0)) for s in range(3)]
    ours = post_stratify(pairs, column="y")
    assert ours is not None
    dummies = np.column_stack([stratum == 1, stratum == 2]).astype(float)
    centred = dummies - dummies.mean(axis=0)
    design = np.column_stack([np.ones(3000), arm, dummies, arm[:, None] * centred])
    fit = sm.OLS(y, design).fit(cov_type="HC2")
    # fully interacted regression with HC2 errors: the same estimate and error as weighting the strata (Lin 2013)
    assert (ours.difference, ours.se) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-9)
    raw = math.sqrt(sum(y[arm == a].var(ddof=1) / (arm == a).sum() for a in (0, 1)))
    assert ours.se < 0.2 * raw


@pytest.mark.parametrize("seed", SEEDS)
def test_multiple_testing_agrees_with_statsmodels(seed: int) -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = (np.random.default_rng(seed).random(9) ** 3).tolist()
    pairs = (
        (holm, "holm"),
        (hochberg, "simes-hochberg"),
        (benjamini_hochberg, "fdr_bh"),
        (benjamini_yekutieli, "fdr_by"),
    )
    for ours, name in pairs:
        assert ours(p_values) == pytest.approx(multipletests(p_values, method=name)[1].tolist())
    assert holm([]) == benjamini_hochberg([]) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_intervals_of_shares_agree_with_statsmodels(seed: int) -> None:
    from statsmodels.stats import proportion

    rng = np.random.default_rng(seed)
    n1, n0 = (int(n) for n in rng.integers(20, 500, 2))
    x1, x0 = int(rng.integers(1, n1)), int(rng.integers(1, n0))
    arm, control = Counts(x1, n1), Counts(x0, n0)
    confint = proportion.confint_proportions_2indep
    assert proportions.newcombe(arm, control) == pytest.approx(confint(x1, n1, x0, n0, method="newcomb"))
    assert proportions.agresti_caffo(arm, control) == pytest.approx(confint(x1, n1, x0, n0, method="agresti-caffo"))
    assert proportions.clopper_pearson(arm) == pytest.approx(proportion.proportion_confint(x1, n1, method="beta"))
    test = proportion.test_proportions_2indep(x1, n1, x0, n0, method="score")
    assert proportions.score_test(arm, control).p_value == pytest.approx(test.pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_power_agrees_with_statsmodels(seed: int) -> None:
    from statsmodels.stats.power import TTestIndPower

    rng = np.random.default_rng(seed)
    effect, ratio = float(rng.uniform(0.02, 0.5)), float(rng.uniform(0.2, 4.0))
    theirs = TTestIndPower().solve_power(effect_size=effect, alpha=0.05, power=0.8, ratio=ratio)
    assert power.mean_size(1.0, effect, alpha=0.05, power=0.8, ratio=ratio) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize(("sizes", "seed"), [((30, 30, 30), 1), ((80, 20, 40), 2), ((15, 60, 25, 40), 3)])
def test_dunnett_agrees_with_scipy(sizes: tuple, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.normal(0.3 * (i > 0), 1.0, n) for i, n in enumerate(sizes)]
    samples = [Sample.of(Moments.from_rows(("y",), values), "y") for values in rows]
    ours, theirs = dunnett(samples[1:], samples[0]), stats.dunnett(*rows[1:], control=rows[0], random_state=1)
    np.testing.assert_allclose(ours.statistics, theirs.statistic, rtol=1e-9)
    np.testing.assert_allclose(ours.p_values, theirs.pvalue, atol=1e-3)  # scipy integrates by quasi Monte Carlo
    interval = theirs.confidence_interval(0.95)
    np.testing.assert_allclose(ours.low, interval.low, atol=5e-3)


def test_dunnett_over_results_agrees_with_scipy() -> None:
    rng = np.random.default_rng(41)
    arms = {name: rng.normal(shift, 3.0, 3000) for name, shift in (("a", 0.18), ("b", 0.0), ("c", -0.1), ("z", 0.0))}
    moments = {name: Moments.from_rows(("x",), values) for name, values in arms.items()}
    found = compare(Metric("x", "mean", ("x",)), moments, control="z", adjust="dunnett")
    expected = stats.dunnett(arms["a"], arms["b"], arms["c"], control=arms["z"], random_state=1)
    assert [result.p_adjusted for result in found] == pytest.approx(expected.pvalue, abs=0.003)


@pytest.mark.parametrize("sizes", [(950, 50), (40, 700)])
def test_the_permutation_moments_match_shuffled_rows(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    rows = rng.lognormal(0.0, 1.0, sum(sizes))
    samples = [Sample.of(Moments.from_rows(("y",), part), "y") for part in (rows[: sizes[0]], rows[sizes[0] :])]
    gap = samples[0].mean - samples[1].mean
    total, n = rows.sum(), sizes[0]
    shuffled = np.array([rng.permutation(rows)[:n].sum() for _ in range(20_000)])
    gaps = shuffled / n - (total - shuffled) / sizes[1]
    tails = 2 * min((gaps >= gap).mean(), (gaps <= gap).mean())
    assert permutation(*samples).p_value == pytest.approx(tails, abs=0.02)
    skew = permutation(*samples).skew
    assert skew == pytest.approx(stats.skew(gaps), abs=0.12)


def test_pooled_and_noninferiority_agree_with_scipy() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.normal(1.0, 2.0, 60), rng.normal(0.8, 2.0, 90)
    samples = [Sample.of(Moments.from_rows(("y",), values), "y") for values in (first, second)]
    assert pooled(*samples).p_value == pytest.approx(stats.ttest_ind(first, second).pvalue)
    one_sided = stats.ttest_ind(first + 0.5, second, equal_var=False, alternative="greater")
    assert noninferiority(samples[0], samples[1], margin=0.5).p_value == pytest.approx(one_sided.pvalue)


@pytest.mark.parametrize("prior", [BetaPrior(), BetaPrior(0.5, 0.5), BetaPrior(3.0, 40.0)])
@pytest.mark.parametrize("counts", [(Counts(3, 12), Counts(0, 9)), (Counts(260, 5000), Counts(210, 5100))])
def test_beta_posteriors_agree_with_draws(prior: BetaPrior, counts: tuple[Counts, Counts]) -> None:
    rng = np.random.default_rng(1)
    arm, control = (rng.beta(prior.a + c.successes, prior.b + c.n - c.successes, 400_000) for c in counts)
    chance = beta_chance(*counts, prior=prior)
    assert chance.arm_beats_control == pytest.approx((arm > control).mean(), abs=4e-3)
    assert chance.loss_of_arm == pytest.approx(np.maximum(control - arm, 0).mean(), rel=0.03, abs=1e-6)
    assert chance.loss_of_control == pytest.approx(np.maximum(arm - control, 0).mean(), rel=0.03, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_qini_and_auuc_agree_with_scikit_uplift(seed: int) -> None:
    from sklift.metrics import qini_auc_score, uplift_auc_score

    rng = np.random.default_rng(seed)
    n = 800
    treated, trait = rng.integers(0, 2, n), rng.random(n)
    outcome = (rng.random(n) < 0.2 + 0.3 * treated * trait).astype(int)
    score = np.round(trait + rng.normal(0, 0.4, n), 1)
    report = uplift_report(outcome, treated, score, held_out=np.ones(n, dtype=bool))
    assert report.qini == pytest.approx(qini_auc_score(outcome, score, treated))
    assert report.auuc == pytest.approx(uplift_auc_score(outcome, score, treated))


RATIOS = ("aov", "aov_cuped", "aov_by_mean")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_analysis_agrees_with_tea_tasting(seed: int) -> None:
    import tea_tasting as tt

    rng = np.random.default_rng(seed)
    n = 1200
    arm = rng.integers(0, 2, n)
    orders = rng.poisson(1.0 + 0.1 * arm) + 1
    spend = orders * rng.gamma(2.0, 10.0, n)
    table = pd.DataFrame({"arm": arm, "spend": spend, "orders": orders, "before": spend * 0.5 + rng.normal(20, 9, n)})
    table["earlier"] = np.maximum(1, orders + rng.integers(-1, 2, n))
    theirs = tt.Experiment(
        plain=tt.Mean("spend"),
        cuped=tt.Mean("spend", "before"),
        aov=tt.RatioOfMeans("spend", "orders"),
        aov_cuped=tt.RatioOfMeans("spend", "orders", "before", "earlier"),
        aov_by_mean=tt.RatioOfMeans("spend", "orders", "before"),
    )
    expected = theirs.analyze(table.rename(columns={"arm": "variant"}), control=0)
    ours = analyze(
        table, arm="arm", control="0",
        metrics=["plain=spend:mean", "cuped=spend:mean", *(f"{name}=spend/orders:ratio" for name in RATIOS)],
        covariates={"cuped": "before", "aov_cuped": "before/earlier", "aov_by_mean": "before"},
    )  # fmt: skip
    assert [result.metric for result in ours.results] == ["plain", "cuped", *RATIOS]
    for result in ours.results:
        other = expected[result.metric]
        assert result.difference == pytest.approx(other.effect_size, rel=1e-9)
        assert result.p_value == pytest.approx(other.pvalue, rel=1e-7)
        assert (result.low, result.high) == pytest.approx(
            (other.effect_size_ci_lower, other.effect_size_ci_upper), rel=1e-7
        )
