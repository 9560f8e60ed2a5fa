"""Every reference number is reproduced: stats_vectors.json, computed with the libraries that each vector names."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import always_valid, bayes, multiplicity, power, proportions, relative, sequential
from experiments.aggregates import Moments, SurvivalCounts
from experiments.compare import ratio_sample
from experiments.cuped import adjustment
from experiments.distributions import normal_ppf, t_ppf, two_sided
from experiments.dunnett import dunnett
from experiments.health import srm
from experiments.means import MeanTest, Sample, welch
from experiments.peer_hashes import growthbook_fraction, planout_fraction, planout_hash
from experiments.proportions import Counts
from experiments.regression import ancova, lin_estimator
from experiments.relative import Mean
from experiments.survival import kaplan_meier, log_rank
from experiments.winsorising import pooled_cap

VECTORS = json.loads((Path(__file__).parent / "stats_vectors.json").read_text(encoding="utf-8"))
Z95 = normal_ppf(0.975)


def _counts(given: dict) -> tuple[Counts, Counts]:
    return Counts(given["x_treat"], given["n_treat"]), Counts(given["x_control"], given["n_control"])


def _shares(given: dict) -> tuple[Sample, Sample]:
    """Shares as samples with variance p (1 - p), as GrowthBook takes them."""
    arm, control = (Sample(side.share, side.share * (1 - side.share), side.n) for side in _counts(given))
    return arm, control


def _means(given: dict) -> tuple[Sample, Sample]:
    return (
        Sample(given["mean_treat"], given["sd_treat"] ** 2, given["n_treat"]),
        Sample(given["mean_control"], given["sd_control"] ** 2, given["n_control"]),
    )


def _welch_fields(test: MeanTest) -> dict:
    return {
        "diff": test.difference,
        "se": test.se,
        "t": test.statistic,
        "df": test.df,
        "p_value": test.p_value,
        "ci95": test.interval(0.95),
    }


def _arms(given: dict, *columns: str) -> dict[str, Moments]:
    rows = np.column_stack([given[column] for column in columns])
    place = np.asarray(given["arm"])
    return {name: Moments.from_rows(columns, rows[place == code]) for code, name in ((1, "arm"), (0, "control"))}


def two_proportion_z(given: dict, _: dict) -> dict:
    arm, control = _counts(given)
    test = proportions.pooled_z(arm, control) if given["pooled"] else proportions.unpooled_z(arm, control)
    return {
        "z": test.statistic,
        "p_value": test.p_value,
        "diff": arm.share - control.share,
        "se": proportions.unpooled_se(arm, control),
        "ci95": proportions.unpooled_interval(arm, control),
    }


def two_proportion_score(given: dict, _: dict) -> dict:
    """p is the product's. The vector's limits come from statsmodels 0.15, whose constrained estimate is not the maximum
    of the likelihood (test_score_interval.py shows it); they are reproduced here with its coefficient."""
    arm, control = _counts(given)
    return {"p_value": proportions.score_test(arm, control).p_value, "ci95": _limits_with_wrong_cubic(arm, control)}


def _limits_with_wrong_cubic(arm: Counts, control: Counts) -> list[float]:
    """The score interval where Miettinen and Nurminen's n0 * d was replaced by x0 * d in the linear coefficient."""
    from scipy.optimize import brentq

    total, hits = arm.n + control.n, arm.successes + control.successes

    def score(d: float) -> float:
        l2 = (arm.n + 2 * control.n) * d - total - hits
        l1 = (control.successes * d - total - 2 * control.successes) * d + hits
        l0 = control.successes * d * (1 - d)
        q = (l2 / (3 * total)) ** 3 - l1 * l2 / (6 * total**2) + l0 / (2 * total)
        p = math.copysign(math.sqrt((l2 / (3 * total)) ** 2 - l1 / (3 * total)), q)
        base = 2 * p * math.cos((math.pi + math.acos(q / p**3)) / 3) - l2 / (3 * total)
        shifted = base + d
        variance = (shifted * (1 - shifted) / arm.n + base * (1 - base) / control.n) * total / (total - 1)
        return (arm.share - control.share - d) / math.sqrt(variance)

    gap = arm.share - control.share
    return [
        brentq(lambda d: score(d) - Z95, -0.05, gap, xtol=1e-14),
        brentq(lambda d: score(d) + Z95, gap, 0.2, xtol=1e-14),
    ]


def proportion_diff_ci(given: dict, _: dict) -> dict:
    arm, control = _counts(given)
    if given["method"].startswith("welch"):
        return _welch_fields(welch(*_shares(given)))
    by_name = {"newcombe": proportions.newcombe, "agresti-caffo": proportions.agresti_caffo}
    return {"ci95": by_name[given["method"]](arm, control)}


