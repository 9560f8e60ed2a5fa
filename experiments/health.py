"""Health of an experiment: is the split what was planned, were the arms alike before, was control left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from experiments.aggregates import Moments
from experiments.distributions import chi2_sf
from experiments.errors import ExperimentError
from experiments.means import Sample, welch
from experiments.multiplicity import bonferroni

SRM_THRESHOLD = 0.001


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


def srm_by_stratum(strata: Mapping[str, Mapping[str, int]], expected: Mapping[str, float]) -> dict[str, Srm]:
    """`srm` within every stratum, p-values Bonferroni-adjusted over the strata."""
    tests = {name: srm(observed, expected) for name, observed in strata.items()}
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
