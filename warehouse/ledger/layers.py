"""Exclusive layers: a customer is in one campaign of a layer at a time, also when two runs are recorded at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from warehouse.ledger import schema

_A = schema.assignments
_E = schema.experiments


@dataclass(frozen=True, slots=True)
class Layer:
    """The other campaigns of a run's layer, and how long after their horizon they still hold a customer."""

    rivals: tuple[str, ...] = ()
    cool_off: timedelta = timedelta(0)


def lock_recorders(tx: sa.Connection, experiment_id: str, rivals: Sequence[str]) -> None:
    """Let one recorder of an experiment in at a time, and one of its whole layer, until the commit.

    Every recorder locks its own experiment and those of its rivals that it sees, in order of their ids: of two at once
    at least one sees the other, as each began its experiment before it recorded anybody.
    """
    mine = _E.c.experiment_id == experiment_id
    wanted = sa.or_(mine, _E.c.campaign.in_(sorted(rivals))) if rivals else mine
    query = sa.select(_E.c.experiment_id).where(wanted).order_by(_E.c.experiment_id)
    tx.execute(query.with_for_update(key_share=True))


def held_by_rivals(
    tx: sa.Connection, layer: Layer, customers: Sequence[str], *, start: datetime, horizon: timedelta
) -> set[str]:
    """Those of `customers` (sorted) whom a rival holds at some time within [start, start + horizon).

    A rival holds a customer from the assignment until its horizon and the time of rest have passed; so this is true
    whichever of the two runs is as of the earlier instant.
    """
    found: set[str] = set()
    if not layer.rivals or not customers:
        return found
    wanted = set(customers)
    for experiment_id, its_horizon in _horizons(tx, layer.rivals):
        query = sa.select(_A.c.customer_id).where(
            _A.c.experiment_id == experiment_id,
            _A.c.customer_id >= customers[0],
            _A.c.customer_id <= customers[-1],
            _A.c.assigned_at < start + horizon + layer.cool_off,
            _A.c.assigned_at > start - its_horizon - layer.cool_off,
        )
        found.update(customer for customer in tx.execute(query).scalars() if customer in wanted)
    return found


def layer_busy(tx: sa.Connection, campaigns: Iterable[str], *, as_of: datetime) -> set[str]:
    """Give everyone whom one of these campaigns holds at `as_of`: assigned, and the horizon not over (any epoch)."""
    return _assigned_within(tx, campaigns, as_of, timedelta(0))


def resting(tx: sa.Connection, layer: Layer, *, as_of: datetime) -> set[str]:
    """Give everyone whom a rival held until less than the layer's time of rest ago."""
    if not layer.cool_off:
        return set()
    held = _assigned_within(tx, layer.rivals, as_of, layer.cool_off)
    return held - layer_busy(tx, layer.rivals, as_of=as_of)


def taken_lately(tx: sa.Connection, campaign: str, *, as_of: datetime, within: timedelta) -> set[str]:
    """Give everyone whom any other campaign took (control included) less than `within` ago."""
    others = sa.select(_E.c.experiment_id).where(_E.c.campaign != campaign)
    query = sa.select(_A.c.customer_id).where(
        _A.c.experiment_id.in_(others), _A.c.assigned_at <= as_of, _A.c.assigned_at > as_of - within
    )
    return set(tx.execute(query).scalars())


def _assigned_within(tx: sa.Connection, campaigns: Iterable[str], as_of: datetime, rest: timedelta) -> set[str]:
    found: set[str] = set()
    for experiment_id, horizon in _horizons(tx, campaigns):
        held = sa.select(_A.c.customer_id).where(
            _A.c.experiment_id == experiment_id,
            _A.c.assigned_at <= as_of,
            _A.c.assigned_at > as_of - horizon - rest,
        )
        found.update(tx.execute(held).scalars())
    return found


def _horizons(tx: sa.Connection, campaigns: Iterable[str]) -> list[tuple[str, timedelta]]:
    query = sa.select(_E.c.experiment_id, _E.c.design).where(_E.c.campaign.in_(sorted(campaigns)))
    return [(row[0], timedelta(days=float(row[1]["horizon_days"]))) for row in tx.execute(query).all()]