def proportion_ci(given: dict, _: dict) -> dict:
    by_name = {"wilson": proportions.wilson, "clopper-pearson": proportions.clopper_pearson}
    return {"ci95": by_name[given["method"]](Counts(given["x"], given["n"]))}


def _table(given: dict) -> tuple[Counts, Counts]:
    arm, control = (Counts(row[0], sum(row)) for row in given["table"])
    return arm, control


def fisher_exact(given: dict, _: dict) -> dict:
    (a, b), (c, d) = given["table"]
    return {"p_value": proportions.fisher(*_table(given)), "sample_odds_ratio": a * d / (b * c)}


def exact_2x2(given: dict, _: dict) -> dict:
    arm, control = _table(given)
    return {"barnard_p": proportions.barnard(arm, control), "boschloo_p": proportions.boschloo(arm, control)}


def relative_lift_ci(given: dict, _: dict) -> dict:
    arm, control = (Mean(side.mean, side.mean_variance) for side in _shares(given))
    if given["method"] == "log-delta":
        lift = relative.log_lift(arm, control, critical=Z95)
        assert lift is not None
        return {"lift": lift.lift, "ci95": (lift.low, lift.high)}
    se = relative.delta_se(arm, control)
    df = _relative_df(given)
    lift = relative.delta_lift(arm, control, critical=t_ppf(0.975, df))
    assert lift is not None
    return {"lift": lift.lift, "se": se, "p_value": two_sided(lift.lift / se, df), "ci95": (lift.low, lift.high)}


def _relative_df(given: dict) -> float:
    """Welch's degrees of freedom of the absolute difference."""
    df = welch(*_shares(given)).df
    assert df is not None
    return df


def chi2_homogeneity(given: dict, _: dict) -> dict:
    chi2, df, p = proportions.chi2_homogeneity([Counts(row[0], sum(row)) for row in given["table"]])
    return {"chi2": chi2, "df": df, "p_value": p}


def welch_t(given: dict, _: dict) -> dict:
    return _welch_fields(welch(*_means(given)))


def cuped(given: dict, expected: dict) -> dict:
    arms = _arms(given, "y", "pre")
    own = adjustment(arms, column="y", covariate="pre")
    assert own is not None
    arm, control = own.sample(arms["arm"]), own.sample(arms["control"])
    fields = _welch_fields(welch(arm, control))
    raw = welch(Sample.of(arms["arm"], "y"), Sample.of(arms["control"], "y"))
    width, raw_width = np.ptp(fields["ci95"]), np.ptp(raw.interval(0.95))
    return fields | {
        "theta": own.theta,
        "adj_control": control.mean,
        "adj_treat": arm.mean,
        "unadjusted_p": raw.p_value,
        "ci_width_ratio": width / raw_width,
    }


def regression_adjustment(given: dict, _: dict) -> dict:
    first = ancova(given["y"], given["arm"], given["pre"])
    second = lin_estimator(given["y"], given["arm"], given["pre"])
    return {
        "ancova_coef": first.effect,
        "ancova_hc3_se": first.se,
        "lin_coef": second.effect,
        "lin_hc3_se": second.se,
    }


def ratio_metric(given: dict, _: dict) -> dict:
    arms = _arms(given, "num", "den")
    arm, control = (ratio_sample(arms[name], "num", "den") for name in ("arm", "control"))
    assert arm is not None
    assert control is not None
    test = welch(arm, control)
    df = relative.log_df(arm, control)
    lift = relative.log_lift(
        Mean(arm.mean, arm.mean_variance), Mean(control.mean, control.mean_variance), critical=t_ppf(0.975, df)
    )
    assert lift is not None
    logs = {"rel_log_ci95": (lift.low, lift.high)}
    return _welch_fields(test) | {"control": control.mean, "treat": arm.mean} | logs


def winsorise(given: dict, _: dict) -> dict:
    values = np.asarray(given["values"])
    everyone, buyers = (pooled_cap(values, given["upper"], nonzero=flag) for flag in (False, True))
    return {
        "cap_all": everyone,
        "mean_all": np.minimum(values, everyone).mean(),
        "cap_nonzero": buyers,
        "mean_nonzero_cap": np.minimum(values, buyers).mean(),
        "raw_mean": values.mean(),
    }


def srm_chi2(given: dict, _: dict) -> dict:
    names = [str(index) for index in range(len(given["counts"]))]
    test = srm(dict(zip(names, given["counts"], strict=True)), dict(zip(names, given["weights"], strict=True)))
    return {"chi2": test.chi2, "df": test.df, "p_value": test.p_value, "flag_at_0_001": not test.healthy}


