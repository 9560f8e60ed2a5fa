"""Receives what providers and customers say later: receipts into the ledger, STOP into the suppressions."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from channels.message import Address
from channels.opt_out_words import Wish
from channels.receipts import Inbound, Receipt
from flows.steps.guard_reputation import pause_harmful
from warehouse.facts.errors import FactsError
from warehouse.ledger.addressees import customers_of_messages
from warehouse.ledger.audit import audit_log, record_audit
from warehouse.ledger.engagement import ENGAGED
from warehouse.ledger.outbox import Settlement, settle
from warehouse.ledger.reputation import Kind, count_troubles
from warehouse.ledger.suppressions import Suppression, release_suppression, suppress, suppress_many

if TYPE_CHECKING:
    from flows.settings import Company
    from flows.wiring import Workspace

BATCH: Final = 1_000
_TROUBLES: Final[Mapping[str, Kind]] = {"bounce": "bounce", "complaint": "complaint"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """What came in: `applied` changed a message's state, `known` did not (repeated, or overtaken by better news).

    `unknown` names no message of this ledger; `suppressed` are customers who must not be written to from now on.
    """

    applied: int = 0
    known: int = 0
    unknown: int = 0
    suppressed: int = 0

    def __add__(self, other: Received) -> Received:
        """Both together."""
        return Received(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answered:
    """What an inbound SMS led to: its wish, how many customers have its number, and the words to answer with."""

    wish: Wish | None
    customers: int
    changed: int
    reply: str | None


def receive_receipts(ws: Workspace, receipts: Iterable[Receipt], *, now: datetime) -> Received:
    """Record receipts, in any order and as often as they come: the messages and suppressions end the same."""
    everything = list(receipts)
    total = Received()
    for start in range(0, len(everything), BATCH):
        total += _receive_batch(ws, everything[start : start + BATCH], now)
    return total


def receive_inbound(ws: Workspace, inbound: Inbound, *, now: datetime) -> Answered:
    """Do what an SMS of a customer asks for, once per message; the number is looked up in the facts and forgotten.

    Raises FactsError where the facts cannot be asked: whoever sent it should send it again.
    """
    reply = None
    if inbound.wish == "help" and not inbound.is_answered:
        reply = help_text(ws.settings.company)
    if inbound.wish not in ("stop", "start"):
        return Answered(inbound.wish, 0, 0, reply)
    customers = customers_with_phone(ws, inbound.sender)
    if not customers:
        _log.warning("%s from a number no customer has (note %s)", inbound.wish, _note(ws, inbound.sender))
    changed = sum(_obey(ws, customer, inbound.wish, inbound.event_key, now) for customer in customers)
    return Answered(inbound.wish, len(customers), changed, reply)


def help_text(company: Company) -> str:
    """The answer to HELP: who writes, where to ask, how to stop."""
    return f"{company.name}: {company.website} . Reply STOP to end these messages."


def customers_with_phone(ws: Workspace, number: Address) -> list[str]:
    """The customers whose phone is this number now, sorted. Raises FactsError without the number in it."""
    customers = ws.facts.tables.customers
    query = customers.select().with_only_columns(customers.c.customer_id).where(customers.c.phone == number.value)
    try:
        ws.facts.refresh()
        return sorted(str(customer) for customer in ws.facts.frame(query)["customer_id"])
    except FactsError:
        raise FactsError("the facts cannot be asked whose number an inbound SMS came from; try again later") from None


def _receive_batch(ws: Workspace, receipts: Sequence[Receipt], now: datetime) -> Received:
    keys = {receipt.message_key for receipt in receipts if receipt.message_key is not None}
    with ws.ledger.read() as tx:
        customers = customers_of_messages(tx, sorted(keys))
    ours = [receipt for receipt in receipts if receipt.message_key in customers]
    wishes = [
        Suppression(customers[receipt.message_key or ""], receipt.channel, receipt.suppress, receipt.provider, now)
        for receipt in ours
        if receipt.suppress is not None
    ]
    # first, so that a crash in between leaves receipts that come again and not a wish that was lost
    suppressed = suppress_many(ws.ledger, wishes) if wishes else 0
    troubles = [
        (receipt.message_key or "", kind) for receipt in ours if (kind := _TROUBLES.get(receipt.suppress or ""))
    ]
    if count_troubles(ws.ledger, troubles, at=now):
        pause_harmful(ws, now=now)
    settled = settle(ws.ledger, [_settlement(receipt) for receipt in ours], now) if ours else None
    applied = 0 if settled is None else settled.applied
    return Received(applied, len(ours) - applied, len(receipts) - len(ours), suppressed)


def _settlement(receipt: Receipt) -> Settlement:
    return Settlement(
        message_key=receipt.message_key or "",
        state=receipt.state,
        reason=receipt.reason,
        provider=receipt.provider,
        provider_id=receipt.provider_id,
        provider_code=receipt.code,
        event_key=receipt.event_key,
        at=receipt.at,
        event=receipt.event if receipt.event in ENGAGED else None,
    )


def _obey(ws: Workspace, customer_id: str, wish: Literal["stop", "start"], event_key: str, now: datetime) -> bool:
    """Suppress or release a customer's SMS, unless this very message was obeyed before: it may come again later."""
    with ws.ledger.read() as tx:
        lines = audit_log(tx, subject=customer_id)
    if any(line.detail.get("event") == event_key for line in lines):
        return False
    if wish == "stop":
        changed = suppress(ws.ledger, customer_id, "sms", "stop", "inbound SMS", now)
    else:
        changed = bool(release_suppression(ws.ledger, customer_id, "sms", source="inbound SMS", at=now, reason="stop"))
    with ws.ledger.begin() as tx:
        detail = {"channel": "sms", "event": event_key, "changed": changed}
        record_audit(tx, at=now, actor="inbound SMS", action=wish, subject=customer_id, detail=detail)
    return changed


def _note(ws: Workspace, number: Address) -> str:
    """A name for a number that only the holder of our key could link to it."""
    return hmac.new(ws.secret.encode(), f"phone.{number.value}".encode(), hashlib.sha256).hexdigest()[:16]
