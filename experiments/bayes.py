"""The Bayesian view: posteriors with stated priors, chance to beat control, expected loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from experiments.distributions import normal_cdf, normal_pdf, normal_sf
from experiments.errors import ExperimentError
from experiments.proportions import Counts
from experiments.shrinkage import Posterior, shrink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_POINTS = 4001


class BetaPrior(NamedTuple):
    """Beta(a, b) prior of a share; Beta(1, 1) is flat."""

    a: float = 1.0
    b: float = 1.0


class Chance(NamedTuple):
    """Chance that the arm beats control, and what each choice is expected to lose."""

    arm_beats_control: float
    loss_of_arm: float
    loss_of_control: float


class GaussianLift(NamedTuple):
    """Normal posterior of an effect, with the chance that it is positive and the expected losses."""

    posterior: Posterior
    chance_to_beat_control: float
    loss_of_arm: float
    loss_of_control: float


FLAT = BetaPrior()


def beta_chance(arm: Counts, control: Counts, *, prior: BetaPrior = FLAT) -> Chance:
    """Beta-Binomial posteriors of two shares. Losses are in shares (0..1). (vector bb_ctb)."""
    import numpy as np

    posteriors = [_posterior(side, prior) for side in (arm, control)]
    grid = _grid(posteriors)
    cdfs = [_cdf(grid, parameters) for parameters in posteriors]
    density = _density(grid, posteriors[0])
    beats = float(np.clip(_integral(density * cdfs[1], grid), 0.0, 1.0))
    loss_of_arm = _integral(cdfs[0] * (1.0 - cdfs[1]), grid)
    loss_of_control = _integral(cdfs[1] * (1.0 - cdfs[0]), grid)
    return Chance(beats, loss_of_arm, loss_of_control)


def beta_best(posteriors: Sequence[tuple[float, float]]) -> list[float]:
    """Chance of each Beta(a, b) posterior to hold the largest share (vector bb_prob_best_3).

    Raises: ExperimentError without posteriors or with parameters that are not positive.
    """
    import numpy as np

    if not posteriors or any(a <= 0.0 or b <= 0.0 for a, b in posteriors):
        raise ExperimentError(f"posteriors: every Beta needs two positive parameters, got {list(posteriors)}")
    grid = _grid(posteriors)
    cdfs = np.array([_cdf(grid, parameters) for parameters in posteriors])
    chances = []
    for place, parameters in enumerate(posteriors):
        rivals = np.delete(cdfs, place, axis=0).prod(axis=0)
        chances.append(_integral(_density(grid, parameters) * rivals, grid))
    total = sum(chances)
    return [chance / total for chance in chances]


def gaussian_lift(effect: float, se: float, *, prior_mean: float = 0.0, prior_sd: float | None = None) -> GaussianLift:
    """Posterior of an effect (absolute or relative, as given); `prior_sd` None is the flat prior (vectors gb_bayes_*).

    Raises: ExperimentError unless se is positive.
    """
    if se <= 0.0:
        raise ExperimentError(f"posterior: needs a positive standard error, got {se}")
    posterior = (
        Posterior(effect, se) if prior_sd is None else shrink(effect, se, prior_mean=prior_mean, prior_sd=prior_sd)
    )
    mean, sd = posterior
    if sd == 0.0:
        return GaussianLift(posterior, float(mean > 0.0), max(0.0, -mean), max(0.0, mean))
    ratio = mean / sd
    gain = mean * normal_cdf(ratio) + sd * normal_pdf(ratio)
    loss = -mean * normal_sf(ratio) + sd * normal_pdf(ratio)
    return GaussianLift(posterior, normal_cdf(ratio), loss, gain)


def _posterior(side: Counts, prior: BetaPrior) -> tuple[float, float]:
    return prior.a + side.successes, prior.b + side.n - side.successes


def _grid(posteriors: Sequence[tuple[float, float]]) -> Array:
    """Points where any of the posteriors has weight, for Simpson's rule."""
    import numpy as np
    from scipy.special import betaincinv

    low = min(float(betaincinv(a, b, 1e-14)) for a, b in posteriors)
    high = max(float(betaincinv(a, b, 1.0 - 1e-14)) for a, b in posteriors)
    # a smooth change of variable keeps densities that are infinite at an end (a or b below 1) integrable
    angle = np.linspace(0.0, np.pi, _POINTS)
    points: Array = low + (high - low) * 0.5 * (1.0 - np.cos(angle))
    return points


def _cdf(grid: Array, parameters: tuple[float, float]) -> Array:
    from scipy.special import betainc

    values: Array = betainc(parameters[0], parameters[1], grid)
    return values


def _density(grid: Array, parameters: tuple[float, float]) -> Array:
    import numpy as np
    from scipy.special import betaln, xlog1py, xlogy

    a, b = parameters
    inner = np.clip(grid, 1e-300, 1.0 - 1e-16)
    values: Array = np.exp(xlogy(a - 1.0, inner) + xlog1py(b - 1.0, -inner) - betaln(a, b))
    return values


def _integral(values: Array, grid: Array) -> float:
    """Simpson's rule in the angle of `_grid`, whose derivative is sine."""
    import numpy as np

    span = float(grid[-1] - grid[0])
    angle = np.linspace(0.0, np.pi, grid.size)
    weights = np.full(grid.size, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    step = np.pi / (grid.size - 1) / 3.0
    return float(np.sum(weights * values * 0.5 * span * np.sin(angle)) * step)
