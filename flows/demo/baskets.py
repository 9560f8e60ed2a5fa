"""What the demonstration's customers put into their baskets: category, units, amount, margin, discount, fate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from flows.demo.purchases import Floats, Rows

CURRENCY = "EUR"
TYPICAL_AMOUNT, BETWEEN_CUSTOMERS, WITHIN_CUSTOMER = 48.0, 0.32, 0.3
CATEGORIES: Mapping[str, tuple[float, float, float]] = {
    # share of orders, price relative to the customer's usual, margin as a share of the amount
    "coffee": (0.27, 0.85, 0.46),
    "tea": (0.15, 0.8, 0.5),
    "kitchen": (0.19, 1.25, 0.38),
    "garden": (0.12, 1.2, 0.36),
    "books": (0.11, 0.8, 0.33),
    "gifts": (0.16, 1.1, 0.44),
}
MARGIN_NOISE = 0.05
REFUNDED, CANCELLED = 0.02, 0.012


@dataclass(frozen=True)
class Baskets:
    """One entry per order: category, units, amount and margin in major units, discount code ("" none), status."""

    category: NDArray[np.str_]
    units: Rows
    amount: Floats
    margin: Floats
    discount_code: NDArray[np.str_]
    status: NDArray[np.str_]

    def where(self, chosen: NDArray[np.bool_] | Rows) -> Baskets:
        """The chosen baskets only, by flag or by index."""
        return Baskets(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @staticmethod
    def concatenated(parts: Sequence[Baskets]) -> Baskets:
        """All baskets of the parts, in their order."""
        return Baskets(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Baskets)))


def usual_amounts(n: int, rng: np.random.Generator) -> Floats:
    """Each customer's usual amount per order (lognormal over customers, Fader and Hardie's heterogeneity of spend)."""
    amounts: Floats = TYPICAL_AMOUNT * np.exp(BETWEEN_CUSTOMERS * rng.standard_normal(n))
    return amounts


def fill_baskets(usual: Floats, rng: np.random.Generator) -> Baskets:
    """One basket per order at full price; `usual` holds the buyer's usual amount for each order.

    A few are refunded or cancelled; every basket costs the same number of draws.
    """
    n = usual.size
    shares = np.array([entry[0] for entry in CATEGORIES.values()])
    kind = np.searchsorted(np.cumsum(shares) / shares.sum(), rng.random(n), side="right")
    relative, margin_share = (np.array([entry[i] for entry in CATEGORIES.values()])[kind] for i in (1, 2))
    amount = np.round(usual * relative * np.exp(WITHIN_CUSTOMER * rng.standard_normal(n)), 2)
    margin = np.round(amount * (margin_share + MARGIN_NOISE * rng.standard_normal(n)), 2)
    fate = rng.random(n)
    status = np.where(fate < REFUNDED, "refunded", np.where(fate < REFUNDED + CANCELLED, "cancelled", "completed"))
    return Baskets(
        category=np.array(list(CATEGORIES))[kind],
        units=1 + rng.poisson(0.8, size=n),
        amount=amount,
        margin=margin,
        discount_code=np.zeros(n, dtype="U1"),
        status=status,
    )


def discount(
    baskets: Baskets, where: NDArray[np.bool_], share: Floats | float, code: NDArray[np.str_] | str
) -> Baskets:
    """The same baskets with a share of the price given away at some: the whole discount comes off the margin."""
    given = np.where(where, np.round(baskets.amount * share, 2), 0.0)
    return replace(
        baskets,
        amount=np.round(baskets.amount - given, 2),
        margin=np.round(baskets.margin - given, 2),
        discount_code=np.where(where, code, baskets.discount_code),
    )
