"""What offers were used for: who redeemed which, what that cost, and codes in the hands of those they were not for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from campaigns.offer_terms import AmountOff, PercentOff, Points
from campaigns.offers import Offer, find_promise, offer_ends_at
from campaigns.points import points_of_order
from experiments.charges import charge, shift
from flows.steps.collect_outcomes import PRE_PERIOD
from warehouse.facts.dialects import to_us
from warehouse.facts.outcomes import COVARIATES, OUTCOMES, outcome_rows
from warehouse.facts.redemptions import knows_codes, orders_of_customers, orders_with_codes
from warehouse.ledger.assignments import assignments_frame
from warehouse.ledger.code_pools import code_key, own_codes
from warehouse.ledger.promises import offered, promises_of_wave
from warehouse.ledger.waves import WaveRow

if TYPE_CHECKING:
    from campaigns.offers import AnyOffer
    from experiments.aggregates import Moments
    from experiments.design import Design
    from flows.settings import LoyaltyPoints
    from flows.steps.collect_outcomes import Collected, WaveOutcomes
    from flows.wiring import Workspace

Basis = Literal["orders", "messages", "expected"]
ELSEWHERE: Final = "elsewhere"
"""Buyers with a code of the experiment who are not in it."""


@dataclass(frozen=True, slots=True)
class Made:
    """One offer as it was made to one customer: the window in which an order redeems it, in microseconds since 1970."""

    wave_id: str
    arm: str
    offer: str
    code: str | None
    reached: bool
    start_us: int
    end_us: int
    ends_us: int


@dataclass(slots=True)
class OfferCount:
    """One offer of one arm over the mature waves: customers offered it, reached, those who redeemed it, orders, cost.

    `late`: orders with the code after the offer had ended. `expected`: what it was expected to cost as it was applied.
    `actual`: what the redemptions cost. `basis`: what the margin is charged by. `in_margin`: the orders' margin bears
    the cost already, so that it is shown and not charged.
    """

    offered: int = 0
    reached: int = 0
    redeemers: set[str] = field(default_factory=set)
    orders: int = 0
    late: int = 0
    expected: float = 0.0
    actual: float = 0.0
    basis: Basis = "expected"
    in_margin: bool = False

    def to_json(self, arm: str, offer: str) -> dict[str, Any]:
        """Plain JSON types."""
        told = self.basis != "expected"
        return {
            "arm": arm,
            "offer": offer,
            "offered": self.offered,
            "reached": self.reached,
            "redeemed": len(self.redeemers) if told else None,
            "share": len(self.redeemers) / self.offered if told and self.offered else None,
            "orders": self.orders if told else None,
            "late": self.late,
            "expected_cost": round(self.expected, 2),
            "actual_cost": round(self.actual, 2) if told else None,
            "basis": self.basis,
            "charged": "in the orders' margin" if self.in_margin and told else "to the margin",
        }


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What became of an experiment's offers.

    `charges`: wave -> arm -> customer -> cost of that customer's redemptions, still to be taken off the margin; `flat`:
    wave -> arm -> cost known only as a total. `leaks`: arm (or ELSEWHERE) of buyers whose code was not for them ->
    their orders.
    """

    counts: Mapping[tuple[str, str], OfferCount]
    charges: Mapping[str, Mapping[str, Mapping[str, float]]]
    flat: Mapping[str, Mapping[str, float]]
    leaks: Mapping[str, int]

    @property
    def leaked_share(self) -> float | None:
        """Of the orders with a code, the share made by customers whom it was not for; None without any."""
        leaked, own = sum(self.leaks.values()), sum(count.orders for count in self.counts.values())
        return leaked / (leaked + own) if leaked + own else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "offers": [count.to_json(arm, offer) for (arm, offer), count in sorted(self.counts.items())],
            "leaks": dict(sorted(self.leaks.items())),
            "leaked_share": self.leaked_share,
        }


def collect_redeemed(ws: Workspace, design: Design, collected: Collected) -> Redeemed:
    """Match the orders of the mature waves with their offers.

    An order redeems an offer when its customer was offered it, it falls into the outcome window and the offer had not
    ended, and it bears the offer's code; without a code only points can be told (every such purchase earns them).
    Offers whose redemption cannot be told are charged at their expected cost.
    """
    waves = [wave.wave for wave in collected.mature_waves]
    work = _Work(ws, design, waves)
    if not work.made:
        return Redeemed({}, {}, {}, {})
    work.count_coded()
    work.count_codeless()
    work.finish()
    return Redeemed(work.counts, work.charges, work.flat, dict(work.leaks))


