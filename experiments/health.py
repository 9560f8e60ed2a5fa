"""Health of an experiment: is the split what was planned, were the arms alike before, was control left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from experiments.aggregates import Moments
from experiments.distributions import chi2_sf, two_sided
from experiments.errors import ExperimentError
from experiments.means import Sample, welch
from experiments.multiplicity import bonferroni

SRM_THRESHOLD = 0.001
OVERLAP_THRESHOLD = 0.001


class Srm(NamedTuple):
    """Sample ratio mismatch: chi-square of observed against expected counts; None where there is nothing to test."""

    chi2: float | None
    df: int
    p_value: float | None

    @property
    def healthy(self) -> bool:
        """Whether the split is plausible (p >= 0.001), or could not be tested."""
        return self.p_value is None or self.p_value >= SRM_THRESHOLD


def srm(observed: Mapping[str, int], expected: Mapping[str, float]) -> Srm:
    """Chi-square test of counts per arm against expected weights (any scale; arms without weight leave the df).

    Units found in an arm whose weight is 0 or missing make the split impossible: p = 0.
    Source: Fabijan et al. 2019 (vectors srm_ok, srm_bad). Raises: ExperimentError for negative or all-zero weights.
    """
    if any(weight < 0.0 for weight in expected.values()) or sum(expected.values()) <= 0.0:
        raise ExperimentError(f"expected shares must be >= 0 and not all 0, got {dict(expected)}")
    weighted = {arm: weight for arm, weight in expected.items() if weight > 0.0}
    total, whole = sum(observed.values()), sum(weighted.values())
    df = len(weighted) - 1
    if any(count > 0 and arm not in weighted for arm, count in observed.items()):
        return Srm(None, df, 0.0)
    if total == 0 or df == 0:
        return Srm(None, df, None)
    chi2 = 0.0
    for arm, weight in weighted.items():
        planned = total * weight / whole
        chi2 += (observed.get(arm, 0) - planned) ** 2 / planned
    return Srm(chi2, df, chi2_sf(chi2, df))


def srm_within(strata: Sequence[tuple[Mapping[str, int], Mapping[str, float]]]) -> Srm:
    """One test of strata with weights of their own, from (observed, expected) each: chi-squares and df are added up.

    For waves whose shares were learnt: their total fits no one set of weights. Impossible where a stratum is.
    """
    tests = [srm(observed, expected) for observed, expected in strata if sum(observed.values())]
    if any(test.p_value == 0.0 and test.chi2 is None for test in tests):
        return Srm(None, sum(test.df for test in tests), 0.0)
    known = [(test.chi2, test.df) for test in tests if test.chi2 is not None]
    if not known:
        return Srm(None, 0, None)
    chi2, df = sum(value for value, _ in known), sum(df for _, df in known)
    return Srm(chi2, df, chi2_sf(chi2, df))


def srm_by_stratum(
    strata: Mapping[str, Mapping[str, int]],
    expected: Mapping[str, float],
    *,
    own: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Srm]:
    """`srm` within every stratum, p-values Bonferroni-adjusted over the strata.

    `own`: the weights of strata that have others than `expected`.
    """
    weights = own or {}
    tests = {name: srm(observed, weights.get(name) or expected) for name, observed in strata.items()}
    tested = [name for name, test in tests.items() if test.p_value is not None]
    adjusted = bonferroni([tests[name].p_value or 0.0 for name in tested])
    return tests | {name: tests[name]._replace(p_value=p) for name, p in zip(tested, adjusted, strict=True)}


def balance(arms: Mapping[str, Moments], *, control: str) -> float | None:
    """Smallest p (Bonferroni over arms and columns) that an arm's pre-period columns differ from control's.

    None where nothing can be tested. Small values say that the arms differed before anything was sent.
    """
    base = arms.get(control)
    if base is None or base.n < 2:
        return None
    p_values = []
    for name, arm in arms.items():
        for column in base.columns if name != control and arm.n >= 2 else ():
            left, right = Sample.of(arm, column), Sample.of(base, column)
            if left.variance + right.variance > 0.0:
                p_values.append(welch(left, right).p_value)
    return min(bonferroni(p_values)) if p_values else None


def delivery_gap(delivered: Mapping[str, float | None], *, control: str = "control") -> float | None:
    """Largest difference between the arms' delivered shares (0..1), control left out; None below two known arms."""
    known = [share for arm, share in delivered.items() if arm != control and share is not None]
    return max(known) - min(known) if len(known) > 1 else None


def contamination(*, control_assigned: int, control_reached: int) -> float | None:
    """Share of control that was sent something after all; None without control."""
    return control_reached / control_assigned if control_assigned else None


def crossover(*, assigned: int, in_several_arms: int) -> float | None:
    """Share of customers found in more than one arm; None without customers."""
    return in_several_arms / assigned if assigned else None


class Overlap(NamedTuple):
    """Another campaign's customers among ours.

    `treated_elsewhere`: share (0..1) of each of our arms that the other campaign treats. `chi2`, `df`, `p_value`: do
    the two draws depend on each other (None: nothing to test). `largest_gap`: between two of our arms' shares.
    """

    treated_elsewhere: Mapping[str, float]
    overall: float | None
    largest_gap: float | None
    chi2: float | None
    df: int
    p_value: float | None

    @property
    def healthy(self) -> bool:
        """Whether the arms meet the other campaign alike (p >= 0.001), or could not be tested."""
        return self.p_value is None or self.p_value >= OVERLAP_THRESHOLD


