"""Everything that is known of one customer, as plain JSON: what a request for one's data is answered with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from channels.addresses import address_macs
from channels.message import CHANNELS
from flows.steps.show_features import values_of
from warehouse.facts.contacts import customer_rows, look_up_contacts
from warehouse.facts.errors import FactsError
from warehouse.ledger.address_suppressions import address_suppressions_of
from warehouse.ledger.addressees import keys_of_customer
from warehouse.ledger.audit import record_audit
from warehouse.ledger.history import personal_rows

if TYPE_CHECKING:
    from flows.wiring import Workspace


def export_customer(ws: Workspace, customer_id: str, *, by: str, at: datetime) -> dict[str, Any]:
    """The customer's rows of the facts, features as of `at`, and every row of the ledger; the export is audited.

    It holds addresses. Raises FactsError where the facts cannot be read.
    """
    ws.facts.refresh()
    facts = {table: _plain_rows(rows) for table, rows in customer_rows(ws.facts, customer_id).items()}
    contact = look_up_contacts(ws.facts, [customer_id]).get(customer_id)
    macs = [
        mac
        for channel in CHANNELS
        if contact is not None
        for mac in address_macs(ws.mac_keys, channel, contact.address(channel) or "", country=contact.country)
    ]
    with ws.ledger.begin() as tx:
        detail = {"rows": sum(len(rows) for rows in facts.values())}
        record_audit(tx, at=at, actor=by, action="export", subject=customer_id, detail=detail)
        ledger = {table: _plain_rows(rows) for table, rows in _ledger_rows(tx, customer_id).items()}
        ledger["address_suppressions"] = _plain_rows(address_suppressions_of(tx, macs))
    return {
        "customer_id": customer_id,
        "exported_at": at.isoformat(),
        "exported_by": by,
        "facts": facts,
        "features": _features(ws, customer_id, at),
        "ledger": ledger,
    }


def _ledger_rows(tx: Any, customer_id: str) -> dict[str, list[Mapping[str, Any]]]:
    return personal_rows(tx, customer_id, keys_of_customer(tx, customer_id))


def _features(ws: Workspace, customer_id: str, at: datetime) -> dict[str, Any]:
    try:
        return {name: _plain(value) for name, value in values_of(ws, customer_id, as_of=at).items()}
    except FactsError:
        return {}  # no such customer as of then


def _plain_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float) and value != value:
        return None
    return value.item() if hasattr(value, "item") else value
