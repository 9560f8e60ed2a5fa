"""Loyalty points: how many an order earns by an offer, above the usual ones."""

from __future__ import annotations

import math

from campaigns.offer_terms import Points


def points_of_order(terms: Points, amount: float, *, per_hundred: int, first: bool) -> int:
    """The points that an order of this amount earns above the usual ones.

    A multiplier: (multiplier - 1) times the usual points, rounded down. A bonus: with the first order only.
    """
    if terms.multiplier is not None:
        # the tenth digit behind the point is no money: 0.1 x 30 is 3, not 2
        return max(0, math.floor(round((terms.multiplier - 1.0) * amount * per_hundred / 100, 9)))
    return (terms.bonus or 0) if first else 0