def overlap(
    crosstab: Mapping[str, Mapping[str, int]], *, untreated: Sequence[str] = ("", "none", "control")
) -> Overlap:
    """Overlap with one other campaign, from counts {our arm: {its arm: customers}}.

    `untreated`: names under which the other campaign's control, and customers who are not in it at all, are counted.
    Two independent draws leave every arm with the same share of the other campaign's arms; a small p says that one draw
    knows of the other, so that an effect of that campaign would be read as ours. Source: Pearson's chi-square test of
    independence; rows and columns without customers leave the degrees of freedom.
    """
    rows = {arm: counts for arm, counts in crosstab.items() if sum(counts.values()) > 0}
    names = dict.fromkeys(name for counts in rows.values() for name in counts)
    columns = [name for name in names if any(counts.get(name, 0) for counts in rows.values())]
    sizes = {arm: sum(counts.values()) for arm, counts in rows.items()}
    treated = {arm: sum(n for name, n in counts.items() if name not in untreated) for arm, counts in rows.items()}
    shares = {arm: treated[arm] / sizes[arm] for arm in rows}
    total = sum(sizes.values())
    df = max(0, len(rows) - 1) * max(0, len(columns) - 1)
    gap = max(shares.values()) - min(shares.values()) if len(shares) > 1 else None
    overall = sum(treated.values()) / total if total else None
    if df == 0:
        return Overlap(shares, overall, gap, None, 0, None)
    chi2 = 0.0
    for name in columns:
        share = sum(counts.get(name, 0) for counts in rows.values()) / total
        chi2 += sum(
            (counts.get(name, 0) - sizes[arm] * share) ** 2 / (sizes[arm] * share) for arm, counts in rows.items()
        )
    return Overlap(shares, overall, gap, chi2, df, chi2_sf(chi2, df))


class Interaction(NamedTuple):
    """An effect among customers whom another campaign treated and among its control, and whether the two differ."""

    difference_treated: float
    difference_control: float
    difference: float
    se: float
    p_value: float | None


def interaction(treated: tuple[Moments, Moments], control: tuple[Moments, Moments], *, column: str) -> Interaction:
    """The difference of two differences of means: (arm, control) among those treated elsewhere, and in its control.

    Both draws are random, so that without an interaction the two effects are alike. Normal limit with the four cells'
    own variances; p None where nothing varies. Source: a two by two factorial (Fisher 1935). Raises: ExperimentError
    below two units in a cell.
    """
    cells = [Sample.of(side, column) for pair in (treated, control) for side in pair]
    first, second = cells[0].mean - cells[1].mean, cells[2].mean - cells[3].mean
    se = sum(cell.mean_variance for cell in cells) ** 0.5
    p_value = two_sided((first - second) / se) if se > 0.0 else None
    return Interaction(first, second, first - second, se, p_value)


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """Something dated that moves customers: a holiday, a sale, an outage. `ends_on` None: one day."""

    name: str
    starts_on: date
    ends_on: date | None = None

    @property
    def last_on(self) -> date:
        """The last day."""
        return self.starts_on if self.ends_on is None else self.ends_on


def events_in_window(events: Sequence[CalendarEvent], *, start: date, end: date) -> list[CalendarEvent]:
    """The events that touch a day of [start, end], by their first day, then by name.

    Control lives through them too, so that they do not bias the difference; they make it one of an unusual time.
    Raises: ExperimentError where the window or an event ends before it starts.
    """
    if end < start:
        raise ExperimentError(f"calendar: the window ends ({end}) before it starts ({start})")
    for event in events:
        if event.last_on < event.starts_on:
            raise ExperimentError(f"calendar: {event.name} ends ({event.last_on}) before it starts ({event.starts_on})")
    inside = [event for event in events if event.starts_on <= end and event.last_on >= start]
    return sorted(inside, key=lambda event: (event.starts_on, event.name))


class Lateness(NamedTuple):
    """Outcomes by when they became known.

    `late_share`: of those that arrived after the allowed delay (None: no outcomes). `days_95`: the delay within which
    95 % had arrived: what `lateness_days` should be at least.
    """

    outcomes: int
    late: int
    late_share: float | None
    days_95: float | None


def lateness(by_delay: Mapping[float, int], *, allowed_days: float) -> Lateness:
    """How late outcomes arrive, from counts {days between the outcome and its arrival: outcomes}.

    `allowed_days`: what the design waits after the horizon (its `lateness_days`). Raises: ExperimentError for negative
    counts.
    """
    if any(count < 0 for count in by_delay.values()):
        raise ExperimentError("lateness: counts must be >= 0")
    total = sum(by_delay.values())
    if total == 0:
        return Lateness(0, 0, None, None)
    late = sum(count for delay, count in by_delay.items() if delay > allowed_days)
    reached, days_95 = 0, 0.0
    for delay in sorted(by_delay):
        reached, days_95 = reached + by_delay[delay], float(delay)
        if reached >= 0.95 * total:
            break
    return Lateness(total, late, late / total, days_95)
