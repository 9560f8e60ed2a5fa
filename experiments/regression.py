"""Regression adjustment on rows: ANCOVA and Lin's estimator with HC3 errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


class Coefficient(NamedTuple):
    """An effect and its heteroskedasticity-robust (HC3) standard error."""

    effect: float
    se: float


def ancova(y: ArrayLike, arm: ArrayLike, covariates: ArrayLike) -> Coefficient:
    """Effect of arm (0/1) in y ~ 1 + arm + covariates. Source: MacKinnon and White 1985 for HC3 (vector lin_ancova)."""
    outcome, assigned, pre = _arrays(y, arm, covariates)
    return _effect(outcome, [assigned, *pre.T])


def lin_estimator(y: ArrayLike, arm: ArrayLike, covariates: ArrayLike) -> Coefficient:
    """Effect of arm in y ~ 1 + arm * (covariates - mean): never less precise than no adjustment. Source: Lin 2013."""
    outcome, assigned, pre = _arrays(y, arm, covariates)
    centred = pre - pre.mean(axis=0)
    return _effect(outcome, [assigned, *centred.T, *(assigned[:, None] * centred).T])


def _effect(outcome: Array, columns: list[Array]) -> Coefficient:
    import numpy as np

    design = np.column_stack([np.ones_like(outcome), *columns])
    if design.shape[0] <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        raise ExperimentError(
            "regression: needs both arms, more rows than columns and covariates that vary on their own"
        )
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ outcome
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    weighted = (outcome - design @ beta) / np.maximum(1.0 - leverage, 1e-12)
    meat = design.T @ (design * (weighted**2)[:, None])
    covariance = inverse @ meat @ inverse
    return Coefficient(float(beta[1]), math.sqrt(float(covariance[1, 1])))


def _arrays(y: ArrayLike, arm: ArrayLike, covariates: ArrayLike) -> tuple[Array, Array, Array]:
    import numpy as np

    outcome = np.asarray(y, dtype=np.float64).ravel()
    assigned = np.asarray(arm, dtype=np.float64).ravel()
    pre = np.asarray(covariates, dtype=np.float64).reshape(outcome.size, -1)
    if assigned.size != outcome.size or not np.isfinite(outcome).all() or not np.isfinite(pre).all():
        raise ExperimentError("regression: y, arm and covariates need the same length and no missing values")
    return outcome, assigned, pre
