"""What households did: totals of their customers' outcomes and wishes, one unit a household."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from experiments.aggregates import Moments
from experiments.clusters import cluster_moments
from warehouse.facts.outcomes import outcome_rows

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from warehouse.facts.store import Facts

Values = Mapping[str, Mapping[str, float]]
"""Column -> customer -> value; customers who are not named have 0."""


def ledger_totals(people: pd.DataFrame, values: Values) -> dict[str, Moments]:
    """Arm -> moments of the households' totals. `people`: customer_id, arm, unit."""
    return _by_arm(people, {name: _column(people, of) for name, of in values.items()})


def outcome_totals(
    facts: Facts,
    people: pd.DataFrame,
    values: Values,
    *,
    start: datetime,
    horizon: timedelta,
    pre_period: timedelta | None = None,
) -> dict[str, Moments]:
    """Arm -> moments of the households' totals of `wave_moments`' columns and of `values`, with `members`.

    Raises FactsError where the engine refuses.
    """
    in_order = people.iloc[np.argsort([customer.encode() for customer in people["customer_id"]])]
    rows = outcome_rows(facts, in_order["customer_id"].tolist(), start=start, horizon=horizon, pre_period=pre_period)
    more = {name: _column(in_order, of) for name, of in values.items()}
    return _by_arm(in_order, {**rows, **more})


def _by_arm(people: pd.DataFrame, columns: Mapping[str, NDArray[np.float64]]) -> dict[str, Moments]:
    arms, units = people["arm"].to_numpy(dtype=object), people["unit"].to_numpy(dtype=object)
    found = {}
    for arm in sorted(set(arms.tolist())):
        mine = arms == arm
        found[arm] = cluster_moments({name: column[mine] for name, column in columns.items()}, units[mine].astype(str))
    return found


def _column(people: pd.DataFrame, values: Mapping[str, float]) -> NDArray[np.float64]:
    return np.array([values.get(customer, 0.0) for customer in people["customer_id"]], dtype=np.float64)
