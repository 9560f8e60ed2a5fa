"""What an experiment did to its customers, counted by arm: reached, unsubscribed, complained, message cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

import sqlalchemy as sa

from experiments.aggregates import Moments
from warehouse.ledger import schema
from warehouse.ledger.errors import LedgerError

_A = schema.assignments
_O = schema.outbox
_S = schema.suppressions
_W = schema.waves

UNSUBSCRIBED: Final = ("stop", "unsubscribe")
COMPLAINED: Final = ("complaint",)

LedgerMetric = Literal["unsubscribed", "complained", "message_cost"]


@dataclass(frozen=True, slots=True)
class ArmTally:
    """One arm, customers counted once each; tallies of several waves add up.

    `reached`: customers with a message that a provider accepted. `contaminated`: customers with a message of an arm
    that is not theirs, or with any while in control. `costs`: cost per customer in millionths -> customers.
    """

    assigned: int = 0
    reached: int = 0
    unsubscribed: int = 0
    complained: int = 0
    contaminated: int = 0
    costs: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: ArmTally) -> ArmTally:
        """Add the tally of the same arm in another wave."""
        costs = {cost: self.costs.get(cost, 0) + other.costs.get(cost, 0) for cost in {*self.costs, *other.costs}}
        return ArmTally(
            self.assigned + other.assigned,
            self.reached + other.reached,
            self.unsubscribed + other.unsubscribed,
            self.complained + other.complained,
            self.contaminated + other.contaminated,
            dict(sorted(costs.items())),
        )

    @property
    def cost_micros(self) -> int:
        """What the arm's messages cost, in millionths of the currency unit."""
        return sum(cost * n for cost, n in self.costs.items())

    def moments(self, metric: LedgerMetric) -> Moments:
        """Give the one-column moments of a metric over everyone assigned; message_cost in units of the currency."""
        if metric != "message_cost":
            return Moments.from_counts(metric, self.assigned, getattr(self, metric))
        if not self.assigned:
            return Moments.empty((metric,))
        mean = self.cost_micros / self.assigned
        spread = sum(n * (cost - mean) ** 2 for cost, n in self.costs.items()) / 1e12
        cubes = sum(n * (cost - mean) ** 3 for cost, n in self.costs.items()) / 1e18
        return Moments(self.assigned, (metric,), (self.cost_micros / 1e6,), ((spread,),), (cubes,))


def tally(tx: sa.Connection, wave_id: str, *, horizon: timedelta) -> dict[str, ArmTally]:
    """Tally one wave by arm: wishes and complaints from the assignment until `horizon` after it, costs of all messages.

    Raises LedgerError when there is no such wave.
    """
    wave = tx.execute(sa.select(_W.c.experiment_id, _W.c.assigned_at).where(_W.c.wave_id == wave_id)).first()
    if wave is None:
        raise LedgerError(f"no wave {wave_id} in the ledger; expected EXPERIMENT@INSTANT as waves() lists them")
    in_wave = (_A.c.experiment_id == wave.experiment_id) & (_A.c.wave_id == wave_id)
    wishes = {
        reasons: _count_suppressed(
            tx, in_wave, reasons, _S.c.at >= wave.assigned_at, _S.c.at < wave.assigned_at + horizon
        )
        for reasons in (UNSUBSCRIBED, COMPLAINED)
    }
    contaminated = _count_contaminated(tx, in_wave)
    assigned: dict[str, int] = {}
    reached: dict[str, int] = {}
    costs: dict[str, dict[int, int]] = {}
    for arm, cost, was_reached, n in tx.execute(_cost_query(in_wave)):
        assigned[arm] = assigned.get(arm, 0) + int(n)
        reached[arm] = reached.get(arm, 0) + (int(n) if was_reached else 0)
        of_arm = costs.setdefault(arm, {})
        of_arm[int(cost)] = of_arm.get(int(cost), 0) + int(n)
    return {
        arm: ArmTally(
            assigned[arm],
            reached[arm],
            wishes[UNSUBSCRIBED].get(arm, 0),
            wishes[COMPLAINED].get(arm, 0),
            contaminated.get(arm, 0),
            dict(sorted(costs[arm].items())),
        )
        for arm in sorted(assigned)
    }


