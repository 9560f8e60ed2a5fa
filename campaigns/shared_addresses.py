"""Customers who share an address: of them one takes part in an experiment, so that nobody is written to twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who shares addresses: `names` gives each customer's shared addresses by any name that tells nothing of them.

    `taken` are the names of those of which somebody takes part in the experiment already.
    """

    names: Mapping[str, Collection[str]] = field(default_factory=dict)
    taken: Collection[str] = frozenset()


def beyond_the_first(customers: Sequence[str], sharing: Sharing) -> list[int]:
    """The places of the customers whose address another one, earlier in the list or assigned before, takes part with.

    The list is sorted by customer_id and holds only those who may take part otherwise.
    """
    taken = set(sharing.taken)
    beyond = []
    for place, customer in enumerate(customers):
        names = sharing.names.get(customer, ())
        if not taken.isdisjoint(names):
            beyond.append(place)
        else:
            taken.update(names)
    return beyond
