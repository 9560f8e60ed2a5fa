"""Receives what providers and customers say later: receipts into the ledger, STOP into the suppressions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from channels.message import Address
from channels.opt_out_words import Wish
from channels.receipts import Inbound, Receipt, State, SuppressReason
from flows.steps.guard_reputation import pause_harmful
from flows.steps.kept_addresses import Why, keep_out, suppress_addresses_of
from warehouse.facts.errors import FactsError
from warehouse.ledger.address_suppressions import release_addresses, suppress_addresses
from warehouse.ledger.addressees import customers_of_messages
from warehouse.ledger.audit import audit_log, record_audit
from warehouse.ledger.deliveries import messages_with_ids
from warehouse.ledger.early_receipts import (
    KEPT,
    EarlyReceipt,
    awaits_answers,
    early_receipts,
    forget_early,
    keep_early,
)
from warehouse.ledger.engagement import ENGAGED
from warehouse.ledger.exits import conditionals_of, is_awaited, record_exits
from warehouse.ledger.outbox import Settlement, settle
from warehouse.ledger.reputation import Kind, count_troubles
from warehouse.ledger.suppressions import Suppression, release_suppression, suppress, suppress_many

if TYPE_CHECKING:
    from flows.settings import Company
    from flows.wiring import Workspace

BATCH: Final = 1_000
REPLIED: Final = "replied"
"""The signal of a customer who answered by SMS."""
SOURCE: Final = "inbound SMS"
_TROUBLES: Final[Mapping[str, Kind]] = {"bounce": "bounce", "complaint": "complaint"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """What came in: `applied` changed a message's state, `known` did not (repeated, or overtaken by better news).

    `unknown` names no message of this ledger, or none yet (`receive_early`); `suppressed` are customers who must not be
    written to from now on.
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


def receive_early(ws: Workspace, *, now: datetime) -> Received:
    """Record the receipts that came before their message's id did, as far as it is known now; drop what is too old.

    Twilio's callbacks come once, and a callback set at a Messaging Service bears no key of ours: told while our own
    answer is still under way, it would be lost.
    """
    with ws.ledger.read() as tx:
        kept = early_receipts(tx)
    if not kept:
        return Received()
    found = [receipt for receipt in _with_keys(ws, map(_late, kept))[0] if receipt.message_key is not None]
    received = _receive_batch(ws, found, now) if found else Received()
    # after the record: a crash in between leaves receipts that are known when they are taken up again
    forget_early(ws.ledger, [receipt.event_key for receipt in found], before=now - KEPT)
    return received


def receive_inbound(ws: Workspace, inbound: Inbound, *, now: datetime) -> Answered:
    """Do what an SMS of a customer asks for, once per message; the number is looked up in the facts and forgotten.

    Any other text is a reply: it ends the journeys that wait for one, whatever it says.
    Raises FactsError where the facts cannot be asked: whoever sent it should send it again.
    """
    reply = None
    if inbound.wish == "help" and not inbound.is_answered:
        reply = help_text(ws.settings.company)
    if inbound.wish is None:
        return _hear(ws, inbound.sender, now)
    if inbound.wish not in ("stop", "start"):
        return Answered(inbound.wish, 0, 0, reply)
    _obey_address(ws, inbound.sender, inbound.wish, inbound.event_key, now)  # holds whoever has the number, or gets it
    customers = customers_with_phone(ws, inbound.sender)
    if not customers:
        _log.warning("%s from a number no customer has; the number is kept as an HMAC", inbound.wish)
    changed = sum(_obey(ws, customer, inbound.wish, inbound.event_key, now) for customer in customers)
    return Answered(inbound.wish, len(customers), changed, reply)


def _hear(ws: Workspace, sender: Address, now: datetime) -> Answered:
    """Note a customer's answer where messages are to be left out for those who replied, for all who were written to."""
    with ws.ledger.read() as tx:
        if not is_awaited(tx, REPLIED):
            return Answered(None, 0, 0, None)
    customers = customers_with_phone(ws, sender)
    with ws.ledger.read() as tx:
        heard = conditionals_of(tx, customers, REPLIED, written_by="sms")
    changed = sum(
        record_exits(ws.ledger, experiment_id, members, reason=REPLIED, at=now)
        for experiment_id, members in sorted(heard.items())
    )
    return Answered(None, len(customers), changed, None)


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


