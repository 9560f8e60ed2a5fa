"""Simulation: a design replayed many times on past customers, with effects planted in the arms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from experiments.aggregates import Moments
from experiments.bandit import next_weights
from experiments.compare import compare_all
from experiments.compare_waves import compare_waves
from experiments.decide import decide
from experiments.design import Design
from experiments.errors import ExperimentError
from experiments.evidence import Evidence, Verdict
from experiments.metrics import METRICS
from experiments.proportions import Counts

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DEFAULT_RUNS = 500


@dataclass(frozen=True, slots=True)
class History:
    """What past customers did in a window as long as the horizon, one value per customer and column, nothing sent.

    `columns`: repurchase, revenue, ... (equal lengths). `enrolled_day`: day each would have been enrolled, ascending
    order not needed (all on day 0 where None). `rates`: what shares of customers the guardrails of the ledger meet
    without harm (unsubscribed: 0.003).
    """

    columns: Mapping[str, Array]
    enrolled_day: Array | None = None
    rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Customers."""
        return next((len(values) for values in self.columns.values()), 0)


@dataclass(frozen=True, slots=True)
class Planted:
    """True effects. `lift`: arm -> change of the primary (absolute); `harm`: guardrail -> arm -> rise of its share;
    `cost`: arm -> money taken off every assigned customer's margin."""

    name: str
    lift: Mapping[str, float] = field(default_factory=dict)
    harm: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)

    def is_good(self, arm: str) -> bool:
        """Whether promoting the arm would be right: it lifts and does not harm."""
        harmed = any(arms.get(arm, 0.0) > 0.0 for arms in self.harm.values())
        return self.lift.get(arm, 0.0) > 0.0 and not harmed


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What the rule did over all runs of one planted effect. Rates are shares of runs; None where nothing happened.

    `false_promotion`: an arm that should not be was promoted. `power`: the efficacy gate let an arm through that truly
    lifts. `promotion`: such an arm was promoted. `decision_day`: mean day of the verdict. `claimed_over_true`: mean of
    the promoted arm's raw (`shrunk_over_true`: shrunk) lift over its true one.
    """

    scenario: str
    runs: int
    false_promotion: float
    power: float | None
    promotion: float | None
    stop_harm: float
    verdicts: Mapping[str, int]
    decision_day: float | None
    claimed_over_true: float | None
    shrunk_over_true: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def standard_effects(design: Design, history: History) -> tuple[Planted, ...]:
    """Nothing; the minimum effect in the first arm; and twice the margin of every guardrail of shares, in all arms."""
    base = float(history.columns[METRICS[design.primary].column].mean())
    effect = design.minimum_effect.absolute(base)
    harm = {
        guard.metric: dict.fromkeys(design.arms, 2.0 * guard.margin_at(history.rates[guard.metric]))
        for guard in design.guardrails
        if guard.harm_sign > 0 and guard.metric in history.rates
    }
    return (
        Planted("none"),
        Planted("minimum_effect", lift={design.arms[0]: effect}),
        Planted("harm", harm=harm),
    )


def simulate(
    design: Design,
    history: History,
    *,
    planted: Planted,
    seed: int,
    runs: int = DEFAULT_RUNS,
    prior_sd: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Simulated:
    """Replay the design `runs` times: draw arms, plant the effects, look as planned, decide by the real rule.

    The same seed gives the same result. `prior_sd`: as in `Evidence`. `progress` is told the number of finished runs.
    Raises: ExperimentError where the history lacks the primary's column, has unequal columns or fewer than two
    customers per arm.
    """
    import numpy as np

    _check(design, history)
    order = np.argsort(history.enrolled_day, kind="stable") if history.enrolled_day is not None else None
    names = tuple(history.columns)
    matrix = np.column_stack([np.asarray(history.columns[name], dtype=np.float64) for name in names])
    days = np.zeros(history.n) if order is None else np.asarray(history.enrolled_day, dtype=np.float64)[order]
    world = _World(design, history, planted, names, matrix if order is None else matrix[order], days, prior_sd)
    generator = np.random.default_rng(seed)
    outcomes = []
    for finished in range(1, runs + 1):
        outcomes.append(_run(world, generator))
        if progress is not None:
            progress(finished)
    return _summary(world, outcomes)


@dataclass(frozen=True, slots=True)
class _World:
    design: Design
    history: History
    planted: Planted
    names: tuple[str, ...]
    matrix: Array
    days: Array
    prior_sd: float | None

    @property
    def planned(self) -> Design:
        """The design with the size that this history allows."""
        smallest = min(weight for _, weight in self.design.weights if weight > 0.0)
        return replace(self.design, planned_n=math.floor(len(self.matrix) * smallest))


@dataclass(frozen=True, slots=True)
class _Outcome:
    verdict: Verdict
    day: float
    effective: bool  # the efficacy gate let a truly lifting arm through at some look


def _run(world: _World, generator: Generator) -> _Outcome:
    """One replay: looks in order until a verdict other than keep_testing."""
    if world.design.allocation != "fixed":
        return _run_waves(world, generator)
    design, size = world.planned, len(world.matrix)
    arms = [name for name, _ in design.weights]
    weights = [weight for _, weight in design.weights]
    drawn = generator.choice(len(arms), size=size, p=[weight / sum(weights) for weight in weights])
    matrix, ledger = _plant(world, drawn, generator, slice(None))
    edges = [round(size * look / design.looks) for look in range(design.looks + 1)]
    state: dict[str, Moments] = {}
    counts: dict[str, dict[str, Moments]] = {name: {} for name in ledger}
    effective = False
    past: list[float] = []
    for look in range(1, design.looks + 1):
        part = slice(edges[look - 1], edges[look])
        for place, arm in enumerate(arms):
            mine = drawn[part] == place
            _add(state, arm, Moments.from_rows(world.names, matrix[part][mine]))
            for name, values in ledger.items():
                hits = int(values[part][mine].sum())
                _add(counts[name], arm, Moments.from_counts(name, int(mine.sum()), hits))
        information = edges[look] / size
        verdict = decide(_evidence(design, state, counts, (look, information, tuple(past)), world.prior_sd))
        past.append(information)
        effective = effective or _is_effective(verdict, world.planted)
        if verdict.verdict != "keep_testing":
            break
    day = float(world.days[edges[look] - 1]) + design.horizon_days + design.lateness_days
    return _Outcome(verdict, day, effective)


def _run_waves(world: _World, generator: Generator) -> _Outcome:
    """One replay with learnt shares: days of enrolment in order, each shared out by what had matured; one look."""
    import numpy as np

    design, arms = world.planned, [name for name, _ in world.design.weights]
    wait, column = design.horizon_days + design.lateness_days, METRICS[design.primary].column
    strata: dict[str, dict[str, Moments]] = {}
    ledger: dict[str, dict[str, dict[str, Moments]]] = {name: {} for name in world.history.rates}
    known: list[tuple[float, dict[str, Counts]]] = []
    for day in np.unique(world.days).tolist():
        rows = slice(*np.searchsorted(world.days, (day, np.nextafter(day, np.inf))).tolist())
        shares = next_weights(design.weights, [counts for at, counts in known if at + wait <= day])
        weights = [weight for _, weight in shares]
        drawn = generator.choice(len(arms), size=len(world.days[rows]), p=[weight / sum(weights) for weight in weights])
        matrix, counted = _plant(world, drawn, generator, rows)
        mine = {arm: drawn == place for place, arm in enumerate(arms)}
        wave = {arm: Moments.from_rows(world.names, matrix[who]) for arm, who in mine.items()}
        strata[f"{day:g}"] = wave
        for name, values in counted.items():
            ledger[name][f"{day:g}"] = {
                arm: Moments.from_counts(name, int(who.sum()), int(values[who].sum())) for arm, who in mine.items()
            }
        known.append((day, {arm: Counts(round(part.sum(column)), part.n) for arm, part in wave.items()}))
    sizes = {arm: sum(wave[arm].n for wave in strata.values()) for arm in arms}
    verdict = decide(
        Evidence(
            design=design,
            results=tuple(compare_waves(design, strata, more=list(ledger.values()))),
            assigned=sizes,
            mature=sizes,
            delivered=dict.fromkeys(design.arms, 1.0),
            prior_sd=world.prior_sd,
        )
    )
    return _Outcome(verdict, float(world.days[-1]) + wait, _is_effective(verdict, world.planted))


def _evidence(
    design: Design,
    state: Mapping[str, Moments],
    counts: Mapping[str, Mapping[str, Moments]],
    at: tuple[int, float, tuple[float, ...]],
    prior_sd: float | None,
) -> Evidence:
    look, information, past = at
    sizes = {arm: moments.n for arm, moments in state.items()}
    return Evidence(
        design=design,
        results=tuple(compare_all(design, state, more=list(counts.values()))),
        assigned=sizes,
        mature=sizes,
        look=look,
        looks_done=look - 1,
        information=information,
        past_information=past,
        delivered=dict.fromkeys(design.arms, 1.0),
        prior_sd=prior_sd,
    )


def _plant(world: _World, drawn: NDArray[np.intp], generator: Generator, rows: slice) -> tuple[Array, dict[str, Array]]:
    """These customers' outcomes with the effects of the arms they were drawn into, and the ledger's guardrails."""
    import numpy as np

    matrix = world.matrix[rows].copy()
    base = float(matrix[:, world.names.index(METRICS[world.design.primary].column)].mean())
    arms = [name for name, _ in world.design.weights]
    for place, arm in enumerate(arms):
        lift, cost = world.planted.lift.get(arm, 0.0), world.planted.cost.get(arm, 0.0)
        mine = np.flatnonzero(drawn == place)
        if lift:
            _lift(world, matrix, mine, (lift, base), generator)
        if cost and "margin" in world.names:
            matrix[mine, world.names.index("margin")] -= cost
    ledger = {}
    for metric, rate in world.history.rates.items():
        rises = np.array([world.planted.harm.get(metric, {}).get(arm, 0.0) for arm in arms])
        ledger[metric] = (generator.random(len(drawn)) < rate + rises[drawn]).astype(np.float64)
    return matrix, ledger


def _lift(
    world: _World, matrix: Array, mine: NDArray[np.intp], change: tuple[float, float], generator: Generator
) -> None:
    """Change the primary among these customers, in place. `change`: the lift, and the primary's mean without it.

    A share: some who did not convert get the whole row of one who did (or the other way round), so that revenue and
    margin follow. A mean: every value is scaled.
    """
    import numpy as np

    metric, (lift, base) = METRICS[world.design.primary], change
    column = world.names.index(metric.column)
    if metric.kind != "proportion":
        matrix[mine, column] *= 1.0 + lift / base if base else 1.0
        return
    wanted = 0.0 if lift > 0.0 else 1.0
    room = 1.0 - base if lift > 0.0 else base
    candidates = mine[matrix[mine, column] == wanted]
    changed = candidates[generator.random(candidates.size) < min(1.0, abs(lift) / room if room else 0.0)]
    donors = np.flatnonzero(world.matrix[:, column] != wanted)
    outcome = [i for i, name in enumerate(world.names) if not name.startswith("pre_")]
    if donors.size and changed.size:
        rows = generator.choice(donors, size=changed.size)
        matrix[np.ix_(changed, outcome)] = world.matrix[np.ix_(rows, outcome)]


def _summary(world: _World, outcomes: Sequence[_Outcome]) -> Simulated:
    planted, runs = world.planted, len(outcomes)
    promoted = [outcome for outcome in outcomes if outcome.verdict.verdict == "promote"]
    right = [outcome for outcome in promoted if planted.is_good(outcome.verdict.arm or "")]
    hopeful = any(planted.is_good(arm) for arm in world.design.arms)
    ratios = [(o.verdict.expected_lift_raw or 0.0) / planted.lift[o.verdict.arm or ""] for o in right]
    shrunk = [(o.verdict.expected_lift_shrunk or 0.0) / planted.lift[o.verdict.arm or ""] for o in right]
    return Simulated(
        scenario=planted.name,
        runs=runs,
        false_promotion=(len(promoted) - len(right)) / runs,
        power=sum(outcome.effective for outcome in outcomes) / runs if hopeful else None,
        promotion=len(right) / runs if hopeful else None,
        stop_harm=sum(outcome.verdict.verdict == "stop_harm" for outcome in outcomes) / runs,
        verdicts=dict(sorted(Counter(outcome.verdict.verdict for outcome in outcomes).items())),
        decision_day=_mean([outcome.day for outcome in outcomes]),
        claimed_over_true=_mean(ratios),
        shrunk_over_true=_mean(shrunk),
    )


def _is_effective(verdict: Verdict, planted: Planted) -> bool:
    return any(
        reason.gate == "efficacy" and reason.passed and planted.is_good(reason.arm or "") for reason in verdict.reasons
    )


def _add(into: dict[str, Moments], arm: str, part: Moments) -> None:
    into[arm] = into[arm] + part if arm in into else part


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _check(design: Design, history: History) -> None:
    if design.primary not in METRICS or not set(METRICS[design.primary].columns) <= set(history.columns):
        raise ExperimentError(f"simulation: the history needs the columns of {design.primary!r}, the primary metric")
    lengths = {len(values) for values in history.columns.values()}
    if history.enrolled_day is not None:
        lengths.add(len(history.enrolled_day))
    if len(lengths) != 1 or history.n < 2 * len(design.weights):
        raise ExperimentError(
            f"simulation: columns of one length with some customers per arm are needed, got {lengths}"
        )
