"""Thompson allocation: the next wave's weights, by each arm's chance of being best."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.bayes import FLAT, BetaPrior, beta_best
from experiments.errors import ExperimentError
from experiments.proportions import Counts

FLOOR = 0.10


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
