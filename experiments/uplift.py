"""Uplift ranking: does a score order customers by how much a message changes them (Qini, AUUC), on held-out units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


class Ranked(NamedTuple):
    """A curve: customers targeted from the best score down, and the gain among them."""

    targeted: Array
    gain: Array


@dataclass(frozen=True, slots=True)
class UpliftReport:
    """How well a score targets: `qini` and `auuc` are 1 for perfect targeting, 0 for random; None where undefined."""

    n: int
    qini: float | None
    auuc: float | None
    qini_curve: Ranked
    uplift_curve: Ranked


def uplift_report(outcome: ArrayLike, treated: ArrayLike, score: ArrayLike, *, held_out: ArrayLike) -> UpliftReport:
    """Qini and AUUC of a score on the randomised units that the score was not fitted on.

    `outcome`, `treated`: 0/1 per unit; `score`: larger means target first; `held_out`: True where the unit was not
    used to fit the score. Source: Radcliffe 2007; Gutierrez and Gerardy 2017. Oracle: scikit-uplift, in
    tests/reference/test_oracles.py. Raises: ExperimentError unless both arms are among the held-out units.
    """
    import numpy as np

    keep = np.asarray(held_out, dtype=bool).ravel()
    y, t, s = (np.asarray(values, dtype=np.float64).ravel() for values in (outcome, treated, score))
    if not keep.size == y.size == t.size == s.size:
        raise ExperimentError("uplift: outcome, treated, score and held_out need the same length")
    y, t, s = y[keep], t[keep], s[keep]
    if not np.isin(y, (0.0, 1.0)).all() or set(np.unique(t).tolist()) != {0.0, 1.0} or np.isnan(s).any():
        raise ExperimentError(
            "uplift: held-out units must come from both arms, outcome and treated must be 0 or 1, scores must be known"
        )
    best_qini = y * t - y * (1.0 - t)
    tie_break = y if ((y == 1) & (t == 0)).sum() > ((y == 0) & (t == 1)).sum() else t
    best_uplift = 2.0 * (y == t) + tie_break
    qini, uplift = qini_curve(y, t, s), uplift_curve(y, t, s)
    return UpliftReport(
        n=y.size,
        qini=_normalised(qini, qini_curve(y, t, best_qini)),
        auuc=_normalised(uplift, uplift_curve(y, t, best_uplift)),
        qini_curve=qini,
        uplift_curve=uplift,
    )


def qini_curve(outcome: Array, treated: Array, score: Array) -> Ranked:
    """Extra conversions among the targeted: treated conversions less control's, scaled to the treated's number."""
    targeted, treated_n, treated_y, control_n, control_y = _cumulated(outcome, treated, score)
    return Ranked(targeted, treated_y - control_y * _share(treated_n, control_n))


def uplift_curve(outcome: Array, treated: Array, score: Array) -> Ranked:
    """Difference of conversion rates among the targeted, times their number."""
    targeted, treated_n, treated_y, control_n, control_y = _cumulated(outcome, treated, score)
    return Ranked(targeted, (_share(treated_y, treated_n) - _share(control_y, control_n)) * targeted)


def _cumulated(outcome: Array, treated: Array, score: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Counts among the best-scored, at every distinct score, from nobody to everybody."""
    import numpy as np

    order = np.argsort(-score, kind="stable")
    y, t, s = outcome[order], treated[order], score[order]
    ends = np.append(np.flatnonzero(np.diff(s)), s.size - 1)
    running = [np.cumsum(values)[ends] for values in (np.ones_like(y), t, y * t, 1.0 - t, y * (1.0 - t))]
    with_origin = [np.concatenate(([0.0], values)) for values in running]
    return with_origin[0], with_origin[1], with_origin[2], with_origin[3], with_origin[4]


def _share(above: Array, below: Array) -> Array:
    import numpy as np

    divided: Array = np.divide(above, below, out=np.zeros_like(above), where=below != 0)
    return divided


def _normalised(curve: Ranked, perfect: Ranked) -> float | None:
    """Area above random targeting, as a share of what perfect targeting would reach."""
    import numpy as np

    random = 0.5 * float(perfect.targeted[-1] * perfect.gain[-1])
    reachable = float(np.trapezoid(perfect.gain, perfect.targeted)) - random
    if abs(reachable) < 1e-12:
        return None
    return (float(np.trapezoid(curve.gain, curve.targeted)) - random) / reachable
