"""Views: an analysis seen at a planned look, through a prior, and as survival; beside the results, never instead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from experiments.aggregates import Moments, SurvivalCounts
from experiments.compare import counts_of
from experiments.distributions import normal_ppf, normal_sf
from experiments.errors import ExperimentError
from experiments.families import statistic_of
from experiments.metrics import Metric
from experiments.results import Result
from experiments.survival import LogRank, kaplan_meier, log_rank

TUNING = 5000.0  # units around which the confidence sequence is tightest


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a running experiment: number `number` of `of` planned ones, at this share of the planned information.

    `past`: information at the looks already taken (default: evenly spaced).
    """

    number: int
    of: int
    information: float | None = None
    past: tuple[float, ...] = ()
    spending: Literal["obrien_fleming", "pocock"] = "obrien_fleming"

    def __post_init__(self) -> None:
        if self.number < 1 or self.of < 1 or not 0.0 <= self.share <= 1.0:
            at = "" if self.information is None else f" at information {self.information:g}"
            raise ExperimentError(
                f"look {self.number} of {self.of}{at}: numbers start at 1, information is a share of what is planned "
                "(0..1)"
            )

    @property
    def planned(self) -> bool:
        """Whether it is one of the planned looks. Another one is shown but decides nothing."""
        return self.number <= self.of

    @property
    def share(self) -> float:
        """The information at this look (0..1)."""
        return self.information if self.information is not None else min(1.0, self.number / self.of)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookResult:
    """One result at the look: its |z| against the boundary, the interval repeated looks allow, and the one that holds
    at any moment (asymptotic confidence sequence). `crossed` is None where the look was not planned."""

    metric: str
    arm: str
    statistic: float
    crossed: bool | None
    low: float | None
    high: float | None
    always_low: float
    always_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LookView:
    """The look with its boundary (critical |z|) and nominal level; both None before information or if not planned."""

    number: int
    of: int
    information: float
    planned: bool
    boundary: float | None
    level: float | None
    results: tuple[LookResult, ...]

    @property
    def line(self) -> str:
        """One line that says which look it is, with its boundary."""
        boundary = "no boundary: nothing may be decided" if self.boundary is None else f"boundary z {self.boundary:.2f}"
        return f"Look {self.number} of {self.of}, information {self.information:.0%}, {boundary}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is believed before: Beta(`a`, `b`) of every share; a normal around 0 with sd `effect_sd` of every other
    effect (in the metric's unit; None: flat)."""

    a: float = 1.0
    b: float = 1.0
    effect_sd: float | None = None

    def __post_init__(self) -> None:
        if self.a <= 0.0 or self.b <= 0.0 or (self.effect_sd is not None and self.effect_sd <= 0.0):
            raise ExperimentError(f"prior: parameters must be above 0, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BayesResult:
    """Chance that the arm is better than control, and what choosing either is expected to lose (the metric's unit).

    `mean`, `low`, `high`: the difference's posterior mean and central 95 % interval (normal).
    """

    metric: str
    arm: str
    prior: str
    chance_to_beat_control: float
    loss_of_arm: float
    loss_of_control: float
    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalArm:
    """One arm: units, events, the share still without the event at the horizon (log-log limits), the median time."""

    arm: str
    n: int
    events: int
    at_horizon: float | None
    low: float | None
    high: float | None
    median: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalView:
    """A survival metric of all arms together: log-rank test (stratified where there are strata) and the arms."""

    metric: str
    horizon: float | None
    log_rank: LogRank
    stratified: bool
    arms: tuple[SurvivalArm, ...]

    @property
    def line(self) -> str:
        """One line that says what the log-rank test over all arms finds."""
        p = self.log_rank.p_value
        horizon = "no common horizon" if self.horizon is None else f"to {self.horizon:g}"
        test = "stratified log-rank" if self.stratified else "log-rank"
        return f"{self.metric}, {horizon}, {test} p {'not known' if p is None else f'= {p:.3g}'}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"log_rank": self.log_rank._asdict()}


def look_view(results: Sequence[Result], look: Look, *, alpha: float) -> LookView:
    """The results at a look: Lan-DeMets boundary, repeated confidence intervals, confidence sequences.

    An arm crosses where its p, adjusted over the arms, is at most the look's nominal level. Source: Lan and DeMets
    1983; Jennison and Turnbull 1989 (difference -+ boundary * se); arXiv 2103.06476.
    """
    from experiments.sequential import LookPlan, planned_boundary

    boundary = math.inf
    if look.planned:
        plan = LookPlan(look.number, True, look.number == look.of, look.share)
        boundary = planned_boundary(plan, looks=look.of, past=look.past, alpha=alpha, spending=look.spending)
    known = boundary if math.isfinite(boundary) else None
    level = None if known is None else 2.0 * normal_sf(known)
    shown = tuple(_at_look(result, look, known, level, alpha) for result in results if result.usable and result.se)
    return LookView(
        number=look.number,
        of=look.of,
        information=look.share,
        planned=look.planned,
        boundary=known,
        level=level,
        results=shown,
    )


def bayes_view(
    metrics: Sequence[Metric], results: Sequence[Result], moments: Mapping[str, Mapping[str, Moments]], prior: Prior
) -> tuple[BayesResult, ...]:
    """Every usable result through the prior; shares (without covariate) by Beta-Binomial, everything else Gaussian."""
    by_name = {metric.name: metric for metric in metrics}
    return tuple(
        _share_posterior(by_name[result.metric], result, moments[result.metric], prior)
        if result.kind == "proportion" and not result.method.startswith("CUPED")
        else _effect_posterior(by_name[result.metric], result, prior)
        for result in results
        if result.usable and result.se
    )


def survival_view(
    metric: Metric,
    arms: Mapping[str, SurvivalCounts],
    *,
    horizon: float | None,
    strata: Mapping[str, Mapping[str, SurvivalCounts]] | None = None,
) -> SurvivalView:
    """Kaplan-Meier at the horizon per arm, and the (stratified) log-rank test of all arms."""
    from experiments.survival import common_horizon, stratified_log_rank

    until = common_horizon(arms) if horizon is None else horizon
    test = stratified_log_rank(list(strata.values())) if strata else log_rank(arms)
    return SurvivalView(
        metric=metric.name,
        horizon=until,
        log_rank=test,
        stratified=bool(strata),
        arms=tuple(_survival_arm(name, counts, until) for name, counts in arms.items()),
    )


def _at_look(result: Result, look: Look, boundary: float | None, level: float | None, alpha: float) -> LookResult:
    from experiments.sequential import sequence_half_width

    gap, se = result.difference or 0.0, result.se or 0.0
    p = result.p_adjusted if result.p_adjusted is not None else result.p_value
    half = sequence_half_width(se, result.n_arm + result.n_control, alpha=alpha, tuning=TUNING)
    return LookResult(
        metric=result.metric,
        arm=result.arm,
        statistic=math.copysign(statistic_of(result.p_value or 0.0), gap),
        crossed=(level is not None and p is not None and p <= level) if look.planned else None,
        low=None if boundary is None else gap - boundary * se,
        high=None if boundary is None else gap + boundary * se,
        always_low=gap - half,
        always_high=gap + half,
    )


def _share_posterior(metric: Metric, result: Result, arms: Mapping[str, Moments], prior: Prior) -> BayesResult:
    from experiments.bayes import BetaPrior, beta_chance

    arm, control = (counts_of(arms[name], metric) for name in (result.arm, result.control))
    chance = beta_chance(arm, control, prior=BetaPrior(prior.a, prior.b))
    better = chance.arm_beats_control if metric.higher_is_better else 1.0 - chance.arm_beats_control
    losses = (chance.loss_of_arm, chance.loss_of_control)
    shares = [((prior.a + side.successes), (prior.b + side.n - side.successes)) for side in (arm, control)]
    means = [a / (a + b) for a, b in shares]
    spread = math.sqrt(sum(m * (1.0 - m) / (a + b + 1.0) for m, (a, b) in zip(means, shares, strict=True)))
    half = normal_ppf(0.975) * spread
    gap = means[0] - means[1]
    return BayesResult(
        metric=result.metric,
        arm=result.arm,
        prior=f"Beta({prior.a:g}, {prior.b:g})",
        chance_to_beat_control=better,
        loss_of_arm=losses[0] if metric.higher_is_better else losses[1],
        loss_of_control=losses[1] if metric.higher_is_better else losses[0],
        mean=gap,
        low=gap - half,
        high=gap + half,
    )


def _effect_posterior(metric: Metric, result: Result, prior: Prior) -> BayesResult:
    from experiments.bayes import gaussian_lift

    view = gaussian_lift(result.difference or 0.0, result.se or 1.0, prior_sd=prior.effect_sd)
    low, high = view.posterior.interval()
    better, losses = view.chance_to_beat_control, (view.loss_of_arm, view.loss_of_control)
    if not metric.higher_is_better:
        better, losses = 1.0 - better, (losses[1], losses[0])
    return BayesResult(
        metric=result.metric,
        arm=result.arm,
        prior="flat" if prior.effect_sd is None else f"Normal(0, {prior.effect_sd:g})",
        chance_to_beat_control=better,
        loss_of_arm=losses[0],
        loss_of_control=losses[1],
        mean=view.posterior.mean,
        low=low,
        high=high,
    )


def _survival_arm(name: str, counts: SurvivalCounts, horizon: float | None) -> SurvivalArm:
    curve = kaplan_meier(counts)
    at = None if horizon is None or not counts.n else curve.at(horizon)
    past = [i for i, time in enumerate(curve.times) if horizon is not None and time <= horizon]
    return SurvivalArm(
        arm=name,
        n=counts.n,
        events=sum(counts.events),
        at_horizon=at,
        low=curve.low[past[-1]] if past else None,
        high=curve.high[past[-1]] if past else None,
        median=curve.median,
    )