def sample_size_proportion(given: dict, _: dict) -> dict:
    alpha = given["alpha"] / given.get("comparisons", 1)
    size = power.arcsine_size if given["method"].startswith("arcsine") else power.fleiss_size
    shares = (given["p_control"], given["p_treat"])
    n = size(*shares, alpha=alpha, power=given["power"], ratio=given["ratio"])
    return {"n_control": n, "n_ceil": math.ceil(n), "n_per_arm_ceil": math.ceil(n)}


def sample_size_mean(given: dict, _: dict) -> dict:
    effect = given["mde_abs"] if "mde_abs" in given else given["mean"] * given["rel_mde"]
    n = power.mean_size(given["sd"], effect, alpha=given["alpha"], power=given["power"], ratio=given["ratio"])
    return {"n_per_arm": n, "n_per_arm_ceil": math.ceil(n), "n_total": math.ceil(2 * n)}


def mde_mean(given: dict, _: dict) -> dict:
    n = given["n_per_arm"]
    effect = power.smallest_detectable_effect_mean(given["sd"], n, n, alpha=given["alpha"], power=given["power"])
    return {"mde_abs": effect}


def multiple_testing(given: dict, _: dict) -> dict:
    adjusted = getattr(multiplicity, given["method"])(given["p_values"])
    return {"adjusted": adjusted, "reject": [p <= given["alpha"] for p in adjusted]}


def many_to_one(given: dict, _: dict) -> dict:
    sides = [Sample.of(Moments.from_rows(("y",), given[name]), "y") for name in ("control", "arm1", "arm2")]
    result = dunnett(sides[1:], sides[0])
    return {
        "statistic": result.statistics,
        "p_value": result.p_values,
        "ci95_low": result.low,
        "ci95_high": result.high,
    }


def alpha_allocation(given: dict, _: dict) -> dict:
    primary, other = multiplicity.preferential_bonferroni(
        alpha=given["alpha"], primary_share=given["gamma"], arms=given["treatment_arms"], metrics=given["metrics"]
    )
    return {"alpha_primary": primary, "alpha_other": other}


def _survival_arms(given: dict) -> dict[str, SurvivalCounts]:
    groups = np.asarray(given["arm"] if "arm" in given else given["group"])
    times, events = np.asarray(given["time"]), np.asarray(given["event"])
    return {
        str(name): SurvivalCounts.from_times(times[groups == name], events[groups == name])
        for name in np.unique(groups)
    }


def logrank(given: dict, _: dict) -> dict:
    test = log_rank(_survival_arms(given))
    return {"chi2": test.chi2, "p_value": test.p_value, "z_abs": math.sqrt(test.chi2 or 0.0)}


def logrank_weighted(given: dict, _: dict) -> dict:
    test = log_rank(_survival_arms(given), weights="gehan")
    return {"chi2": test.chi2, "p_value": test.p_value}


def kaplan_meier_curve(given: dict, _: dict) -> dict:
    curve = kaplan_meier(SurvivalCounts.from_times(given["time"], given["event"]))
    linear = curve.linear_interval()
    return {
        "times": curve.times,
        "event_times": [time for time, hit in zip(curve.times, curve.events, strict=True) if hit],
        "survival": curve.survival,
        "ci95_loglog_low": curve.low,
        "ci95_loglog_high": curve.high,
        "ci95_linear_low": [low for low, _ in linear],
        "ci95_linear_high": [high for _, high in linear],
        "greenwood_se_at_events": [se for se, hit in zip(curve.se, curve.events, strict=True) if hit],
    }


def beta_binomial(given: dict, _: dict) -> dict:
    chance = bayes.beta_chance(*_counts(given), prior=bayes.BetaPrior(*given["prior"]))
    return {
        "prob_treat_beats_control": chance.arm_beats_control,
        "expected_loss_choose_treat": chance.loss_of_arm,
        "expected_loss_choose_control": chance.loss_of_control,
    }


def beta_binomial_k_arms(given: dict, _: dict) -> dict:
    return {"prob_best": bayes.beta_best([(a, b) for a, b in given["posterior_beta"]])}


def gaussian_bayes_lift(given: dict, _: dict) -> dict:
    arm, control = (Mean(side.mean, side.mean_variance) for side in _shares(given))
    prior_sd = math.sqrt(given["prior_var"]) if given["proper"] else None
    lift = arm.value / control.value - 1
    view = bayes.gaussian_lift(lift, relative.delta_se(arm, control), prior_mean=given["prior_mean"], prior_sd=prior_sd)
    return {
        "chance_to_win": view.chance_to_beat_control,
        "posterior_mean": view.posterior.mean,
        "posterior_sd": view.posterior.sd,
        "ci95": view.posterior.interval(),
        "risk_control": view.loss_of_control,
        "risk_treat": view.loss_of_arm,
    }


