"""How the demonstration's customers react, in simulated time, to the messages that really left.

Everybody goes on buying by themselves, control included: that is the natural repurchase. Whoever received a message of
an arm with an effect may buy once more. The chance of it is set such that the probability of a purchase within the
horizon, averaged over everyone assigned, rises by exactly the arm's lift if every message arrives; so the truth is
known however the draw falls out. All draws are made for every customer and do not depend on the arms: a reaction
depends only on who received which message, and two runs that differ in the arms differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.demo.baskets import Baskets, discount, fill_baskets
from flows.demo.exposure import Exposure, Seen, look_at
from flows.demo.purchases import Flags, Floats, Instants, Rows, go_on
from flows.demo.world import World, numbered, order_columns, to_frame, to_second, write_table

if TYPE_CHECKING:
    import pandas as pd

PERSUADED_WITHIN_DAYS = 6.0
VISITS_AFTER_MESSAGE = 0.14
ANSWER_WITHIN_S = 8 * 3600.0
SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True, kw_only=True)
class ArmEffect:
    """What a message of an arm truly does; all shares are 0..1.

    lift: rise of the probability of a purchase within the horizon, over everyone assigned, if every message arrives.
    discount: share of the price that a redeemed code takes off. redeemed: share of the purchases that would have come
    anyway which redeem it (those that come because of the message always do). code: the shared code, where customers
    have none of their own. points: share of the amount that the points cost, for every purchase after the message.
    unsubscribes: share of the receivers who want no more messages.
    """

    lift: float = 0.0
    discount: float = 0.0
    redeemed: float = 0.0
    code: str = ""
    points: float = 0.0
    unsubscribes: float = 0.0


WINBACK_EFFECTS: Mapping[str, ArmEffect] = {
    # works, and earns more than it costs
    "double-points": ArmEffect(lift=0.045, points=0.02, unsubscribes=0.003),
    # a kind word changes nothing
    "we-miss-you": ArmEffect(unsubscribes=0.003),
    # brings most customers back, and pays them for what they would have bought anyway
    "deep-discount": ArmEffect(lift=0.055, discount=0.35, redeemed=0.85, code="COMEBACK35", unsubscribes=0.004),
}


@dataclass(frozen=True)
class Truth:
    """What an arm really did to those assigned to it, within the horizon.

    lift: expected rise of the share who buy. margin: margin per assigned customer above what the very same customers
    would have left unasked.
    """

    lift: float
    margin: float


@dataclass(frozen=True)
class Reactions:
    """What happened until the end of the simulated time: canonical orders and events, unsubscribes, truth per arm.

    unsubscribes: columns customer_id, channel, at (aware UTC), ascending in time.
    """

    orders: pd.DataFrame
    events: pd.DataFrame
    unsubscribes: pd.DataFrame
    truth: Mapping[str, Truth]

    def write(self, folder: Path) -> dict[str, Path]:
        """new_orders.csv and new_events.csv in `folder` (made where missing), by table name."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"orders": self.orders, "events": self.events}
        return {name: write_table(frame, folder / f"new_{name}.csv") for name, frame in tables.items()}


def react(
    world: World, exposure: Exposure, *, until: datetime, seed: int, effects: Mapping[str, ArmEffect] = WINBACK_EFFECTS
) -> Reactions:
    """All that the customers of the world do from `world.as_of` until `until` (both aware instants).

    Raises ValueError for an exposure that does not fit the world (see look_at) and for a lift too large to reach.
    """
    natural_rng, extra_rng, answer_rng = (np.random.default_rng([seed, 100 + stream]) for stream in range(3))
    seen = look_at(world, exposure)
    at_work = _Work(seen, tuple(effects.get(name, ArmEffect()) for name in seen.arms))
    persuaded, lift = _chances(world, at_work)
    now = to_second(until)
    natural = _natural(world, at_work, now, natural_rng)
    extra = _persuaded(world, at_work, persuaded, extra_rng)
    bought = _join(natural, extra.where(extra.at < now))
    events, unsubscribes = _answers(at_work, now, answer_rng)
    others = {name: i for i, name in enumerate(seen.arms) if name != exposure.control}
    return Reactions(
        orders=_orders(seen, bought),
        events=events,
        unsubscribes=unsubscribes,
        truth={name: _truth(seen.arm == i, lift, bought.where(bought.at < seen.end)) for name, i in others.items()},
    )


@dataclass(frozen=True)
class _Work:
    """The effects at work: what was seen, and the effect of each of its arms in the same order."""

    seen: Seen
    effects: tuple[ArmEffect, ...]

    def of(self, name: str) -> Floats:
        """One number of the effects per customer; 0 for whoever received nothing."""
        values = [float(getattr(effect, name)) for effect in self.effects]
        return np.where(self.seen.reached, np.array([*values, 0.0])[self.seen.arm], 0.0)

    def codes(self) -> NDArray[np.str_]:
        """The code each customer holds: their own, else the arm's shared one."""
        shared = np.array([*(effect.code for effect in self.effects), ""])[self.seen.arm]
        return np.where(self.seen.code == "", shared, self.seen.code)


@dataclass(frozen=True)
class _Bought:
    """Purchases: the customer's row, the instant, the basket as paid, and its margin above what it were unasked."""

    customer: Rows
    at: Instants
    baskets: Baskets
    gained: Floats

    def where(self, chosen: Flags) -> _Bought:
        return _Bought(self.customer[chosen], self.at[chosen], self.baskets.where(chosen), self.gained[chosen])


