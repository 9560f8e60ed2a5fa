"""Looks: group-sequential boundaries, and confidence sequences that hold at every moment."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from experiments.design import Design
from experiments.distributions import normal_ppf, normal_sf, root
from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Spending = Literal["obrien_fleming", "pocock"] | Callable[[float], float]
_POINTS_PER_SD = 40  # of the grid; the published boundaries then hold to three digits
_FAR = 12.0  # a |z| that nothing crosses: the normal tail beyond is 1e-33
_STEP = 1e-6  # information fractions closer than this are one look


def obrien_fleming_spent(share: float, *, alpha: float) -> float:
    """One-sided alpha spent at this information: 2 - 2 Phi(z_(alpha/2) / sqrt(t)). Source: Lan and DeMets 1983."""
    return 2.0 * normal_sf(normal_ppf(1.0 - 0.5 * alpha) / math.sqrt(share))


def pocock_spent(share: float, *, alpha: float) -> float:
    """One-sided alpha spent at this information: alpha ln(1 + (e - 1) t). Source: Lan and DeMets 1983."""
    return alpha * math.log(1.0 + (math.e - 1.0) * share)


def boundaries(
    information_fractions: Sequence[float], *, alpha: float = 0.05, spending: Spending = "obrien_fleming"
) -> tuple[float, ...]:
    """Critical |z| of every look at these information fractions (rising, last at most 1); two-sided alpha.

    Each side spends alpha / 2, by a named function or by a function of the fraction. Recursive integration of the
    density of the path that has not crossed. Source: Armitage, McPherson and Rowe 1969; Lan and DeMets 1983. Checked
    by tests/reference/test_looks.py (4.877, 3.357, 2.680, 2.290, 2.031 for five equal looks) and vector gs_power_2.
    Raises: ExperimentError where fractions do not rise within (0, 1].
    """
    fractions = [float(fraction) for fraction in information_fractions]
    if not fractions or fractions[0] <= 0.0 or fractions[-1] > 1.0 + 1e-9:
        raise ExperimentError(f"looks: information fractions must lie in (0, 1], got {fractions}")
    if any(later <= earlier for earlier, later in itertools.pairwise(fractions)):
        raise ExperimentError(f"looks: information fractions must rise, got {fractions}")
    spent = [_spent(spending, min(1.0, fraction), 0.5 * alpha) for fraction in fractions]
    return _solved(tuple(fractions), tuple(spent))


class LookPlan(NamedTuple):
    """What a measurement now counts as: the look's number (1-based), whether it is due, whether it is the last."""

    look: int
    due: bool
    final: bool
    information: float


def due_look(design: Design, *, information: float, looks_done: int) -> LookPlan:
    """The look that is next, due once the matured information reaches its planned share (look k: k / looks).

    Where looks were missed, the next one counts as the latest whose share is reached. The last look needs 95 % of the
    information (assignment is random, the last few customers never come).
    """
    reached = [k for k in range(1, design.looks + 1) if information >= _share_of(k, design.looks)]
    latest = max(reached, default=0)
    look = min(max(looks_done + 1, latest), design.looks)
    due = latest > looks_done and looks_done < design.looks
    return LookPlan(look, due, look == design.looks, information)


def look_boundary(design: Design, *, look: int, information: float, past: Sequence[float] = ()) -> float:
    """Critical |z| of this look: Lan-DeMets O'Brien-Fleming at the real information of it and of the past looks.

    `past`: fractions at the looks already taken; without them the planned ones are taken. The last look spends all.
    Before anything has matured nothing may be spent: the boundary is infinite.
    """
    plan = LookPlan(look, True, look >= design.looks, information)
    return planned_boundary(plan, looks=design.looks, past=past, alpha=design.alpha)


def planned_boundary(
    plan: LookPlan,
    *,
    looks: int,
    past: Sequence[float] = (),
    alpha: float = 0.05,
    spending: Spending = "obrien_fleming",
) -> float:
    """`look_boundary` without a design: critical |z| of a look among `looks` planned ones."""
    now = 1.0 if plan.final else min(1.0, plan.information)
    if now <= 0.0:
        return math.inf
    before = list(past) or [k / looks for k in range(1, plan.look)]
    rising: list[float] = []
    for fraction in before:
        if (rising[-1] if rising else 0.0) + _STEP < fraction < now - _STEP:
            rising.append(fraction)
    return boundaries([*rising, now], alpha=alpha, spending=spending)[-1]


def mixture_rho(alpha: float, *, tuning: float, two_sided: bool = True) -> float:
    """The mixing parameter that makes the confidence sequence tightest around `tuning` units.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021 (arXiv 2103.06476), eq. 161 (vectors gb_rho_*).
    """
    level = alpha if two_sided else 2.0 * alpha
    logged = -2.0 * math.log(level)
    return math.sqrt((logged + math.log(logged + 1.0)) / tuning)


