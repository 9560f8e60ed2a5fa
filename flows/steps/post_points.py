"""Posts the loyalty points that offers promised: earned by matched orders or by messages, taken back, run out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from campaigns.offer_terms import Points
from campaigns.offers import Offer, find_promise, offer_ends_at
from campaigns.points import points_of_order
from warehouse.facts.dialects import to_us
from warehouse.facts.redemptions import orders_of_customers
from warehouse.ledger.audit import record_audit
from warehouse.ledger.code_pools import code_key, own_codes
from warehouse.ledger.experiments import experiments
from warehouse.ledger.points import (
    Kind,
    Posting,
    freeze,
    frozen_customers,
    post,
    posting_key,
    postings_of,
    unexported,
)
from warehouse.ledger.promises import offered
from warehouse.ledger.waves import WaveRow, waves

if TYPE_CHECKING:
    import pandas as pd

    from flows.wiring import Workspace


@dataclass(frozen=True, slots=True)
class PostedPoints:
    """What one posting run recorded: new postings by kind, and customers left out because their points are frozen."""

    new: dict[str, int]
    points: int
    frozen: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"new": self.new, "points": self.points, "frozen": self.frozen}


def post_points(ws: Workspace, *, now: datetime) -> PostedPoints:
    """Post everything that is owed as of `now` and not posted yet. Running it again changes nothing.

    Only customers whom a message of the offer reached (or may have) were promised anything. A frozen customer's points
    are posted once they go on.
    """
    with ws.ledger.read() as tx:
        frozen = frozen_customers(tx)
        runs = [wave for row in experiments(tx) for wave in waves(tx, row.experiment_id) if wave.as_of <= now]
    owed: list[Posting] = []
    skipped: set[str] = set()
    for wave in runs:
        for posting in _owed_by_wave(ws, wave, now):
            if posting.customer_id in frozen:
                skipped.add(posting.customer_id)
            else:
                owed.append(posting)
    with ws.ledger.read() as tx:
        recorded = {posting.posting_key for posting in postings_of(tx)}
    fresh = [posting for posting in owed if posting.posting_key not in recorded]
    with ws.ledger.begin() as tx:
        post(tx, fresh)
        known = [posting for posting in postings_of(tx) if posting.customer_id not in frozen]
        keys = {posting.posting_key for posting in known}
        expired = [posting for posting in _run_out(known, now) if posting.posting_key not in keys]
        post(tx, expired)
    new: dict[str, int] = {}
    for posting in (*fresh, *expired):
        new[posting.kind] = new.get(posting.kind, 0) + 1
    return PostedPoints(dict(sorted(new.items())), sum(p.points for p in (*fresh, *expired)), len(skipped))


def balance_of(ws: Workspace, customer_id: str, *, now: datetime) -> dict[str, Any]:
    """A customer's points as of `now`: what was posted, how much of it is not exported yet, whether it is frozen."""
    with ws.ledger.read() as tx:
        postings = [posting for posting in postings_of(tx, customer_id=customer_id) if posting.posted_at <= now]
        waiting, is_frozen = unexported(tx, customer_id), customer_id in frozen_customers(tx)
    return {
        "customer_id": customer_id,
        "balance": sum(posting.points for posting in postings),
        "not_exported": waiting,
        "frozen": is_frozen,
        "postings": [
            {
                "at": posting.at.isoformat(),
                "kind": posting.kind,
                "points": posting.points,
                "offer": posting.offer,
                "experiment": posting.experiment_id,
                "order_id": posting.order_id,
                "expires_at": None if posting.expires_at is None else posting.expires_at.isoformat(),
            }
            for posting in postings
        ],
    }


def freeze_points(ws: Workspace, customer_id: str, *, frozen: bool, by: str, reason: str, now: datetime) -> bool:
    """Freeze a customer's points or let them go on; False where nothing changed."""
    with ws.ledger.begin() as tx:
        changed = freeze(tx, customer_id, frozen=frozen, at=now, by=by, reason=reason)
        if changed:
            action = "points frozen" if frozen else "points released"
            record_audit(tx, at=now, actor=by, action=action, subject=customer_id, detail={"reason": reason})
    return changed


@dataclass(frozen=True, slots=True)
class _Account:
    """One customer's promise of points in one run, with the orders since."""

    wave: WaveRow
    customer_id: str
    offer: Offer
    terms: Points
    code: str | None
    ends_us: int | None
    now: datetime

    def earns(self, order: Any) -> bool:
        """Whether an order falls into the offer's time and bears its code, bought or taken back since."""
        in_time = self.ends_us is None or order.ordered_us < self.ends_us
        return order.amount >= 0 and in_time and (self.code is None or order.code == code_key(self.code))

    def posting(self, kind: Kind, cause: str, points: int, at_us: int, order_id: str | None) -> Posting:
        """A posting of this account; `cause` tells it from all others of its kind."""
        at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(at_us))
        holds = self.terms.expire_after if points > 0 else None
        return Posting(
            posting_key=posting_key(kind, self.wave.experiment_id, cause),
            customer_id=self.customer_id,
            experiment_id=self.wave.experiment_id,
            offer=self.offer.name,
            kind=kind,
            points=points,
            at=at,
            posted_at=self.now,
            expires_at=None if holds is None else at + holds,
            order_id=order_id,
        )