class _Work:
    """The matching under way: what was made to whom, and what was found so far."""

    def __init__(self, ws: Workspace, design: Design, waves: list[WaveRow]) -> None:
        self._ws, self._design, self._waves = ws, design, waves
        self._offers: Mapping[str, AnyOffer] = ws.usable_book[0].offers
        self._horizon = timedelta(days=design.horizon_days)
        self.made: dict[str, Made] = {}
        self.counts: dict[tuple[str, str], OfferCount] = {}
        self.charges: dict[str, dict[str, dict[str, float]]] = {}
        self.flat: dict[str, dict[str, float]] = {}
        self.leaks: Counter[str] = Counter()
        self._expected: dict[tuple[str, str, str], float] = {}
        for wave in waves:
            self._read(wave)
        if self.made:
            self._start = min(wave.assigned_at for wave in waves)
            self._until = max(wave.assigned_at for wave in waves) + self._horizon
            self._can_tell = knows_codes(ws.facts, start=self._start, until=self._until)
            self._set_basis()

    def _read(self, wave: WaveRow) -> None:
        """What one wave offered to whom."""
        with self._ws.ledger.read() as tx:
            rows = offered(tx, wave.wave_id)
            ends = own_codes(tx, self._design.experiment_id, [] if rows.empty else rows["customer_id"])
            for promised in promises_of_wave(tx, wave.wave_id):
                self._expected[wave.wave_id, promised.arm, promised.offer] = promised.cost_micros / 1e6
        start, end = wave.assigned_at, wave.assigned_at + self._horizon
        for customer, arm, offer, code, reached in rows.itertuples(index=False):
            over = self._offer_end(offer, start)
            own = ends.get(customer)
            code_end = None if own is None else own.expires_at
            known = [moment for moment in (over, code_end) if moment is not None]
            ends_us = to_us(min(known)) if known else to_us(end)
            self.made[customer] = Made(wave.wave_id, arm, offer, code, bool(reached), to_us(start), to_us(end), ends_us)
            count = self.counts.setdefault((arm, offer), OfferCount())
            count.offered += 1
            count.reached += bool(reached)

    def _offer_end(self, name: str, start: datetime) -> datetime | None:
        promise = find_promise(self._offers, name)
        return None if promise is None else offer_ends_at(promise, as_of=start)

    def _set_basis(self) -> None:
        """How each offer's cost is told: by orders, by messages, or not at all."""
        included = self._ws.settings.measurement.margin_includes
        codes = {(made.arm, made.offer): made.code is not None for made in self.made.values()}
        for (arm, name), count in self.counts.items():
            promise = find_promise(self._offers, name)
            terms = None if promise is None else promise.terms
            if isinstance(terms, Points) and terms.earned == "message":
                count.basis = "messages"
            elif terms is not None and (self._can_tell if codes[arm, name] else isinstance(terms, Points)):
                count.basis = "orders"
            count.in_margin = terms is not None and terms.kind in included

    def count_coded(self) -> None:
        """Match the orders that bear a code of the experiment with those to whom it was given."""
        codes = {code_key(made.code) for made in self.made.values() if made.code}
        if not codes or not self._can_tell:
            return
        rows = orders_with_codes(self._ws.facts, sorted(codes), start=self._start, until=self._until)
        arms = self._arms()
        for code, _, customer, at_us, amount in rows.itertuples(index=False):
            made = self.made.get(customer)
            if made is None or made.code is None or code_key(made.code) != code:
                self.leaks[arms.get(customer, ELSEWHERE)] += 1
            elif made.start_us <= at_us < made.end_us:
                self._redeem(customer, made, at_us, float(amount))

    def count_codeless(self) -> None:
        """Points without a code: every purchase in the offer's time earns them, or the message did."""
        by_purchase = {
            customer
            for customer, made in self.made.items()
            if made.code is None and self.counts[made.arm, made.offer].basis == "orders"
        }
        if by_purchase:
            rows = orders_of_customers(self._ws.facts, sorted(by_purchase), start=self._start, until=self._until)
            for customer, _, at_us, amount, bought, _ in rows.itertuples(index=False):
                made = self.made[customer]
                if bought and made.start_us <= at_us < min(made.end_us, made.ends_us):
                    self._redeem(customer, made, at_us, float(amount))
        for customer, made in self.made.items():
            if self.counts[made.arm, made.offer].basis == "messages" and made.reached:
                self._redeem(customer, made, made.start_us, 0.0)

    def finish(self) -> None:
        """Charge what cannot be told at its expected cost, and put the expected cost beside the actual."""
        for (wave_id, arm, offer), cost in self._expected.items():
            count = self.counts.get((arm, offer))
            if count is None:
                continue
            count.expected += cost
            if count.basis == "expected":
                of_wave = self.flat.setdefault(wave_id, {})
                of_wave[arm] = of_wave.get(arm, 0.0) + cost

    def _redeem(self, customer: str, made: Made, at_us: int, amount: float) -> None:
        count = self.counts[made.arm, made.offer]
        if at_us >= made.ends_us:
            count.late += 1
            return
        promise = find_promise(self._offers, made.offer)
        assert promise is not None  # the basis says that its terms are known
        cost = cost_of_order(promise, amount, first=customer not in count.redeemers, settings=self._ws.settings.points)
        count.orders += 1
        count.redeemers.add(customer)
        count.actual += cost
        if cost and not count.in_margin:
            of_arm = self.charges.setdefault(made.wave_id, {}).setdefault(made.arm, {})
            of_arm[customer] = of_arm.get(customer, 0.0) + cost

    def _arms(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for wave in self._waves:
            with self._ws.ledger.read() as tx:
                frame = assignments_frame(tx, wave.wave_id)
            found |= dict(zip(frame["customer_id"], frame["arm"], strict=True))
        return found


def cost_of_order(offer: Offer, amount: float, *, first: bool, settings: LoyaltyPoints) -> float:
    """What one order that redeems an offer costs the company.

    `amount` is what was paid, after the discount: 10% off leaves 90% of the price, the discount is amount x 10/90.
    Points cost their number x `settings.value` where that is set. What an order does not tell costs what the offer
    says a redemption costs; points by that measure once a customer (`first`).
    """
    terms = offer.terms
    said = float(terms.cost.value.amount) if terms.cost else 0.0
    match terms:
        case PercentOff(percent=share) if share < 1:
            return amount * share / (1 - share)
        case AmountOff(amount=money):
            return float(money.amount)
        case Points() if settings.value is not None:
            points = points_of_order(terms, amount, per_hundred=settings.per_hundred, first=first)
            return points * float(settings.value.amount)
        case Points():
            return said if first else 0.0
    return said


def charge_margin(ws: Workspace, design: Design, wave: WaveOutcomes, redeemed: Redeemed) -> dict[str, Moments]:
    """A mature wave's margins by arm, with the columns they are adjusted by, after its offers were paid.

    Redemptions are charged to the customers who made them, exactly as if the rows had been there; what is known as a
    total only (an expected cost, the totals of households) shifts the mean.
    """
    charged = {}
    of_wave = redeemed.charges.get(wave.wave.wave_id, {})
    flat = redeemed.flat.get(wave.wave.wave_id, {})
    for arm, moments in (wave.outcomes or {}).items():
        found = moments
        costs = of_wave.get(arm, {})
        if costs and design.unit == "customer":
            found = _charge_customers(ws, wave, design, moments.select(_of_facts(moments)), costs)
        elif costs:
            found = shift(found, "margin", sum(costs.values()))
        charged[arm] = shift(found, "margin", flat.get(arm, 0.0))
    return _same_columns(charged)


def _charge_customers(
    ws: Workspace, wave: WaveOutcomes, design: Design, moments: Moments, costs: Mapping[str, float]
) -> Moments:
    import numpy as np

    customers = sorted(costs, key=str.encode)
    horizon = timedelta(days=design.horizon_days)
    values = outcome_rows(ws.facts, customers, start=wave.wave.assigned_at, horizon=horizon, pre_period=PRE_PERIOD)
    paid = np.array([costs[customer] for customer in customers], dtype=np.float64)
    return charge(moments, "margin", paid, {name: values[name] for name in moments.columns})


def _of_facts(moments: Moments) -> list[str]:
    return [name for name in moments.columns if name in (*OUTCOMES, *COVARIATES)]


def _same_columns(parts: Mapping[str, Moments]) -> dict[str, Moments]:
    """All arms with the columns that all of them have."""
    common = set.intersection(*(set(part.columns) for part in parts.values())) if parts else set()
    return {arm: part.select([name for name in part.columns if name in common]) for arm, part in parts.items()}
