"""Units of several customers (households): totals over clusters, and metrics whose variance is that between clusters.

Customers of one household share an arm, a kitchen and a purse: their outcomes go together, and as many rows are fewer
independent ones. A mean over customers is therefore read as a ratio of two totals, outcome over members, whose clusters
are independent. Source: Deng, Knoblich and Lu 2018, section 3.3 (delta method for a metric below the unit that was
randomised); the same as the sandwich of Liang and Zeger 1986 for a mean, but for the factor m / (m - 1) of m clusters.
Checked against statsmodels and by simulated coverage in tests/reference/test_clusters.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from experiments.aggregates import Moments
from experiments.errors import ExperimentError
from experiments.metrics import Metric
from experiments.results import Result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

MEMBERS: Final = "members"
"""The column of cluster totals that counts a cluster's customers."""


def cluster_moments(columns: Mapping[str, ArrayLike], clusters: ArrayLike) -> Moments:
    """Moments of cluster totals, `members` among them: one unit a cluster.

    `columns`: name -> one value a customer. `clusters`: what each customer belongs to (any values that can be sorted).
    Raises: ExperimentError where the lengths differ or a column is called members.

    >>> cluster_moments({"bought": [1, 0, 1]}, ["a", "a", "b"]).sums
    (2.0, 3.0)
    """
    import numpy as np

    of = np.unique(np.asarray(clusters), return_inverse=True)[1].ravel()
    values = {name: np.asarray(column, dtype=np.float64).ravel() for name, column in columns.items()}
    if MEMBERS in values or any(column.size != of.size for column in values.values()):
        raise ExperimentError(
            f"clusters: every column needs one value for each of the {of.size} customers, and none may be {MEMBERS!r}"
        )
    n = int(of.max()) + 1 if of.size else 0
    totals = [np.bincount(of, weights=column, minlength=n) for column in values.values()]
    totals.append(np.bincount(of, minlength=n).astype(np.float64))
    return Moments.from_rows((*values, MEMBERS), np.column_stack(totals) if n else np.empty((0, len(totals))))


def clustered(metric: Metric) -> Metric:
    """The metric on cluster totals: per customer, with the variance between clusters; a ratio of sums stays what it is.

    Raises: ExperimentError for a survival metric, which has no totals.
    """
    if metric.kind == "survival":
        raise ExperimentError(f"metric {metric.name}: survival cannot be compared between clusters; leave it out")
    if metric.kind == "ratio":
        return replace(metric, covariate=None)
    before = None if metric.covariate is None else f"{metric.covariate}/{MEMBERS}"
    return replace(metric, kind="ratio", columns=(metric.column, MEMBERS), covariate=before)


def as_asked(result: Result, metric: Metric) -> Result:
    """The result of a clustered metric under the kind that was asked for, its method named. n counts clusters."""
    method = f"cluster-robust, {result.method}" if result.method else ""
    return replace(result, kind=metric.kind, method=method)


def design_effect(clusters: Moments, column: str) -> float | None:
    """How many times as many customers are needed as if each were alone: the variance between clusters over that of
    independent customers of a 0/1 column, or of a column whose squares were collected as `column + "_squared"`.

    Source: Kish 1965, section 5.4 (deff). None where nothing varies, or the squares are missing and it is no share.
    """
    from experiments.compare import ratio_sample

    sample = ratio_sample(clusters, column, MEMBERS)
    if sample is None or clusters.n < 2:
        return None
    members = clusters.sum(MEMBERS)
    squares = clusters.sum(f"{column}_squared") if clusters.has(f"{column}_squared") else clusters.sum(column)
    alone = squares / members - sample.mean**2
    return None if alone <= 0.0 else sample.mean_variance * members / alone
