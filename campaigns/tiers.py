"""Tiers: which promise of a tiered offer each customer gets, from features as of the instant of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from campaigns.offers import AnyOffer, TieredOffer, expected_cost

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

LOWEST = "member"
"""The value tier of a customer of whom no value is known."""


@dataclass(frozen=True, slots=True)
class TierRule:
    """How customers are told apart: by the names a feature has, or by where an amount of money falls.

    `steps`: (tier, amount it begins at), the highest first; empty where the feature names the tier. `costs`: what one
    customer of a tier is expected to cost.
    """

    by: str
    steps: tuple[tuple[str, float], ...]
    costs: Mapping[str, float]

    @classmethod
    def of(cls, offer: TieredOffer) -> TierRule:
        """The rule of an offer."""
        costs = {tier: float(expected_cost(promise).amount) for tier, promise in offer.tiers.items()}
        return cls(offer.terms.by, offer.steps, costs)

    def tiers_of(self, candidates: pd.DataFrame) -> NDArray[np.object_]:
        """The tier of each candidate, whose frame has the column `by`. Missing values fall into the lowest tier."""
        values = candidates[self.by]
        if not self.steps:
            named: NDArray[np.object_] = values.where(values.isin(list(self.costs)), LOWEST).to_numpy(dtype=object)
            return named
        amounts = values.astype("float64").fillna(0.0).to_numpy()
        found = np.full(len(amounts), self.steps[-1][0], dtype=object)
        for tier, least in reversed(self.steps):
            found[amounts >= least] = tier
        return found

    def costs_of(self, tiers: NDArray[np.object_]) -> NDArray[np.float64]:
        """What each customer is expected to cost."""
        return np.array([self.costs[tier] for tier in tiers], dtype=np.float64)


def tier_features(offers: Iterable[AnyOffer]) -> tuple[str, ...]:
    """The features that a plan needs to tell the customers of these offers apart."""
    return tuple(sorted({offer.terms.by for offer in offers if isinstance(offer, TieredOffer)}))