def asymptotic_cs(given: dict, _: dict) -> dict:
    arm, control = (Mean(side.mean, side.mean_variance) for side in _shares(given))
    n, alpha, tuning = given["n_control"] + given["n_treat"], given["alpha"], given["tuning"]
    lift, se = arm.value / control.value - 1, relative.delta_se(arm, control)
    half = sequential.sequence_half_width(se, n, alpha=alpha, tuning=tuning)
    return {
        "rho": sequential.mixture_rho(alpha, tuning=tuning),
        "lift": lift,
        "ci95": (lift - half, lift + half),
        "p_value": sequential.sequence_p_value(lift, se, n, alpha=alpha, tuning=tuning),
    }


def cs_rho(given: dict, _: dict) -> dict:
    return {
        "rho_two_sided": sequential.mixture_rho(given["alpha"], tuning=given["tuning"]),
        "rho_one_sided": sequential.mixture_rho(given["alpha"], tuning=given["tuning"], two_sided=False),
    }


def howard_cs(given: dict, _: dict) -> dict:
    arm, control = (Mean(side.mean, side.mean_variance) for side in _shares(given))
    n, alpha, tuning = given["n_control"] + given["n_treat"], 1 - given["confidence"], given["N_tune"]
    lift, se = arm.value / control.value - 1, relative.delta_se(arm, control)
    half = always_valid.howard_half_width(se, n, tuning=tuning, alpha=alpha)
    return {
        "rho": always_valid.howard_rho(tuning=tuning, alpha=alpha),
        "B": half / se,
        "ci95": (lift - half, lift + half),
    }


def msprt_ci(given: dict, _: dict) -> dict:
    arm, control = _means(given)
    variance = arm.mean_variance + control.mean_variance
    z = always_valid.unit_mixture_critical(
        arm.variance + control.variance, variance, arm.n + control.n, alpha=given["alpha"]
    )
    gap, half = arm.mean - control.mean, z * math.sqrt(variance)
    return {"z_star": z, "ci95": (gap - half, gap + half)}


def msprt(given: dict, _: dict) -> dict:
    test = always_valid.mixture_sprt(
        given["diff"], given["var_of_diff"], mixing_sd=given["mixing_sd"], alpha=given["alpha"]
    )
    return {"likelihood_ratio": test.likelihood_ratio, "p_value": test.p_value, "ci95": (test.low, test.high)}


def group_sequential(given: dict, _: dict) -> dict:
    alpha = given["alpha_one_sided"]
    power_of = {"alpha*t^2": 2, "alpha*t^3": 3}
    spending: Any = "obrien_fleming"
    if given["spending"] in power_of:
        spending = lambda t: alpha * t ** power_of[given["spending"]]  # noqa: E731 - a formula, as in the vector
    return {"z": sequential.boundaries(given["info"], alpha=2 * alpha, spending=spending)}


def assignment_hash(given: dict, _: dict) -> dict:
    if "pairs" in given:
        return {"uniform": [growthbook_fraction(seed, unit) for seed, unit in given["pairs"]]}
    parts = [text.split(".") for text in given["strings"]]
    return {
        "hash": [str(planout_hash(*part)) for part in parts],
        "uniform": [planout_fraction(*part) for part in parts],
    }


KINDS: dict[str, Callable[[dict, dict], dict]] = {
    function.__name__: function
    for function in (
        two_proportion_z, two_proportion_score, proportion_diff_ci, proportion_ci, fisher_exact, exact_2x2,
        relative_lift_ci, chi2_homogeneity, welch_t, cuped, regression_adjustment, ratio_metric, winsorise, srm_chi2,
        sample_size_proportion, sample_size_mean, mde_mean, multiple_testing, many_to_one, alpha_allocation, logrank,
        logrank_weighted, beta_binomial, beta_binomial_k_arms, gaussian_bayes_lift, asymptotic_cs, cs_rho, howard_cs,
        msprt_ci, msprt, group_sequential, assignment_hash,
    )
} | {"kaplan_meier": kaplan_meier_curve}  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_the_reference_number_is_reproduced(vector: dict) -> None:
    got = KINDS[vector["kind"]](vector["inputs"], vector["expected"])
    for name, expected in vector["expected"].items():
        _same(got[name], expected, vector["tolerance"], name)


def _same(got: Any, expected: Any, tolerance: dict, name: str) -> None:
    if isinstance(expected, (str, bool)) or expected is None:
        assert got == expected, name
    elif isinstance(expected, list):
        assert len(got) == len(expected), name
        for one, other in zip(got, expected, strict=True):
            _same(one, other, tolerance, name)
    else:
        assert got == pytest.approx(expected, rel=tolerance["rtol"], abs=tolerance["atol"]), name