def _chances(world: World, work: _Work) -> tuple[Floats, Floats]:
    """Per customer: the probability of one more purchase, and the rise of the probability of any, both if reached.

    Any purchase has 1 - (1 - natural)(1 - persuaded), so that persuading everyone assigned with probability q lifts the
    mean by q x mean(1 - natural); q is set from the lift.
    """
    seen, clock = work.seen, world.shop_time
    since, start, end = (float(clock.of(at)) for at in (to_second(world.as_of), seen.start, seen.end))
    idle = 1.0 - world.latent.buyers.chance_of_purchase(end - start, wait=start - since)
    assigned = seen.arm >= 0
    room = float(idle[assigned].mean()) if assigned.any() else 1.0
    persuaded = work.of("lift") / room
    if (persuaded > 1).any():
        raise ValueError(f"effects: a lift of {work.of('lift').max():.3f} is out of reach, at most {room:.3f} expected")
    return persuaded, persuaded * idle


def _natural(world: World, work: _Work, now: np.datetime64, rng: np.random.Generator) -> _Bought:
    """What everybody buys by themselves; an offer in hand is used by some of them."""
    clock, seen = world.shop_time, work.seen
    since, until = float(clock.of(to_second(world.as_of))), float(clock.of(now))
    found = go_on(world.latent.buyers, since, until, rng)
    who, at = found.customer, np.minimum(clock.calendar(found.shop_time), now - SECOND)
    baskets = replace(fill_baskets(world.latent.usual_amount[who], rng), status=np.full(who.size, "completed"))
    holds = seen.reached[who] & (at >= seen.sent_at[who]) & (at < seen.end)
    redeems = holds & (rng.random(who.size) < work.of("redeemed")[who])
    paid = _with_offer(work, who, baskets, redeems=redeems, holds=holds)
    return _Bought(who, at, paid, paid.margin - baskets.margin)


def _persuaded(world: World, work: _Work, chance: Floats, rng: np.random.Generator) -> _Bought:
    """The one more purchase of those whom the message persuades, most of them within days, all within the horizon."""
    seen, clock, n = work.seen, world.shop_time, work.seen.ids.size
    luck, patience = rng.random(n), rng.random(n)
    everything = fill_baskets(world.latent.usual_amount, rng)
    chosen = luck < chance
    who = np.flatnonzero(chosen)
    start, end = clock.of(seen.sent_at[who]), float(clock.of(seen.end))
    room = -np.expm1(-(end - start) / PERSUADED_WITHIN_DAYS)
    delay = -PERSUADED_WITHIN_DAYS * np.log1p(-patience[who] * room)
    at = np.clip(clock.calendar(start + delay), seen.sent_at[who], seen.end - SECOND)
    baskets = replace(everything.where(chosen), status=np.full(who.size, "completed"))
    everyone = np.ones(who.size, dtype=np.bool_)
    paid = _with_offer(work, who, baskets, redeems=everyone, holds=everyone)
    return _Bought(who, at, paid, paid.margin)


def _with_offer(work: _Work, who: Rows, baskets: Baskets, *, redeems: Flags, holds: Flags) -> Baskets:
    share = work.of("discount")[who]
    cheaper = discount(baskets, redeems & (share > 0), share, work.codes()[who])
    points = np.where(holds, cheaper.amount * work.of("points")[who], 0.0)
    return replace(cheaper, margin=np.round(cheaper.margin - points, 2))


def _join(*parts: _Bought) -> _Bought:
    customer, at, gained = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("customer", "at", "gained")
    )
    in_time = np.lexsort((customer, at))
    baskets = Baskets.concatenated([part.baskets for part in parts]).where(in_time)
    return _Bought(customer[in_time], at[in_time], baskets, gained[in_time])


def _orders(seen: Seen, bought: _Bought) -> pd.DataFrame:
    """Canonical orders; the ids bear the date of the assignment, so that those of several campaigns do not collide."""
    prefix = "R" + np.datetime_as_string(seen.start, unit="D").replace("-", "") + "-"
    columns = order_columns(seen.ids[bought.customer], bought.at, bought.baskets)
    return to_frame({"order_id": numbered(prefix, bought.at.size), **columns})


def _answers(work: _Work, now: np.datetime64, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Visits of the curious and unsubscribes of the annoyed, within hours of the message."""
    seen, n = work.seen, work.seen.ids.size
    curious, annoyed = rng.random(n) < VISITS_AFTER_MESSAGE, rng.random(n)
    at = seen.sent_at + (1 + rng.exponential(ANSWER_WITHIN_S, size=n)).astype("timedelta64[s]")
    in_time = np.argsort(at, kind="stable")  # NaT last
    in_time = in_time[at[in_time] < now]
    visits = in_time[(seen.reached & curious)[in_time]]
    leaves = in_time[(annoyed < work.of("unsubscribes"))[in_time]]
    prefix = "V" + np.datetime_as_string(seen.start, unit="D").replace("-", "") + "-"
    events = to_frame(
        {
            "event_id": numbered(prefix, visits.size),
            "customer_id": seen.ids[visits],
            "occurred_at": at[visits],
            "event": np.full(visits.size, "visit"),
            "value": np.full(visits.size, np.nan),
            "properties": np.full(visits.size, '{"page": "offers"}'),
        }
    )
    return events, to_frame({"customer_id": seen.ids[leaves], "channel": seen.channel[leaves], "at": at[leaves]})


def _truth(members: Flags, lift: Floats, bought: _Bought) -> Truth:
    gained = float(bought.gained[members[bought.customer]].sum())
    size = int(members.sum())
    return Truth(lift=float(lift[members].mean()), margin=gained / size)
