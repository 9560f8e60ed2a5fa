"""Thompson allocation: the next wave's weights, by each arm's chance of being best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from experiments.bayes import FLAT, BetaPrior, beta_best
from experiments.errors import ExperimentError
from experiments.proportions import Counts

FLOOR = 0.10
"""The least share of control and of every arm: what gets fewer customers can no longer be told from the others."""
_SHARE_OF_EQUAL = 0.5  # many arms: half of an equal share, so that there is always something left to give


def floor_for(arms: int) -> float:
    """The floor among so many arms (control included): 10 %, from six on half of an equal share."""
    return min(FLOOR, _SHARE_OF_EQUAL / arms) if arms else FLOOR


def next_weights(
    first: Sequence[tuple[str, float]], waves: Sequence[Mapping[str, Counts]]
) -> tuple[tuple[str, float], ...]:
    """The shares of the next wave, in the order of `first`, from the matured waves' successes by arm.

    An arm without a share at first never gets one. Without a wave that holds all the others, `first` goes on. The waves
    are put together by `standardise`: a wave of a good week, in which one arm had most customers, is no merit of it.
    """
    competing = [arm for arm, weight in first if weight > 0.0]
    whole = standardise(waves, arms=competing)
    if not whole or len(competing) < 2:
        return tuple(first)
    found = dict(thompson_weights(whole, floor=floor_for(len(competing))))
    return tuple((arm, found.get(arm, 0.0)) for arm, _ in first)


def standardise(waves: Sequence[Mapping[str, Counts]], *, arms: Sequence[str]) -> dict[str, Counts]:
    """Each arm's successes as if every wave had been shared out alike: the share weighted by the waves' sizes.

    n is the size that a plain sample of the same precision would have. Waves in which an arm has nobody are left out;
    nothing where none is left. Source: direct standardisation (Miratrix, Sekhon and Yu 2013, eq. 8); the variances are
    those of shares with half a success and half a failure added, as a share of 0 is not known without error.
    """
    filled = [wave for wave in waves if all(arm in wave and wave[arm].n > 0 for arm in arms)]
    total = sum(wave[arm].n for wave in filled for arm in arms)
    found = {}
    for arm in arms if total else ():
        sides = [(sum(wave[other].n for other in arms) / total, wave[arm]) for wave in filled]
        share = sum(weight * side.share for weight, side in sides)
        if len(sides) == 1:
            found[arm] = sides[0][1]
            continue
        smooth = [(weight, (side.successes + 0.5) / (side.n + 1.0), side.n) for weight, side in sides]
        centre = sum(weight * p for weight, p, _ in smooth)
        variance = sum(weight**2 * p * (1.0 - p) / n for weight, p, n in smooth)
        n = max(1, min(math.floor(centre * (1.0 - centre) / variance), sum(side.n for _, side in sides)))
        found[arm] = Counts(round(share * n), n)
    return found


def thompson_weights(
    arms: Mapping[str, Counts], *, prior: BetaPrior = FLAT, floor: float = FLOOR
) -> tuple[tuple[str, float], ...]:
    """Weights of the arms (control included) for the next wave: chance of being best, none below `floor`.

    The chances are integrated, not drawn, so that the same counts give the same weights. Adaptive weights bias the
    pooled estimate: analyse by strata of wave (`strata.post_stratify`), and never promote without a fixed split.
    Source: Thompson 1933; Scott 2010 (vector bb_prob_best_3 for the chances). Raises: ExperimentError where the floor
    leaves no room.
    """
    if not arms or floor < 0.0 or floor * len(arms) > 1.0:
        raise ExperimentError(f"Thompson: {len(arms)} arms with at least {floor:.0%} each do not fit into 100 %")
    chances = beta_best([(prior.a + side.successes, prior.b + side.n - side.successes) for side in arms.values()])
    return tuple(zip(arms, _with_floor(chances, floor), strict=True))


def _with_floor(chances: list[float], floor: float) -> list[float]:
    """Raise what lies below the floor to it, and take the difference from the rest in proportion."""
    raised: set[int] = set()
    while True:
        free = 1.0 - floor * len(raised)
        rest = sum(chance for index, chance in enumerate(chances) if index not in raised)
        weights = [floor if index in raised else free * chance / rest for index, chance in enumerate(chances)]
        low = {index for index, weight in enumerate(weights) if weight < floor - 1e-12}
        if not low:
            return weights
        raised |= low
        if len(raised) == len(chances):
            return [1.0 / len(chances)] * len(chances)
