"""The codes a run gives out: is there enough of each pool, whose is which, and what a message shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns.errors import CampaignError
from campaigns.offer_terms import PoolCode
from campaigns.offers import Offer, find_promise, offer_code, pools_of, promises_of
from warehouse.ledger.code_pools import Stock, own_codes, reserve_codes, stock, usable
from warehouse.ledger.promises import Promised, record_promises

if TYPE_CHECKING:
    import pandas as pd

    from campaigns.book import CampaignFile
    from flows.steps.ledger_standing import Epoch
    from flows.steps.plan_campaign import PlannedCampaign
    from flows.wiring import Workspace
    from warehouse.ledger.outbox import ClaimedMessage

    Opening = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class CodeNeed:
    """What a run needs of one pool: codes for these customers that hold until its last message may leave."""

    pool: str
    customers: tuple[str, ...]
    until: datetime


def code_needs(file: CampaignFile, messages: pd.DataFrame) -> list[CodeNeed]:
    """What the messages of a plan need of each pool that its offers draw on."""
    pools = {
        promise.name: promise.terms.code.pool
        for promise in _promises(file).values()
        if isinstance(promise.terms.code, PoolCode)
    }
    if not pools:
        return []
    drawing = messages.assign(pool=messages["offer"].map(pools)).dropna(subset=["pool"])
    return [
        CodeNeed(str(pool), tuple(sorted(set(group["customer_id"]))), group["not_before"].max().to_pydatetime())
        for pool, group in drawing.groupby("pool", sort=True)
    ]


def describe_codes(
    ws: Workspace, file: CampaignFile, messages: pd.DataFrame, epoch: Epoch, *, as_of: datetime
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """What a plan says of its pools, and what there is to warn of: pool -> needed, free; warnings in words."""
    needs = {need.pool: need for need in code_needs(file, messages)}
    shown, warnings = {}, []
    with ws.ledger.read() as tx:
        for pool in sorted(pools_of(file.offers.values())):
            need = needs.get(pool)
            owned = own_codes(tx, epoch.experiment_id, need.customers) if need else {}
            needed = len(need.customers) - len(owned) if need else 0
            free = usable(tx, pool, until=need.until if need else as_of)
            shown[pool] = {"needed": needed, "free": free}
            warnings += _warn_of_stock(pool, needed, free)
    return shown, warnings


def _warn_of_stock(pool: str, needed: int, free: int) -> list[str]:
    if needed > free:
        return [
            f"pool {pool} has {free:,} codes that hold long enough, this run needs {needed:,}: it cannot be applied; "
            f"bring more in: retain codes import {pool} FILE"
        ]
    if needed and free - needed < needed:
        return [f"pool {pool} runs low: {free - needed:,} codes are left after this run, which takes {needed:,}"]
    return []


def refuse_low_stock(ws: Workspace, planned: PlannedCampaign) -> None:
    """Raise CampaignError where a pool has too few codes for the plan: before anything of it is recorded."""
    shown, warnings = describe_codes(ws, planned.file, planned.plan.messages, planned.epoch, as_of=planned.as_of)
    if any(counts["needed"] > counts["free"] for counts in shown.values()):
        raise CampaignError(f"{planned.file.path}: {'; '.join(warnings)}; nothing was recorded")


def open_offers(planned: PlannedCampaign) -> Opening:
    """What is done in the transaction that opens the run: its discounts are held against the budget, codes reserved.

    Raises (when called) OverBudgetError and StockError; nothing of the run is recorded then.
    """
    file, epoch = planned.file, planned.epoch
    limit = file.campaign.budget.discounts
    rows = [
        Promised(str(arm), str(offer), int(customers), round(float(cost) * 1_000_000))
        for arm, offer, customers, cost in planned.plan.promised[["arm", "offer", "customers", "cost"]].itertuples(
            index=False
        )
    ]
    needs = code_needs(file, planned.plan.messages)

    def act(tx: Any) -> None:
        record_promises(
            tx,
            file.campaign.name,
            planned.wave_id,
            rows,
            limit_micros=None if limit is None else round(limit.amount * 1_000_000),
        )
        if needs:
            reserve_codes(
                tx,
                epoch.experiment_id,
                {need.pool: need.customers for need in needs},
                at=planned.as_of,
                until={need.pool: need.until for need in needs},
            )

    return act


def with_codes(ws: Workspace, planned: PlannedCampaign) -> pd.DataFrame:
    """The plan's messages with the code that each shows: every step of one customer shows the same.

    A message leaves no later than its code holds. Codes of pools must have been reserved.
    """
    messages, promises = planned.plan.messages, _promises(planned.file)
    experiment_id = planned.epoch.experiment_id
    needs = code_needs(planned.file, messages)
    with ws.ledger.read() as tx:
        owned = own_codes(tx, experiment_id, [customer for need in needs for customer in need.customers])
    codes: list[str | None] = []
    ends: list[datetime | None] = []
    for customer, name in zip(messages["customer_id"], messages["offer"], strict=True):
        offer = promises.get(name)
        if offer is not None and isinstance(offer.terms.code, PoolCode):
            codes.append(owned[customer].code)
            ends.append(owned[customer].expires_at)
            continue
        made = offer and offer_code(offer, secret=ws.secret, experiment_id=experiment_id, customer_id=customer)
        codes.append(made or None)
        ends.append(None)
    return _bounded(messages.assign(code=np.asarray(codes, dtype=object)), ends)


def _bounded(messages: pd.DataFrame, ends: list[datetime | None]) -> pd.DataFrame:
    """The messages, none of which outlives its code."""
    import pandas as pd

    if not any(ends):
        return messages
    latest = pd.Series(ends, index=messages.index, dtype="datetime64[us, UTC]")
    return messages.assign(
        **{
            name: messages[name].where(latest.isna() | (messages[name] <= latest), latest)
            for name in ("closes_at", "expires_at")
        }
    )


def code_ends(
    ws: Workspace, claimed: Sequence[ClaimedMessage], files: Mapping[str, CampaignFile]
) -> dict[str, datetime]:
    """When the codes of these messages end, by message key; only those of pools have an end of their own."""
    drawing: dict[str, list[ClaimedMessage]] = {}
    for message in claimed:
        offer = find_promise(files[message.campaign].offers, message.offer)
        if offer is not None and isinstance(offer.terms.code, PoolCode):
            drawing.setdefault(message.experiment_id, []).append(message)
    ends = {}
    for experiment_id, messages in drawing.items():
        with ws.ledger.read() as tx:
            owned = own_codes(tx, experiment_id, [message.customer_id for message in messages])
        for message in messages:
            own = owned.get(message.customer_id)
            if own is not None and own.expires_at is not None:
                ends[message.message_key] = own.expires_at
    return ends


def show_pools(ws: Workspace, *, at: datetime) -> list[dict[str, Any]]:
    """Every pool that was imported or that an offer draws on: its stock, and whether it is low."""
    named = pools_of(ws.usable_book[0].offers.values())
    with ws.ledger.read() as tx:
        known = {row.pool: row for row in stock(tx, at=at)}
    rows = [known.get(pool, Stock(pool, 0, 0, 0)) for pool in sorted({*known, *named})]
    return [
        {
            "pool": row.pool,
            "free": row.free,
            "reserved": row.reserved,
            "expired": row.expired,
            "low": row.pool in named and row.is_low,
        }
        for row in rows
    ]


def _promises(file: CampaignFile) -> Mapping[str, Offer]:
    return {promise.name: promise for offer in file.offers.values() for promise in promises_of(offer)}