def _with_keys(ws: Workspace, receipts: Iterable[Receipt]) -> tuple[list[Receipt], bool]:
    """The receipts with our keys, those included that name their message by the provider's id alone.

    Also whether those without one may have come before their message's id did.
    """
    told = list(receipts)
    ids: dict[str, set[str]] = {}
    for receipt in told:
        if receipt.message_key is None and receipt.provider_id is not None and receipt.channel == "sms":
            ids.setdefault(receipt.provider, set()).add(receipt.provider_id)
    if not ids:
        return told, False
    with ws.ledger.read() as tx:
        may_be_early = awaits_answers(tx)  # asked first: an answer that comes in between is seen by the next question
        known = {provider: messages_with_ids(tx, provider, wanted) for provider, wanted in ids.items()}
    keys = [r.message_key or known.get(r.provider, {}).get(r.provider_id or "") for r in told]
    return [replace(receipt, message_key=key) for receipt, key in zip(told, keys, strict=True)], may_be_early


def _early(receipt: Receipt, now: datetime) -> EarlyReceipt | None:
    """What is kept of a receipt that names no message yet; nothing where our own answer will tell as much."""
    if receipt.message_key is not None or receipt.provider_id is None or receipt.channel != "sms":
        return None
    if receipt.state == "sent":
        return None
    told = (receipt.event, receipt.state, receipt.reason, receipt.code, receipt.suppress)
    return EarlyReceipt(receipt.event_key, receipt.provider, receipt.provider_id, *told, receipt.at or now)


def _late(kept: EarlyReceipt) -> Receipt:
    return Receipt(
        provider=kept.provider,
        channel="sms",
        event=kept.event,
        event_key=kept.event_key,
        state=cast(State, kept.state),
        provider_id=kept.provider_id,
        reason=kept.reason,
        code=kept.code,
        at=kept.at,
        suppress=cast("SuppressReason | None", kept.suppress),
    )


def _receive_batch(ws: Workspace, receipts: Sequence[Receipt], now: datetime) -> Received:
    receipts, may_be_early = _with_keys(ws, receipts)
    if may_be_early:
        keep_early(ws.ledger, [kept for receipt in receipts if (kept := _early(receipt, now)) is not None])
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
    _keep_addresses_out(ws, receipts, customers, now)
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
    if _is_obeyed(ws, customer_id, event_key):
        return False
    scope = "all" if ws.settings.policy.opt_out_scope == "all" else "sms"
    if wish == "stop":
        changed = suppress(ws.ledger, customer_id, scope, "stop", SOURCE, now)
    else:  # only what a STOP did, under whatever setting it was done
        released = [
            release_suppression(ws.ledger, customer_id, each, source=SOURCE, at=now, reason="stop")
            for each in ("sms", "all")
        ]
        changed = any(released)
    _note_obeyed(ws, customer_id, wish, {"channel": scope, "event": event_key, "changed": changed}, now)
    return changed


def _obey_address(
    ws: Workspace, number: Address, wish: Literal["stop", "start"], event_key: str, now: datetime
) -> None:
    """Keep a number out, or let it in again, whether some customer has it or not; known by its HMAC only."""
    kept = keep_out(ws, number, Why("stop", SOURCE, now))
    if kept is None:
        return
    subject = f"address {kept.macs[0]}"
    if _is_obeyed(ws, subject, event_key):
        return
    if wish == "stop":
        changed = suppress_addresses(ws.ledger, [kept])
    else:
        changed = release_addresses(ws.ledger, kept.macs, channel="sms", source=SOURCE, at=now, reason="stop")
    _note_obeyed(ws, subject, wish, {"channel": "sms", "event": event_key, "changed": bool(changed)}, now)


def _is_obeyed(ws: Workspace, subject: str, event_key: str) -> bool:
    """Whether this very message was obeyed before: providers send it again."""
    with ws.ledger.read() as tx:
        return any(line.detail.get("event") == event_key for line in audit_log(tx, subject=subject))


def _note_obeyed(ws: Workspace, subject: str, wish: str, detail: Mapping[str, Any], now: datetime) -> None:
    with ws.ledger.begin() as tx:
        record_audit(tx, at=now, actor=SOURCE, action=wish, subject=subject, detail=detail)


def _keep_addresses_out(
    ws: Workspace, receipts: Sequence[Receipt], customers: Mapping[str, str], now: datetime
) -> None:
    """Keep out the addresses that receipts speak of: the one they name, else the one the customer has now."""
    named, unnamed = [], []
    for receipt in receipts:
        if receipt.suppress is None:
            continue
        if receipt.address is not None:
            named.append(keep_out(ws, receipt.address, Why(receipt.suppress, receipt.provider, now)))
        elif customer := customers.get(receipt.message_key or ""):
            unnamed.append(Suppression(customer, receipt.channel, receipt.suppress, receipt.provider, now))
    suppress_addresses(ws.ledger, [wish for wish in named if wish is not None])
    suppress_addresses_of(ws, unnamed)