def _owed_by_wave(ws: Workspace, wave: WaveRow, now: datetime) -> Iterator[Posting]:
    offers = ws.usable_book[0].offers
    with ws.ledger.read() as tx:
        rows = offered(tx, wave.wave_id)
        rows = rows[rows["reached"]]
        ends = own_codes(tx, wave.experiment_id, rows["customer_id"]) if len(rows) else {}
        posted = {p.posting_key: p for p in postings_of(tx, experiment_id=wave.experiment_id)}
    accounts = {}
    for customer, _, name, code, _ in rows.itertuples(index=False):
        offer = find_promise(offers, name)
        if offer is None or not isinstance(offer.terms, Points):
            continue
        own = ends.get(customer)
        code_end = None if own is None else own.expires_at
        over = [at for at in (offer_ends_at(offer, as_of=wave.assigned_at), code_end) if at is not None]
        ends_us = to_us(min(over)) if over else None
        accounts[customer] = _Account(wave, customer, offer, offer.terms, code, ends_us, now)
    if not accounts:
        return
    orders = orders_of_customers(ws.facts, sorted(accounts), start=wave.assigned_at, until=now)
    by_customer = {str(customer): frame for customer, frame in orders.groupby("customer_id", sort=True)}
    for customer, account in sorted(accounts.items()):
        yield from _owed(account, by_customer.get(customer), posted, per_hundred=ws.settings.points.per_hundred)


def _owed(
    account: _Account, orders: pd.DataFrame | None, posted: dict[str, Posting], *, per_hundred: int
) -> Iterator[Posting]:
    """Everything that the customer's orders, or the message, call for; what was taken back is posted with the sign."""
    terms = account.terms
    if terms.earned == "message":
        points, at_us = terms.bonus or 0, to_us(account.wave.assigned_at)
        yield account.posting("bonus", account.customer_id, points, at_us, None)
        return
    rows: list[Any] = [] if orders is None else list(orders.itertuples(index=False))
    earned: list[tuple[Any, Posting]] = []
    kind: Kind = "bonus" if terms.multiplier is None else "multiplier"
    for order in rows:
        order_id = str(order.order_id)
        cause = account.customer_id if kind == "bonus" else order_id
        before = posted.get(posting_key(kind, account.wave.experiment_id, cause))
        was_posted = before is not None and before.order_id == order_id
        if not account.earns(order) or not (order.bought or was_posted) or (kind == "bonus" and earned):
            continue
        if before is not None and not was_posted:
            continue  # the bonus was earned by another order
        points = points_of_order(terms, order.amount, per_hundred=per_hundred, first=True)
        points = before.points if before is not None else points
        if points:
            posting = account.posting(kind, cause, points, order.ordered_us, order_id)
            earned.append((order, posting))
            yield posting
    yield from _taken_back(account, rows, earned, per_hundred=per_hundred)


def _taken_back(
    account: _Account, rows: list[Any], earned: list[tuple[Any, Posting]], *, per_hundred: int
) -> Iterator[Posting]:
    """Points of orders that are no purchase any more, and of refunds that come as rows of their own.

    Such a row names no order: it is taken to be of the latest order before it that earned points and is large enough.
    """
    left = {posting.posting_key: (order.amount, posting.points) for order, posting in earned}
    for order, posting in earned:
        if not order.bought:
            left[posting.posting_key] = (0.0, 0)
            yield account.posting(
                "refund", f"of {posting.posting_key}", -posting.points, order.ordered_us, str(order.order_id)
            )
    for refund in (row for row in rows if row.amount < 0):
        for order, posting in reversed(earned):
            amount, points = left[posting.posting_key]
            if order.ordered_us > refund.ordered_us or not points or amount + refund.amount < -1e-9:
                continue
            rest = max(0.0, amount + refund.amount)
            keeps = points if rest else 0
            if account.terms.multiplier is not None:
                keeps = min(points, points_of_order(account.terms, rest, per_hundred=per_hundred, first=True))
            left[posting.posting_key] = (rest, keeps)
            if keeps < points:
                yield account.posting(
                    "refund", str(refund.order_id), keeps - points, refund.ordered_us, str(refund.order_id)
                )
            break


def _run_out(postings: list[Posting], now: datetime) -> Iterator[Posting]:
    """Points whose time is over, less what was taken back of them."""
    taken: dict[tuple[str, str], int] = {}
    for posting in postings:
        if posting.kind == "refund":
            key = (posting.experiment_id, posting.customer_id)
            taken[key] = taken.get(key, 0) - posting.points
    for posting in postings:
        if posting.points <= 0 or posting.expires_at is None or posting.expires_at > now:
            continue
        key = (posting.experiment_id, posting.customer_id)
        gone = min(taken.get(key, 0), posting.points)
        taken[key] = taken.get(key, 0) - gone
        if posting.points > gone:
            yield Posting(
                posting_key=posting_key("expiry", posting.posting_key),
                customer_id=posting.customer_id,
                experiment_id=posting.experiment_id,
                offer=posting.offer,
                kind="expiry",
                points=gone - posting.points,
                at=posting.expires_at,
                posted_at=now,
                order_id=posting.order_id,
            )