def sequence_half_width(se: float, n: int, *, alpha: float, tuning: float) -> float:
    """Half-width of the two-sided asymptotic confidence sequence of an effect with this standard error at n units.

    Holds at all n together. Source: arXiv 2103.06476, eq. 9 (vector gb_seq_prop_rel).
    """
    rho2 = mixture_rho(alpha, tuning=tuning) ** 2
    grown = n * rho2 + 1.0
    return se * math.sqrt(n) * math.sqrt(2.0 * grown / (n * n * rho2) * math.log(math.sqrt(grown) / alpha))


def sequence_one_sided(se: float, n: int, *, alpha: float, tuning: float) -> float:
    """Distance of the one-sided asymptotic confidence sequence from the estimate (arXiv 2103.06476, eq. 155)."""
    rho2 = mixture_rho(alpha, tuning=tuning, two_sided=False) ** 2
    grown = n * rho2 + 1.0
    inside = math.log(1.0 + math.sqrt(grown) / (2.0 * alpha))
    return se * math.sqrt(n) * math.sqrt(2.0 * grown / (n * n * rho2) * inside)


def sequence_p_value(effect: float, se: float, n: int, *, alpha: float, tuning: float) -> float:
    """Always-valid p: the smallest level whose sequence (rho kept at `alpha`) excludes 0 (vector gb_seq_prop_rel)."""
    rho2 = mixture_rho(alpha, tuning=tuning) ** 2
    grown = n * rho2 + 1.0
    evidence = effect**2 / (se**2 * n) * n * n * rho2 / (2.0 * grown)
    return min(1.0, math.sqrt(grown) * math.exp(-evidence))


@functools.lru_cache(maxsize=256)
def _solved(fractions: tuple[float, ...], spent: tuple[float, ...]) -> tuple[float, ...]:
    return _Recursion(fractions).solve(spent)


class _Recursion:
    """The sub-density of the score process that has not crossed, on a grid, look by look."""

    def __init__(self, fractions: Sequence[float]) -> None:
        self.fractions = fractions

    def solve(self, spent: Sequence[float]) -> tuple[float, ...]:
        critical = [normal_ppf(1.0 - spent[0])] if spent[0] > 0.0 else [_FAR]
        grid, density = self._first(min(critical[0], _FAR))
        for k in range(1, len(self.fractions)):
            target = spent[k] - spent[k - 1]
            step = math.sqrt(self.fractions[k] - self.fractions[k - 1])
            scale = math.sqrt(self.fractions[k])
            bound = self._bound(grid, density, target, step, scale)
            critical.append(bound)
            grid, density = self._next(grid, density, bound * scale, step)
        return tuple(critical)

    def _first(self, bound: float) -> tuple[Array, Array]:
        import numpy as np

        scale = math.sqrt(self.fractions[0])
        grid = _grid(min(bound, _FAR) * scale, scale)
        weights = _simpson(grid)
        return grid, weights * np.exp(-0.5 * (grid / scale) ** 2) / (scale * math.sqrt(2.0 * math.pi))

    def _bound(self, grid: Array, density: Array, target: float, step: float, scale: float) -> float:
        """The |z| whose upper tail over the surviving paths holds `target`."""
        from scipy.special import ndtr

        if target <= 0.0:
            return _FAR

        def excess(z: float) -> float:
            return float(density @ ndtr((grid - z * scale) / step)) - target

        return root(excess, 0.0, _FAR)

    def _next(self, grid: Array, density: Array, limit: float, step: float) -> tuple[Array, Array]:
        import numpy as np

        fresh = _grid(limit, step)
        kernel = np.exp(-0.5 * ((fresh[:, None] - grid[None, :]) / step) ** 2) / (step * math.sqrt(2.0 * math.pi))
        return fresh, _simpson(fresh) * (kernel @ density)


def _grid(limit: float, sd: float) -> Array:
    import numpy as np

    points = 2 * max(100, math.ceil(limit / sd * _POINTS_PER_SD)) + 1
    return np.linspace(-limit, limit, points)


def _simpson(grid: Array) -> Array:
    import numpy as np

    weights = np.full(grid.size, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    spaced: Array = weights * (grid[1] - grid[0]) / 3.0
    return spaced


def _spent(spending: Spending, fraction: float, alpha: float) -> float:
    if callable(spending):
        return spending(fraction)
    by_name = {"obrien_fleming": obrien_fleming_spent, "pocock": pocock_spent}
    if spending not in by_name:
        raise ExperimentError(f"looks: spending {spending!r} is not known; known are {', '.join(by_name)}")
    return by_name[spending](fraction, alpha=alpha)


def _share_of(look: int, looks: int) -> float:
    return 0.95 if look == looks else look / looks