def customer_tallies(tx: sa.Connection, wave_id: str, *, horizon: timedelta) -> dict[str, dict[str, float]]:
    """Give metric -> customer -> value of a wave, those above 0: what `tally` counts, for units of several."""
    wave = tx.execute(sa.select(_W.c.experiment_id, _W.c.assigned_at).where(_W.c.wave_id == wave_id)).one()
    in_wave = (_A.c.experiment_id == wave.experiment_id) & (_A.c.wave_id == wave_id)
    within = (_S.c.at >= wave.assigned_at, _S.c.at < wave.assigned_at + horizon)
    found: dict[str, dict[str, float]] = {}
    for name, reasons in (("unsubscribed", UNSUBSCRIBED), ("complained", COMPLAINED)):
        told = _A.join(_S, _S.c.customer_id == _A.c.customer_id)
        query = sa.select(_A.c.customer_id.distinct()).select_from(told)
        found[name] = dict.fromkeys(tx.execute(query.where(in_wave, _S.c.reason.in_(reasons), *within)).scalars(), 1.0)
    own = (_O.c.customer_id == _A.c.customer_id) & (_O.c.experiment_id == _A.c.experiment_id)
    costs = sa.select(_A.c.customer_id, sa.func.sum(_O.c.cost_micros)).select_from(_A.join(_O, own))
    costs = costs.where(in_wave, _O.c.state.in_(schema.COUNTED)).group_by(_A.c.customer_id)
    found["message_cost"] = {customer: int(cost) / 1e6 for customer, cost in tx.execute(costs)}
    return found


def _cost_query(in_wave: sa.ColumnElement[bool]) -> sa.Select[tuple[str, int, bool, int]]:
    """Count customers by (arm, cost of their messages, whether one was accepted); zero for those without any."""
    left = _O.c.state.in_(schema.COUNTED)
    accepted = sa.case((_O.c.state.in_(["sent", "delivered"]), 1), else_=0)
    own = (_O.c.customer_id == _A.c.customer_id) & (_O.c.experiment_id == _A.c.experiment_id) & left
    each = (
        sa.select(
            _A.c.arm,
            sa.func.coalesce(sa.func.sum(_O.c.cost_micros), 0).label("cost"),
            (sa.func.coalesce(sa.func.sum(accepted), 0) > 0).label("was_reached"),
        )
        .select_from(_A.outerjoin(_O, own))
        .where(in_wave)
        .group_by(_A.c.customer_id, _A.c.arm)
        .subquery()
    )
    columns = (each.c.arm, each.c.cost, each.c.was_reached)
    return sa.select(*columns, sa.func.count()).group_by(*columns)


def _count_suppressed(
    tx: sa.Connection, in_wave: sa.ColumnElement[bool], reasons: tuple[str, ...], *within: sa.ColumnElement[bool]
) -> dict[str, int]:
    query = (
        sa.select(_A.c.arm, sa.func.count(_A.c.customer_id.distinct()))
        .select_from(_A.join(_S, _S.c.customer_id == _A.c.customer_id))
        .where(in_wave, _S.c.reason.in_(reasons), *within)
        .group_by(_A.c.arm)
    )
    return {arm: int(n) for arm, n in tx.execute(query)}


def _count_contaminated(tx: sa.Connection, in_wave: sa.ColumnElement[bool]) -> dict[str, int]:
    e = schema.experiments
    own = (_O.c.customer_id == _A.c.customer_id) & (_O.c.experiment_id == _A.c.experiment_id)
    query = (
        sa.select(e.c.design, _A.c.arm, _O.c.arm, sa.func.count(_A.c.customer_id.distinct()))
        .select_from(_A.join(_O, own).join(e, e.c.experiment_id == _A.c.experiment_id))
        .where(in_wave, _O.c.state.in_(schema.COUNTED))
        .group_by(e.c.design, _A.c.arm, _O.c.arm)
    )
    found: dict[str, int] = {}
    for design, arm, sent_as, n in tx.execute(query):
        if arm != sent_as or arm == design.get("control", "control"):
            found[arm] = found.get(arm, 0) + int(n)
    return found
